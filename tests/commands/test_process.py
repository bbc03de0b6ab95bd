"""The process of a command: its streams, and signals, as shells see them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A module that takes a second to be read.
MODULE = """
import sys, time
print("works", flush=True)
try:
    time.sleep(1)
except BaseException:
    print("interrupted", file=sys.stderr)
"""

PROGRAM = [sys.executable, "-m", "anomaly_lib"]

# A command that says that it works, and then works for a minute, in a call that ends early or in one that
# does not; what it leaves behind is in the current directory.
WORK = """
import ctypes, time
from pathlib import Path
import click
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.commands.process import Program
from anomaly_lib.files import new_file

@click.group(cls=Program)
def main(): pass

@main.command(cls=StrictCommand)
def quick():
    with new_file(Path("file")):
        click.echo("works")
        time.sleep(60)

@main.command(cls=StrictCommand)
def reading():
    import module
    time.sleep(60)

@main.command(cls=StrictCommand)
def deaf():
    click.echo("works")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            ctypes.CDLL(None).sleep(60)
        except BaseException:
            pass

main()
"""


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which ``anomaly`` is the program."""
    line = line.replace("anomaly", " ".join(PROGRAM))
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("line", ["anomaly train --help | head -1", "anomaly --help | true"])
def test_a_reader_that_goes_away_is_nothing_to_talk_about(line: str) -> None:
    assert shell(line).stderr == ""


def test_output_that_cannot_be_written_is_an_error() -> None:
    done = shell("anomaly --help > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "Error: No space left on device: no file is named\n"


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_an_error_that_nobody_can_read_has_its_status_all_the_same(where: str) -> None:
    done = shell(f"anomaly nonsense {where}")
    assert done.returncode == 2
    assert done.stderr == ""


@pytest.mark.parametrize("where", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_error(where: str) -> None:
    done = shell(f"anomaly --help {where}")
    assert done.returncode == 0
    assert done.stderr == ""


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = "from anomaly_lib.commands.process import _open_streams; _open_streams(); "
    program += f"f = open({str(tmp_path / 'file')!r}, 'w'); print('not into the file'); "
    program += "import os; os.write(1, b'neither'); raise SystemExit(f.fileno() > 2)"
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, program], check=False)
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == ""


def stopped(command: str, numbers: list[int], folder: Path) -> tuple[int, str, float]:
    """Start the work, send it signals, and return its status, what it said, and how long it took to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # What runs in the background of a script ignores Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "works\n"
    time.sleep(0.2)
    start = time.monotonic()
    for number in numbers:
        process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said, time.monotonic() - start


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP], 129),
        ([signal.SIGTERM] * 3, 143),
    ],
)
def test_a_signal_ends_the_work_and_leaves_nothing(numbers: list[int], status: int, tmp_path: Path) -> None:
    returned, said, seconds = stopped("quick", numbers, tmp_path)
    assert returned == status
    assert said.split() == (["Aborted!"] if status == 130 else [])
    assert seconds < 3
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_that_does_not_listen_is_ended_after_some_seconds(
    number: int, status: int, tmp_path: Path
) -> None:
    returned, _, seconds = stopped("deaf", [number], tmp_path)
    assert returned == status
    assert seconds < 11


def test_a_module_is_read_to_its_end_before_a_signal_ends_the_work(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    returned, said, seconds = stopped("reading", [signal.SIGTERM], tmp_path)
    assert returned == 143
    assert "interrupted" not in said
    assert 0.5 < seconds < 3


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    line = 'trap "" HUP; "$0" -c "$1" quick & sleep 2; kill -HUP $!; sleep 0.5; kill $!; wait $!'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, WORK], check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 143
