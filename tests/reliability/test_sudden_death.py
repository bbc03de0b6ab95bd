"""Commands that are killed at any moment: what they leave is whole, and the next one tidies up."""

from pathlib import Path

import numpy as np
import pytest
from process_attacks import (
    Attack,
    Command,
    changes,
    fork,
    kill_after,
    kill_before,
    leftovers,
    require_whole,
    small_sample,
)

NAMES = ("gaussian", "patch_core", "patch_svdd", "evaluate", "tables", "sample")


def survive(command: Command, attack: Attack, folder: Path, death: int = -9) -> bool:
    """Attack a command, and require that what it left is whole and that it can be run again."""
    small_sample()
    to = folder / "place"
    status = fork(command(to), folder / "said", attack).wait()
    assert status in (0, death), (folder / "said").read_text()
    require_whole(to)
    again = fork(command(to), folder / "said")
    assert again.wait() == 0, again.said.read_text()
    require_whole(to)
    assert leftovers(to) == []
    if (to / "checkpoints").exists():
        for training in (to / "checkpoints").iterdir():
            assert sorted(path.name for path in training.iterdir()) == [".lock", "epoch_00003"]
    return status != 0


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what `small_sample` changes be as before after the test."""
    from anomaly_lib.datasets.sample import generate

    for name in ("TRAIN", "TEST_GOOD", "TEST_DEFECTIVE"):
        monkeypatch.setattr(generate, name, getattr(generate, name))
    small_sample()


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.torture)])
@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_killed_before_a_change_of_files_can_be_run_again(
    name: str, kills: int, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    number, _ = changes(all_commands[name](tmp_path / "first"), tmp_path)
    attacked = sorted(set(np.linspace(0, number, min(kills, number) + 1, dtype=int)[1:] - 1))
    killed = 0
    for before in attacked:
        killed += survive(all_commands[name], kill_before(before), tmp_path / f"{before:04d}")
    assert killed == len(attacked)


@pytest.mark.torture
@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_killed_at_any_moment_can_be_run_again(
    name: str, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    _, seconds = changes(all_commands[name](tmp_path / "first"), tmp_path)
    moments = np.random.default_rng(len(name)).uniform(0, seconds, 100)
    for number, moment in enumerate(moments):
        survive(all_commands[name], kill_after(moment), tmp_path / f"{number:04d}", death=-14)
