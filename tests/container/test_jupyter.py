"""The workshop's container, as ``docker compose up`` starts it: found at once, safe, and nothing is lost."""

import time
from urllib.parse import urlsplit

import pytest
import requests
from containers import OWNER, Workshop

BUSY_FOREVER = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("/work/busy", "w").close()
while True:
    pass
"""
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture(scope="module")
def url(workshop: Workshop) -> str:
    """Start the container and return the address that it printed."""
    return workshop.up()


def test_up_waits_until_jupyterlab_answers(workshop, url):
    assert workshop.container().State.Health.Status == "healthy"
    assert workshop.api(url, "GET", "status").ok


def test_log_ends_with_the_address_and_how_to_stop(workshop, url):
    lines = [line.strip() for line in workshop.log().splitlines() if line.strip()]
    assert lines[-2] == url
    assert "docker compose stop" in lines[-1]
    assert workshop.urls() == [url], "one address, not several"
    assert f"127.0.0.1:{workshop.port}/lab/tree/notebooks/workshop.ipynb?token=" in url


def test_the_address_opens_the_workshop(workshop, url):
    page = requests.get(url, timeout=30)
    assert page.ok
    assert "login" not in page.url
    assert "JupyterLab" in page.text
    notebook = workshop.api(url, "GET", "contents/notebooks/workshop.ipynb").json()
    assert notebook["type"] == "notebook"


def test_a_wrong_token_and_none_are_refused(workshop, url):
    wrong = url[:-4] + "0000"
    assert "/login" in requests.get(wrong, timeout=30).url
    assert "/login" in requests.get(url.partition("?")[0], timeout=30).url
    assert workshop.api(wrong, "GET", "contents").status_code == 403
    assert workshop.api(wrong, "POST", "kernels").status_code == 403


def test_the_port_is_open_on_this_machine_only(workshop, url):
    published = workshop.container().NetworkSettings.Ports
    assert [port.HostIp for port in vars(published)["8888/tcp"]] == ["127.0.0.1"]


def test_every_process_is_the_owner_of_work_and_has_no_capability(workshop, url):
    script = "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || cat $p/status; echo; done"
    shown = workshop.inside("sh", "-c", script).stdout.strip().split("\n\n")
    processes = [dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line) for text in shown]
    served = [process for process in processes if process.get("Name") not in (None, "cat")]
    assert {"tini", "jupyter-lab"} <= {process["Name"] for process in served}
    for process in served:
        assert process["Uid"].split() == [str(OWNER[0])] * 4
        assert process["Gid"].split() == [str(OWNER[1])] * 4
        assert process["Groups"].strip() == ""
        assert [int(process[name], 16) for name in CAPABILITIES] == [0] * 5
        assert process["NoNewPrivs"] == "1"


def test_what_is_written_belongs_to_the_owner_of_work(workshop, url):
    note = {"type": "file", "format": "text", "content": "x"}
    for path in ("work/note.txt", "notebooks/note.txt"):
        made = workshop.api(url, "PUT", f"contents/{path}", json=note)
        assert made.status_code == 201
        status = (workshop.folder / path).stat()
        assert (status.st_uid, status.st_gid) == OWNER
    (workshop.folder / "notebooks" / "note.txt").unlink()


def test_the_root_file_system_is_read_only(workshop, url):
    for folder in ("/opt/anomaly", "/opt/venv/bin", "/etc", "/usr/local/bin", "/workshop"):
        refused = workshop.inside("touch", f"{folder}/x")
        assert refused.returncode != 0
        assert "Read-only file system" in refused.stderr
    assert workshop.inside("touch", "/tmp/x").returncode == 0


def test_shared_memory_is_enough_for_data_loaders(workshop, url):
    assert workshop.container().HostConfig.ShmSize >= 2**30


def test_jupyterlab_shows_no_news_and_looks_for_no_updates(workshop, url):
    page = requests.get(url, timeout=30).text
    assert '"news": {"disabled": true}' in page
    settings = workshop.api(url, "GET", "settings/@jupyterlab/apputils-extension:notification")
    assert not settings.ok or '"fetchNews": "false"' in settings.text
    address = urlsplit(url)
    plugin = f"http://{address.netloc}/lab/api/settings/@jupyterlab/apputils-extension:notification?{address.query}"
    schema = requests.get(plugin, timeout=30).json()["schema"]["properties"]
    assert schema["fetchNews"]["default"] == "false"
    assert schema["checkForUpdates"]["default"] is False


def test_widgets_have_their_extension(workshop, url):
    listed = workshop.compose(
        "exec", "--no-TTY", "--user", str(OWNER[0]), "jupyter", "jupyter", "labextension", "list"
    )
    assert "@jupyter-widgets/jupyterlab-manager" in listed.stdout + listed.stderr


def test_stop_ends_a_busy_kernel_and_a_new_start_keeps_everything(workshop, url):
    notebook = workshop.api(url, "GET", "contents/notebooks/workshop.ipynb").json()
    notebook["content"]["metadata"]["edited"] = "yes"
    saved = workshop.api(url, "PUT", "contents/notebooks/workshop.ipynb", json=notebook)
    assert saved.ok
    workshop.execute(url, BUSY_FOREVER, workshop.folder / "work" / "busy")

    started = time.monotonic()
    workshop.compose("stop", "jupyter")
    assert time.monotonic() - started < 10
    assert workshop.container().State.ExitCode == 0, "JupyterLab was killed before it had ended"

    again = workshop.up()
    assert again != url, "a new random token at each start"
    assert (workshop.folder / "work" / "busy").exists()
    kept = workshop.api(again, "GET", "contents/notebooks/workshop.ipynb").json()
    assert kept["content"]["metadata"]["edited"] == "yes"
    workshop.compose("down", "--timeout", "5")
