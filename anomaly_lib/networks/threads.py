"""Threads that leave the cores to other programs while they wait.

torch divides each operation among OpenMP threads, which wait for each other at its end. GNU's OpenMP library,
libgomp, has them wait in a loop for up to ten milliseconds before they sleep (they spin). On free cores that
saves the time of waking up. Where two programs want the same cores, each spins away the time in which the
other could work, and both take ten times as long.

So importing `anomaly_lib` limits spinning to what saves time, and computing under `considerate` does without
it while other programs use the cores. Neither changes the number of threads: fp32 products differ in their
last digits with it, and a coreset in its rows, but a seed shall give the same model whatever else the machine
does.
"""

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anomaly_lib.progress import Progress

# Turns of the loop, 0.1 ms in all. A fit alone takes no less time with more, and a seventh more with none.
_TURNS = "3000"
# Cores that other programs use before threads sleep, on average over at least so many seconds.
_CORES, _INTERVAL = 0.25, 0.2

_MAPS, _STAT = Path("/proc/self/maps"), Path("/proc/stat")


def limit_spinning() -> None:
    """Limit how long threads spin, unless the user has set it, or it is too late: torch has been imported."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)


@contextmanager
def considerate(progress: Progress) -> Iterator[Progress]:
    """Let threads sleep while they wait, as long as other programs use the cores.

    Yields the callback to report progress to instead: each report looks how much others have used since the
    last one. At first threads sleep. It may be entered from several threads at once, and again within.

    Nothing is done where the user has set OMP_WAIT_POLICY or GOMP_SPINCOUNT, where operations run on a single
    thread, and without ``/proc`` or libgomp, as on macOS and Windows.
    """
    libraries = _spinning_libraries()
    if not libraries:
        yield progress
        return
    waits, last = _Waits(libraries), _use_now()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last.clock >= _INTERVAL:
            before, last = last, _use_now()
            if _others(before, last) >= _CORES:
                waits.sleep()
            else:
                waits.spin()
        progress(stage, done, total)

    try:
        waits.sleep()
        yield report
    finally:
        waits.spin()


class _Use(NamedTuple):
    """Seconds up to now: on the clock, of all cores without work, and of cores at work for this process."""

    clock: float
    idle: float
    own: float


def _use_now() -> _Use:
    fields = _STAT.read_text().split(maxsplit=6)  # "cpu", user, nice, system, idle, iowait, the rest
    idle = (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    return _Use(time.monotonic(), idle, time.process_time())


def _others(before: _Use, after: _Use) -> float:
    """Return how many cores other programs used on average."""
    elapsed, idle, own = (end - start for start, end in zip(before, after, strict=True))
    return (os.cpu_count() or 1) - (idle + own) / elapsed


class _Waits:
    """Whether OpenMP threads sleep while they wait.

    libgomp gives up spinning while a process has more OpenMP threads than there are cores (GOMP_SPINCOUNT in
    its manual). So a thread beside keeps a team of so many, which sleep all the time.
    """

    def __init__(self, libraries: list[ctypes.CDLL]) -> None:
        self._libraries = libraries
        self._beside: ThreadPoolExecutor | None = None

    def sleep(self) -> None:
        if self._beside is None:
            self._beside = ThreadPoolExecutor(1, thread_name_prefix="idle")
            for library in self._libraries:
                self._beside.submit(_start_idle_team, library).result()

    def spin(self) -> None:
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None


def _start_idle_team(library: ctypes.CDLL) -> None:
    """Start one OpenMP thread more than there are cores; they live as long as the thread that calls this."""
    nothing = ctypes.CDLL(None).free  # of NULL: a function of one pointer that does nothing
    library.GOMP_parallel(nothing, None, library.omp_get_num_procs() + 1, 0)


def _spinning_libraries() -> list[ctypes.CDLL]:
    """Return each libgomp that is loaded: torch has one of its own, as have faiss and scikit-learn."""
    import torch  # not above: `limit_spinning` comes before it

    chosen = "OMP_WAIT_POLICY" in os.environ or os.environ.get("GOMP_SPINCOUNT", _TURNS) != _TURNS
    if chosen or torch.get_num_threads() == 1 or not _MAPS.exists() or not _STAT.exists():
        return []
    mapped = {line.split(maxsplit=5)[-1] for line in _MAPS.read_text().splitlines() if "libgomp" in line}
    files = [file for file in mapped if Path(file).name.startswith("libgomp") and Path(file).exists()]
    return [ctypes.CDLL(file, mode=os.RTLD_NOLOAD) for file in files]
