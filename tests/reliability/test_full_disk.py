"""Disks that are full by some byte: a command says so in one sentence, and what it has finished is kept."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from process_attacks import Command, fork, leftovers, no_longer_files, require_whole, small_sample

NAMES = ("gaussian", "patch_core", "patch_svdd", "evaluate", "tables", "sample")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of its own, of a size that `resized` sets."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only who may mount can try a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resized(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def emptied(disk: Path) -> None:
    subprocess.run(["find", str(disk), "-mindepth", "1", "-delete"], check=True)


@pytest.mark.parametrize("sizes", [1, pytest.param(50, marks=pytest.mark.torture)])
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_is_said_in_one_sentence(
    name: str,
    sizes: int,
    all_commands: dict[str, Command],
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anomaly_lib.datasets.sample import generate

    for constant in ("TRAIN", "TEST_GOOD", "TEST_DEFECTIVE"):
        monkeypatch.setattr(generate, constant, getattr(generate, constant))
    small_sample()
    said = tmp_path / "said"
    assert fork(all_commands[name](disk), said).wait() == 0
    needed = used(disk)
    failed = 0
    for size in np.linspace(0, needed, sizes + 2)[1:-1].astype(int):
        emptied(disk)
        resized(disk, max(4096, size))
        forked = fork(all_commands[name](disk), said)
        if forked.wait():
            failed += 1
            assert "No space left" in forked.sentence() or "disk" in forked.sentence()
        require_whole(disk)
        assert leftovers(disk) == []
        resized(disk, 64 << 20)
    assert failed >= sizes * 0.6


@pytest.mark.parametrize("limits", [1, pytest.param(20, marks=pytest.mark.torture)])
@pytest.mark.parametrize("name", ["gaussian", "patch_svdd", "tables"])
def test_a_file_that_grows_too_long_is_said_in_one_sentence(
    name: str, limits: int, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    # What is said of it goes into a file as well, which has to hold some sentences.
    for number, limit in enumerate(np.geomspace(1000, 20_000, limits + 1).astype(int)[1:]):
        to = tmp_path / str(number)
        forked = fork(all_commands[name](to), tmp_path / "said", no_longer_files(int(limit)))
        if forked.wait():
            assert "File too large" in forked.sentence()
        require_whole(to)
        assert leftovers(to) == []


def test_the_results_are_there_when_what_follows_them_cannot_be_written(
    all_commands: dict[str, Command], tmp_path: Path
) -> None:
    words = [
        word for word in all_commands["gaussian"](tmp_path) if word not in ("--tensorboard", "--save_model")
    ]
    forked = fork(words, tmp_path / "said", no_longer_files(4000))
    assert forked.wait() == 2
    assert "mvtec_disc.npz" in forked.sentence()
    table = pd.read_csv(tmp_path / "results" / "project" / "group" / "results.csv", index_col=0)
    assert list(table.index) == ["mvtec_disc", "Mean"]
    assert table["instance_auroc"].notna().all()
