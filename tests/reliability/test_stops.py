"""Signals at random times: a command ends with its status, within seconds, and leaves nothing half made."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = "dataset -d disc -d ring --resize 72 --imagesize 64 mvtec"
LINES = {
    "train": "train out patch_core -b test_resnet --weights WEIGHTS sampler -p 0.2 random " + SMALL + " DATA",
    "patch_svdd": "train --save_model out patch_svdd --epochs 50 --repeat 20 --checkpoints checkpoints "
    "dataset -d disc mvtec DATA",
    "sample": "data sample sample",
    "tables": "tables 1 out DATA -d disc --imagesize 64 -a tf_efficientnet_lite0",
}
# Before this the interpreter itself begins, and Ctrl-C is a traceback of its own making.
BEGUN = 0.4


def end(name: str, number: int, delay: float, folder: Path, names: dict[str, str]) -> tuple[int, str, float]:
    """Start a command, send it a signal after a while, and return its status, what it said, and how long."""
    words = [names.get(word, word) for word in LINES[name].split()]
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_lib", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(delay)
    start = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - start


@pytest.mark.torture
@pytest.mark.parametrize("name", LINES)
def test_a_signal_at_any_time_ends_a_command_well(
    name: str, small_data: Path, tiny_weights: str, tmp_path: Path
) -> None:
    names = {"DATA": str(small_data), "WEIGHTS": tiny_weights}
    draw = random.Random(name)
    for turn in range(25):
        folder = tmp_path / str(turn)
        folder.mkdir()
        number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        delay = draw.uniform(BEGUN, 7)
        status, said, seconds = end(name, number, delay, folder, names)
        case = f"{name}, {number!r} after {delay:.2f} s: {status} after {seconds:.1f} s\n{said}"
        assert status in (0, -number, 128 + number), case  # it may have been done, or hardly begun
        assert "Traceback" not in said, case
        assert seconds < 11, case
        assert not list(folder.rglob(".unfinished-*")), case
