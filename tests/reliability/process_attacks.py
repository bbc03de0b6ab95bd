"""Commands that are attacked while they run, each in a forked process, and what is asked of what they leave.

A fork has everything imported and knows the tests' tiny network: an attack takes a fraction of a second.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from anomaly_lib import load_detector, load_predictions
from anomaly_lib.__main__ import main
from anomaly_lib.datasets.sample import generate

Attack = Callable[[], None]
Command = Callable[[Path], list[str]]

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Forked:
    """A command in a process of its own."""

    pid: int
    said: Path

    def wait(self) -> int:
        """Return its exit status, or minus the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def sentence(self) -> str:
        """Return the error that it printed: one sentence at the end, and no traceback."""
        text = self.said.read_text(errors="replace")
        assert "Traceback" not in text, text
        assert text.splitlines()[-1].startswith("Error: "), text
        return text.splitlines()[-1]


def fork(words: list[str], said: Path, attack: Attack = lambda: None) -> Forked:
    """Begin a command in a process of its own, which first attacks itself; what it prints goes to `said`."""
    said.parent.mkdir(exist_ok=True)
    if pid := os.fork():
        return Forked(pid, said)
    status = 70
    try:
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdin, sys.stdout, sys.stderr = open(os.devnull), open(1, "w"), open(2, "w")  # noqa: PTH123, SIM115
        attack()
        main(words)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def kill_before(number: int, log: Path | None = None) -> Attack:
    """Return an attack that kills the process before the change number `number` of files.

    Each change is a byte in `log`.
    """

    def attack() -> None:
        left = number
        counted = os.open(log, os.O_WRONLY | os.O_CREAT) if log else None

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING):
                left -= 1
                if counted is not None:
                    os.write(counted, b".")
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return attack


def kill_after(seconds: float) -> Attack:
    """Return an attack that kills the process after so many seconds, wherever it is."""

    def attack() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))

    return attack


def no_longer_files(limit: int) -> Attack:
    """Return an attack that lets no file be longer than `limit` bytes, as a disk that is full by then."""

    def attack() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return attack


def changes(words: list[str], folder: Path) -> tuple[int, float]:
    """Return how many changes of files a command makes, and the seconds that it takes."""
    start = time.perf_counter()
    forked = fork(words, folder / "said", kill_before(10**9, folder / "changes"))
    assert forked.wait() == 0, forked.said.read_text()
    return (folder / "changes").stat().st_size, time.perf_counter() - start


def small_sample() -> None:
    """Let the sample data set be of two images a category."""
    generate.TRAIN, generate.TEST_GOOD, generate.TEST_DEFECTIVE = 1, 1, 0


def commands(data: Path, weights: str, model: Path) -> dict[str, Command]:
    """Return tiny commands, each of which writes under the folder that it is given."""
    network = ("test_resnet", "--weights", weights)
    options = ("--device", "cpu", "--save_segmentation_images", "--tensorboard")
    images = ("dataset", "--imagesize", "64", "mvtec", str(data))

    def train(*method: str) -> Command:
        return lambda to: ["train", *options, "--save_model", str(to / "results"), *method, *images]

    def patch_svdd(to: Path) -> list[str]:
        method = ("--epochs", "3", "--repeat", "1", "--S", "32", "16", "--D", "4", "--threshold_images", "2")
        return train("patch_svdd", *method, "--checkpoints", str(to / "checkpoints"))(to)

    return {
        "gaussian": train("gaussian", "-a", *network),
        "patch_core": train("patch_core", "-b", *network, "sampler", "-p", "0.2", "approx_greedy_coreset"),
        "patch_svdd": patch_svdd,
        "evaluate": lambda to: [
            *("evaluate", *options, str(to / "results" / "evaluation"), "model_loader", "-p", str(model)),
            *("--weights", weights, "dataset", "-d", "disc", "mvtec", str(data)),
        ],
        "tables": lambda to: [
            *("tables", "1", str(to / "tables"), str(data), "-a", "tf_efficientnet_lite0"),
            *("--fold", "0,1", "--imagesize", "32", "--device", "cpu"),
        ],
        "sample": lambda to: ["data", "sample", str(to / "sample")],
    }


def require_whole(folder: Path) -> None:
    """Require that every file that is there under its own name is whole."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        if file.suffix == ".csv":
            assert file.read_bytes().endswith(b"\n"), file
            assert len(pd.read_csv(file).columns) > 1, file
        elif file.name == "model.json" and file.parent.parent.name == "models":
            load_detector(file.parent, device="cpu")
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".npz":
            load_predictions(file)
        elif file.suffix == ".png":
            with Image.open(file) as picture:
                picture.load()
        else:
            assert file.suffix == ".safetensors" or "tfevents" in file.name, file


def leftovers(folder: Path) -> list[str]:
    """Return what is there under a name that says that it is not finished."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".lock")
