"""What runs away in a notebook stops at the container's limits, and the workshop can still be stopped."""

import time
from collections.abc import Iterator

import pytest
from containers import Workshop, soon

PROCESSES = 150
MEMORY = 600  # MB

# Every process makes processes until there may be no more, goes on trying, and is deaf to what would end it.
FORK_BOMB = """
import subprocess, sys
bomb = '''
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.5)
'''
process = subprocess.Popen([sys.executable, "-I", "-S", "-c", bomb])
open("/work/bomb", "w").close()
process.wait()
"""

MEMORY_HOG = """
import os
with open("/work/new", "w") as file:
    print(os.getpid(), file=file)
os.rename("/work/new", "/work/hog")
hoard = []
while True:
    hoard.append(b"x" * 10_000_000)
"""


@pytest.fixture(scope="module")
def url(workshop: Workshop) -> Iterator[str]:
    """Start the container with small limits and yield the address that it printed."""
    yield workshop.up(JUPYTER_PROCESSES=str(PROCESSES), JUPYTER_MEMORY=f"{MEMORY}m")
    workshop.compose("down", "--timeout", "5")


def test_every_service_has_limits_that_a_laptop_survives(workshop):
    for service in workshop.config("gpu", "demo", "test")["services"].values():
        assert int(service["mem_limit"]) == int(service["memswap_limit"]) == 8 * 2**30
        assert 500 <= int(service["pids_limit"]) <= 5000
        assert service["ulimits"].keys() == {"core"}


def test_limits_of_ones_own_are_the_containers(workshop, url):
    limits = workshop.container().HostConfig
    assert limits.PidsLimit == PROCESSES
    assert limits.Memory == limits.MemorySwap == MEMORY * 2**20
    assert [(limit.Name, limit.Hard, limit.Soft) for limit in limits.Ulimits] == [("core", 0, 0)]


def test_memory_that_runs_out_ends_the_kernel_and_not_the_workshop(workshop, url):
    hog = workshop.folder / "work" / "hog"
    kernel = workshop.execute(url, MEMORY_HOG, hog)
    process = f"/proc/{hog.read_text().strip()}"
    assert soon(lambda: workshop.inside("test", "-e", process).returncode == 1), "the hog was not stopped"
    assert workshop.api(url, "GET", "status").ok
    assert workshop.container().State.Status == "running"
    workshop.api(url, "DELETE", f"kernels/{kernel}").raise_for_status()


def test_processes_without_end_end_with_the_container(workshop, url):
    workshop.execute(url, FORK_BOMB, workshop.folder / "work" / "bomb")
    assert soon(lambda: processes(workshop) >= PROCESSES / 2), "the bomb did not go off"
    assert processes(workshop) <= PROCESSES
    assert workshop.api(url, "GET", "status").ok
    started = time.monotonic()
    workshop.compose("stop", "jupyter")
    assert time.monotonic() - started < 15  # with Docker's kill after ten seconds, should it come to that
    assert workshop.container().State.Status == "exited"


def processes(workshop: Workshop) -> int:
    """Return how many processes the container has, as the host counts them."""
    return len(workshop.compose("top", "jupyter").stdout.splitlines()) - 2
