"""A package index with a password: the image is built with it, and nobody finds the password in the image."""

import base64
import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from containers import Workshop
from pip._internal.models.index import PyPI

USER, PASSWORD = "reader", "correct-horse-battery"
CREDENTIALS = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

# An environment of nothing but the library itself, whose optional packages nobody asks for; with a line that
# the build's cache does not know.
LOCK = {
    "_meta": {"hash": {"sha256": ""}, "pipfile-spec": 6, "requires": {}, "sources": []},
    "default": {"anomaly-lib": {"editable": True, "path": "."}},
    "develop": {},
}
PIPFILE = f'# {uuid.uuid4()}\n[packages]\nanomaly_lib = {{path = ".", editable = true}}\n'
OPTIONAL = "[project.optional-dependencies]\n"
EXTRA = 'an-extra = ["no-such-package-anywhere"]\n'


class Index(BaseHTTPRequestHandler):
    """Sends whoever knows the password on to the index that this machine uses."""

    upstream = (os.environ.get("PIP_INDEX_URL") or PyPI.simple_url).rstrip("/")
    served: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        """Answer with the place of a page, or ask for the password."""
        known = self.headers.get("Authorization") == CREDENTIALS
        if known:
            self.served.append(self.path)
        self.send_response(302 if known else 401)
        if known:
            self.send_header("Location", self.upstream + self.path.removeprefix("/simple"))
        else:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """Yield the address of an index that asks for a password, with the password."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.fixture(scope="module")
def built(
    workshop: Workshop, index: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Build the image with that index, from `.env`, and yield its name and what the build printed."""
    folder = tmp_path_factory.mktemp("index")
    for name in ("Dockerfile", "docker-compose.yaml", "pyproject.toml", "LICENSE", ".dockerignore"):
        shutil.copy2(workshop.folder / name, folder)
    for name in ("docker", "anomaly_lib", "notebooks"):
        shutil.copytree(workshop.folder / name, folder / name)
    (folder / "Pipfile").write_text(PIPFILE)
    (folder / "Pipfile.lock").write_text(json.dumps(LOCK))
    package = (folder / "pyproject.toml").read_text()
    assert package.count(OPTIONAL) == 1
    (folder / "pyproject.toml").write_text(package.replace(OPTIONAL, OPTIONAL + EXTRA))
    (folder / ".env").write_text(f"PIP_INDEX_URL={index}\n")
    # pip takes an index without TLS from this machine only.
    (folder / "override.yaml").write_text("services: {jupyter: {build: {network: host}}}")
    files = ("--file", "docker-compose.yaml", "--file", "override.yaml")
    small = Workshop(folder, f"{workshop.project}-index")
    build = small.compose(*files, "--progress", "plain", "build", "jupyter", timeout=300)
    yield f"{small.project}-workshop", build.stdout + build.stderr
    small.down()


def docker(*arguments: str) -> str:
    """Run ``docker`` and return what it printed."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


def test_packages_come_from_the_index(built):
    assert [path for path in Index.served if path.startswith("/simple/pipenv/")]
    assert [path for path in Index.served if path.startswith("/simple/setuptools/")]


def test_the_image_has_the_library_without_its_optional_packages(built):
    image, _ = built
    found = docker("run", "--rm", "--entrypoint", "pip", image, "show", "anomaly_lib")
    assert "Editable project location: /opt/anomaly" in found


def test_the_password_is_in_no_history_configuration_or_log(built):
    image, log = built
    history = docker("history", "--no-trunc", "--format", "{{json .}}", image)
    assert "sync.sh" in history
    for text in (history, docker("image", "inspect", image), log):
        assert PASSWORD not in text
        assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() not in text


def test_the_password_is_in_no_file_of_the_image(built, tmp_path: Path):
    image, _ = built
    command = ["docker", "run", "--rm", "--user", "0", "--entrypoint", "grep", image]
    folders = ["--recursive", "--files-with-matches", "--exclude-dir=proc", "--exclude-dir=sys", "-F"]
    found = subprocess.run([*command, *folders, PASSWORD, "/"], capture_output=True, text=True)
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout == ""
