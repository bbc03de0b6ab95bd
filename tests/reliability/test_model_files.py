"""Damaged and hostile model files by the thousand: each is refused in one sentence or does as a whole one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ATTACKS = Path(__file__).with_name("model_attacks.py")


@pytest.mark.parametrize("number", [150, pytest.param(2000, marks=pytest.mark.torture)])
def test_a_damaged_model_file_is_read_or_refused_in_one_sentence(number: int, tmp_path: Path) -> None:
    command = [sys.executable, str(ATTACKS), str(number), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} ended the process: {done.stderr[-2000:]}"
    found = json.loads(lines[-1])
    assert found["wrong"] == {}
    assert found["heard"] == 1
    assert found["counts"]["sentence"] > number / 3
    assert found["counts"]["same"] > number / 50
