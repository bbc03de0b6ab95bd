"""Damaged picture files by the thousand: each gives a picture or one sentence, and starts nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ATTACKS = Path(__file__).with_name("picture_attacks.py")


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.torture)])
def test_a_damaged_picture_is_read_or_refused_in_one_sentence(number: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ATTACKS), str(number), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} ended the process: {done.stderr[-2000:]}"
    found = json.loads(lines[-1])
    assert found["wrong"] == {}
    assert found["heard"] == 1
    assert found["counts"]["picture"] > number / 10
    assert found["counts"]["sentence"] > number / 10
