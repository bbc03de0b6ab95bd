"""Commands with too little memory: one sentence where they can still speak, and whole files in any case."""

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from process_attacks import Attack, Command, fork, leftovers, require_whole, small_sample

from anomaly_lib.datasets.sample import generate

NAMES = ("gaussian", "patch_core", "patch_svdd", "evaluate", "tables", "sample")
GIGABYTE = 2**30
LATE = (
    "anomaly_lib.runs",
    "anomaly_lib.tables",
    "anomaly_lib.views.plots",
    "matplotlib.backends.backend_agg",
)


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in ("TRAIN", "TEST_GOOD", "TEST_DEFECTIVE"):
        monkeypatch.setattr(generate, constant, getattr(generate, constant))
    small_sample()


def more_memory(extra: int) -> Attack:
    """Return an attack that lets the process have so many bytes of addresses more than its modules take.

    Python's own import may run in circles where there is no memory: those that commands import later come
    first here. Who does not end within a minute is ended.
    """

    def attack() -> None:
        for module in LATE:
            importlib.import_module(module)
        signal.alarm(60)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return attack


@pytest.mark.parametrize("sizes", [1, pytest.param(30, marks=pytest.mark.torture)])
@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_finds_no_memory_says_so_in_one_sentence(
    name: str, sizes: int, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    for number, extra in enumerate(np.geomspace(2**22, 2**28, sizes + 2)[1:-1].astype(int)):
        to = tmp_path / str(number)
        forked = fork(all_commands[name](to), tmp_path / "said", more_memory(int(extra)))
        status = forked.wait()
        if status > 0:
            assert "memory" in forked.sentence()
        require_whole(to)
        # A library in C that does not look at what it was given ends the process: a sudden death.
        assert status >= 0 or sizes > 1
        assert leftovers(to) == [] or status < 0


def run_within(words: list[str], limit: Callable[[], object]) -> None:
    """Run a command in a new process, which first limits itself, and require that it succeeds."""
    command = [sys.executable, "-m", "anomaly_lib", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limit)
    assert done.returncode == 0, done.stderr


def eight_gigabytes_of_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 * GIGABYTE, 8 * GIGABYTE))


@pytest.fixture
def group() -> Iterator[Path]:
    """Yield a group of processes that have one and a half gigabytes of memory between them."""
    folder = Path(f"/sys/fs/cgroup/memory/anomaly_{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(3 * GIGABYTE // 2))
    except OSError as error:
        pytest.skip(f"no group of processes with limited memory can be made here: {error}")
    yield folder
    folder.rmdir()


@pytest.mark.torture
@pytest.mark.parametrize("name", NAMES)
def test_eight_gigabytes_of_addresses_are_enough(
    name: str, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    run_within(all_commands[name](tmp_path), eight_gigabytes_of_addresses)


@pytest.mark.torture
@pytest.mark.parametrize("name", NAMES)
def test_a_gigabyte_and_a_half_of_memory_is_enough(
    name: str, all_commands: dict[str, Command], group: Path, tmp_path: Path
) -> None:
    run_within(all_commands[name](tmp_path), lambda: (group / "cgroup.procs").write_text(str(os.getpid())))


def test_both_are_enough_for_the_default_network(small_data: Path, group: Path, tmp_path: Path) -> None:
    def limit() -> None:
        eight_gigabytes_of_addresses()
        (group / "cgroup.procs").write_text(str(os.getpid()))

    options = ("--device", "cpu", "--save_model", "--save_segmentation_images", str(tmp_path))
    run_within(["train", *options, "patch_core", "dataset", "mvtec", str(small_data)], limit)
