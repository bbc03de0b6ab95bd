"""Damaged picture files by the thousand: each gives a picture or one sentence, and starts nothing."""

from pathlib import Path

import pytest
from attack_programs import findings_of


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.torture)])
def test_a_damaged_picture_is_read_or_refused_in_one_sentence(number: int, tmp_path: Path) -> None:
    counts = findings_of("picture_attacks.py", number, tmp_path)["counts"]
    assert counts["picture"] > number / 10
    assert counts["sentence"] > number / 10
