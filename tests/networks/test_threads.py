"""Threads do not spin beside other programs, whoever imports torch first, and the user has the last word."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_lib.networks import threads
from anomaly_lib.networks.threads import considerate
from anomaly_lib.progress import silent

pytestmark = pytest.mark.skipif(
    os.cpu_count() == 1 or not Path("/proc/stat").exists(), reason="needs two cores and Linux"
)

# Fifty operations on two threads, ten milliseconds apart, that take about 0.03 processor seconds. A thread
# that spins for libgomp's default takes some milliseconds more for each.
PROGRAM = """
import json, os, time
import {first}
import torch
from anomaly_lib.networks import threads
from anomaly_lib.networks.threads import considerate
from anomaly_lib.progress import silent
numbers = torch.rand(400_000)
def spinning():
    numbers.exp()
    start = time.process_time()
    for _ in range(50):
        numbers.exp()
        time.sleep(0.01)
    return time.process_time() - start > 0.16
found = {{"spins": spinning(), "set": os.environ.get("GOMP_SPINCOUNT")}}
threads._others = lambda before, after: others
with considerate(silent) as progress:
    found["at first"] = spinning()
    with considerate(silent):
        pass
    found["after another"] = spinning()
    for others in (0.0, 0.5):
        progress("features", 1, 2)
        found[f"beside {{others}}"] = spinning()
found["after"] = spinning()
print(json.dumps(found))
"""


def run(first: str, **environment: str) -> dict[str, Any]:
    """Return what a program that imports `first` before anything else says of its threads."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAM.format(first=first)]
    done = subprocess.run(command, env=others | environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_threads_spin_only_on_free_cores_where_torch_was_imported_first() -> None:
    assert run("torch") == {
        "spins": True,
        "set": None,
        "at first": False,
        "after another": False,
        "beside 0.0": True,
        "beside 0.5": False,
        "after": True,
    }


@pytest.mark.slow
def test_threads_hardly_spin_where_the_library_was_imported_first() -> None:
    found = run("anomaly_lib")
    assert found.pop("set") == "3000"
    assert not any(found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "setting", "value"),
    [("anomaly_lib", "OMP_WAIT_POLICY", "ACTIVE"), ("torch", "GOMP_SPINCOUNT", "300000")],
)
def test_the_user_can_have_them_spin(first: str, setting: str, value: str) -> None:
    found = run(first, **{setting: value})
    assert found.pop("set") == (value if setting == "GOMP_SPINCOUNT" else None)
    assert all(found.values()), found


def asleep() -> int:
    """Return how often this process has been told that threads sleep while they wait."""
    return sum(thread.name.startswith("idle") for thread in threading.enumerate())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Compute on two threads that nobody has set, and yield what the clock and the cores are to say."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    now = {"clock": 0.0, "idle": 0.0, "own": 0.0}
    monkeypatch.setattr(threads, "_use_now", lambda: threads._Use(**now))
    monkeypatch.setattr(threads.time, "monotonic", lambda: now["clock"])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    torch.set_num_threads(2)
    yield now
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("idle", "own", "sleep"),
    [(0, 4, False), (2, 2, False), (3.9, 0, False), (0, 3.5, True), (1, 1, True), (0, 0, True)],
)
def test_threads_sleep_where_others_used_a_quarter_of_a_core(
    clock: dict[str, float], idle: float, own: float, sleep: bool
) -> None:
    with considerate(silent) as progress:
        assert asleep() == 1
        for seconds in (1.0, 3.0):
            clock.update(clock=seconds, idle=seconds * idle, own=seconds * own)
            progress("features", 1, 2)
            assert asleep() == sleep


def test_each_report_looks_at_the_time_since_the_last_look(clock: dict[str, float]) -> None:
    with considerate(silent) as progress:
        clock.update(clock=1, own=4)
        progress("features", 1, 4)
        assert asleep() == 0
        clock.update(clock=1.1)  # too soon to tell
        progress("features", 2, 4)
        assert asleep() == 0
        clock.update(clock=2, own=6)
        progress("features", 3, 4)
        assert asleep() == 1
        clock.update(clock=3, own=8, idle=2)
        progress("features", 4, 4)
        assert asleep() == 0


def test_reports_reach_the_callback(clock: dict[str, float], recorder: Any) -> None:
    with considerate(recorder) as progress:
        progress("features", 0, 2)
        clock.update(clock=1)
        progress("features", 2, 2)
    assert recorder.calls == [("features", 0, 2), ("features", 2, 2)]


@pytest.mark.usefixtures("clock")
def test_computes_on_as_many_threads_as_before() -> None:
    with considerate(silent):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("clock")
def test_leaves_no_thread_behind_even_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), considerate(silent):
        raise ZeroDivisionError
    assert asleep() == 0


@pytest.mark.usefixtures("clock")
def test_several_threads_enter_and_leave_as_they_like() -> None:
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with considerate(silent):
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    with considerate(silent):
        other.start()
        assert entered.wait(10)
        assert asleep() == 2
    assert asleep() == 1
    leave.set()
    other.join()
    assert asleep() == 0


@pytest.mark.usefixtures("clock")
def test_there_is_nothing_to_do_for_a_single_thread() -> None:
    torch.set_num_threads(1)
    with considerate(silent) as progress:
        assert progress is silent


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["_MAPS", "_STAT"])
def test_there_is_nothing_to_do_without_proc(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(threads, name, tmp_path / "absent")
    with considerate(silent) as progress:
        assert progress is silent


@pytest.mark.usefixtures("clock")
def test_a_library_whose_file_was_replaced_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = f"7f00-7f01 r-xp 00000000 08:01 12   {tmp_path}/a b/libgomp.so.1"
    (tmp_path / "maps").write_text(f"{line} (deleted)\n7f01-7f02 rw-p 00000000 00:00 0\n")
    monkeypatch.setattr(threads, "_MAPS", tmp_path / "maps")
    with considerate(silent) as progress:
        assert progress is silent


def test_the_use_of_cores_is_seconds() -> None:
    before, busy = threads._use_now(), 0
    while time.process_time() < before.own + 0.3:
        busy += 1
    elapsed, idle, own = (end - start for start, end in zip(before, threads._use_now(), strict=True))
    assert 0.3 <= own < 0.4 <= elapsed + 0.1
    assert -0.05 < idle < (os.cpu_count() or 1) * elapsed - own + 0.05
