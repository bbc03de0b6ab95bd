"""A copy of the repository as somebody has it on their machine, and ``docker compose`` in it."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import requests
import websocket

REPOSITORY = Path(__file__).resolve().parents[2]
OWNER = (1234, 2345) if os.getuid() == 0 else (os.getuid(), os.getgid())


class Workshop:
    """A copy of the repository as somebody has it on their machine, and its containers."""

    def __init__(self, folder: Path, project: str) -> None:
        self.folder = folder
        self.project = project
        self.port = _free_port()

    def compose(
        self, *arguments: str, check: bool = True, timeout: float = 420, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose`` there and return what it printed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANOMALY", "JUPYTER"))}
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.folder,
            env={
                **kept,
                "COMPOSE_PROJECT_NAME": self.project,
                "JUPYTER_PORT": str(self.port),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def config(self, *profiles: str, **environment: str) -> dict:
        """Return the compose file as Compose understands it."""
        options = [word for profile in profiles for word in ("--profile", profile)]
        return json.loads(self.compose(*options, "config", "--format", "json", **environment).stdout)

    def up(self, **environment: str) -> str:
        """Start JupyterLab and return the address that it printed."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "120", **environment)
        return self.urls()[-1]

    def log(self) -> str:
        """Return what the container printed so far, as a terminal shows it."""
        log = self.compose("logs", "--no-log-prefix", "--no-color", "jupyter").stdout
        return log.replace("\x1b[2K", "")

    def urls(self) -> list[str]:
        """Return every address that the running container printed so far."""
        return re.findall(r"http://\S+", self.log())

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container of the service ``jupyter``, entry point included."""
        return self.compose("run", "--rm", "--no-TTY", "jupyter", *command, check=False, **environment)

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the running container."""
        return self.compose("exec", "--no-TTY", "jupyter", *command, check=False)

    def container(self) -> SimpleNamespace:
        """Return what the engine knows of the running container."""
        container = self.compose("ps", "--all", "--quiet", "jupyter").stdout.strip()
        shown = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        return json.loads(shown.stdout, object_hook=lambda pairs: SimpleNamespace(**pairs))[0]

    def api(self, url: str, method: str, path: str, **options: object) -> requests.Response:
        """Ask the server's programming interface, with the token of the address `url`."""
        address, _, token = url.partition("?token=")
        root = address.split("/lab")[0]
        headers = {"Authorization": f"token {token}"}
        return requests.request(method, f"{root}/api/{path}", headers=headers, timeout=30, **options)

    def execute(self, url: str, code: str, started: Path) -> str:
        """Start a kernel, have it execute code that makes the file `started`, and return the kernel."""
        started.unlink(missing_ok=True)
        kernel: str = self.api(url, "POST", "kernels", json={"name": "python3"}).json()["id"]
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3", "session": "s"}
        content = {"code": code, "silent": False}
        message = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
        }
        address = urlsplit(url)
        connection = websocket.create_connection(
            f"ws://{address.netloc}/api/kernels/{kernel}/channels?{address.query}", timeout=30
        )
        connection.send(json.dumps(message))
        assert soon(started.exists), "the kernel did not start"
        connection.close()
        return kernel

    def down(self) -> None:
        """Remove the containers and the images' names; the build cache stays for the next time."""
        profiles = ("--profile", "demo", "--profile", "gpu", "--profile", "test")
        self.compose(
            *profiles, "down", "--volumes", "--remove-orphans", "--rmi", "all", "--timeout", "2", check=False
        )


def soon(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until something is so, and return whether it is."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def engine_answers() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def copy_repository(folder: Path) -> None:
    """Copy what git tracks or would track, so neither results nor caches."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def give(folder: Path, owner: tuple[int, int]) -> None:
    """Make `owner` the owner of a folder and all in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *owner)
