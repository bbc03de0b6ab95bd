"""A program of attacks, in a process of its own, and what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def findings_of(program: str, number: int, folder: Path) -> dict[str, Any]:
    """Return what so many attacks in `folder` found, none of it wrong."""
    command = [sys.executable, str(_HERE / program), str(number), str(folder)]
    path = os.pathsep.join([str(_HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]} ended the process: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(lines[-1])
    assert found["wrong"] == {}
    assert found["heard"] == 1
    return found
