"""Damaged and hostile model files by the thousand: each is refused in one sentence or does as a whole one."""

from pathlib import Path

import pytest
from attack_programs import findings_of


@pytest.mark.parametrize("number", [150, pytest.param(2000, marks=pytest.mark.torture)])
def test_a_damaged_model_file_is_read_or_refused_in_one_sentence(number: int, tmp_path: Path) -> None:
    counts = findings_of("model_attacks.py", number, tmp_path)["counts"]
    assert counts["sentence"] > number / 3
    assert counts["same"] > number / 50
