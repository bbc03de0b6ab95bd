"""The commands that are attacked."""

from pathlib import Path

import pytest
from process_attacks import Command, commands, fork


@pytest.fixture(scope="session")
def all_commands(
    small_data: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Command]:
    """Return the commands that write, by name; that which evaluates has a model to do it with."""
    root = tmp_path_factory.mktemp("model")
    made = commands(small_data, tiny_weights, root / "results/project/group/models/mvtec_disc")
    assert fork(made["gaussian"](root), root / "said").wait() == 0
    return made
