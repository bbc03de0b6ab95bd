"""Ctrl-C and ``docker compose stop``: every service ends at once, quietly, and leaves nothing half-done."""

import subprocess
import time
from pathlib import Path

import pytest
from containers import Workshop, soon


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``docker`` and return what it printed, on both streams."""
    return subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )


def end(workshop: Workshop, service: str, moment: str, signal: str) -> tuple[int, str]:
    """Start a service, send it a signal when its log has `moment`; return its exit status and its log."""
    name = f"{workshop.project}-{service}-ends"
    workshop.compose("run", "--detach", "--name", name, service)
    try:
        assert soon(lambda: moment in docker("logs", name).stdout), docker("logs", name).stdout
        started = time.monotonic()
        docker("kill", "--signal", signal, name)
        status = int(docker("wait", name).stdout)
        assert time.monotonic() - started < 10
        return status, docker("logs", name).stdout
    finally:
        docker("rm", "--force", name)


def results(workshop: Workshop) -> set[Path]:
    """Return the files in the work folder, the data aside."""
    files = {path for path in (workshop.folder / "work").rglob("*") if path.is_file()}
    return {file for file in files if "data" not in file.parts}


@pytest.mark.parametrize(("signal", "status"), [("INT", 130), ("TERM", 143)])
def test_the_demo_ends_without_traceback_and_without_half_a_page(workshop, signal, status):
    before = results(workshop)
    ended, log = end(workshop, "demo", "What to work on", signal)
    assert ended == status
    assert "Traceback" not in log
    assert ("Aborted!" in log) == (signal == "INT")
    assert results(workshop) <= before
    data = (workshop.folder / "work" / "data").rglob("*")
    # A lock stays, since whoever takes it away takes it from the one who waits for it.
    unfinished = [path for path in data if path.name.startswith(".unfinished-") or "tmp" in path.name]
    assert unfinished == []


def test_jupyterlab_ends_at_ctrl_c(workshop):
    status, log = end(workshop, "jupyter", "Stop it with Ctrl+C", "INT")
    assert status == 0
    assert "Traceback" not in log


@pytest.mark.parametrize("seconds", [0.2, 1, 2])
def test_stop_is_heard_while_jupyterlab_starts(workshop, seconds):
    workshop.compose("up", "--detach")
    time.sleep(seconds)
    started = time.monotonic()
    workshop.compose("stop", "jupyter")
    assert time.monotonic() - started < 5
    assert workshop.container().State.ExitCode in (0, 143)
    assert "Traceback" not in workshop.log()
    workshop.compose("down")


def test_the_tests_end_at_stop(workshop):
    workshop.compose("build", "test", timeout=600)
    status, log = end(workshop, "test", "test session starts", "TERM")
    assert status == 143
    assert "Traceback" not in log
