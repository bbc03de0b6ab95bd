"""What is raised within a command becomes one sentence and an exit status."""

import errno
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.errors import AnomalyError, DataError


def ended(error: BaseException, stage: str = "cloth: coreset") -> Result:
    """Run a command in which `error` is raised in a stage of the work."""

    @click.command(cls=StrictCommand)
    def command() -> None:
        with progress_bars() as progress:
            if stage:
                progress(stage, 0, 3)
            raise error

    return CliRunner().invoke(command, [])


def raised(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as one:
        return one


def numpy_error() -> Exception:
    with pytest.raises(MemoryError) as caught:
        np.empty(2**61, np.uint8)
    return caught.value


def torch_error() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**61, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 10 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch.so: failed to map segment from shared object"),
        numpy_error(),
        torch_error(),
        raised(DataError("cannot read the image a.png: replace or remove it"), MemoryError()),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:50],
)
def test_too_little_memory_names_the_stage_and_what_to_make_smaller(error: Exception) -> None:
    result = ended(error)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: not enough memory in the stage 'cloth: coreset': take smaller images")
    assert all(option in line for option in ("--imagesize", "--batch_size", "-d", "sampler -p"))


def test_too_little_memory_to_begin_is_said_without_a_stage() -> None:
    result = ended(MemoryError(), stage="")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: not enough memory: end other programs")


@pytest.mark.parametrize("error", [TypeError("a\nb"), RecursionError("too deep"), KeyError("k"), EOFError()])
def test_what_nobody_foresaw_is_one_honest_line_and_status_1(error: Exception) -> None:
    result = ended(error)
    assert result.exit_code == 1
    [line] = [one for one in result.stderr.splitlines() if one]
    assert line.startswith("Error: something went wrong inside of anomaly_lib in the stage 'cloth: coreset'")
    assert type(error).__name__ in line
    assert "ANOMALY_DEBUG=1" in line
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("error", "status"), [(TypeError("odd"), 1), (AnomalyError("wrong"), 2)])
def test_the_traceback_is_shown_to_those_who_ask(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOMALY_DEBUG", "1")
    result = ended(error)
    assert result.exit_code == status
    assert "Traceback" in result.stderr
    assert f"{type(error).__name__}: {error}" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_an_error_of_the_system_names_the_file_or_the_stage() -> None:
    assert ended(OSError(errno.ENOSPC, "No space left", "a\nb")).stderr == "Error: No space left: a\\nb\n"
    nameless = ended(OSError(errno.ENOSPC, "No space left"))
    assert nameless.stderr == "Error: No space left in the stage 'cloth: coreset': no file is named\n"
    assert nameless.exit_code == 2


def test_ctrl_c_has_the_status_of_shells() -> None:
    result = ended(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.split() == ["Aborted!"]


def test_errors_are_raised_as_sentences_where_no_status_is_wanted() -> None:
    @click.command(cls=StrictCommand)
    def command() -> NoReturn:
        raise AnomalyError("wrong")

    with pytest.raises(click.ClickException, match="wrong"):
        command.main([], standalone_mode=False)


def test_a_warning_is_one_line_and_said_once_a_command() -> None:
    @click.command(cls=StrictCommand)
    def command() -> None:
        for _ in range(2):
            warnings.warn("two\nlines", stacklevel=1)
        warnings.warn("two\nlines", stacklevel=1)
        say("a\nb")

    for _ in range(2):
        result = CliRunner().invoke(command, [])
        assert result.stderr == "two\\nlines\n"
        assert result.stdout == "a\\nb\n"


def test_a_category_with_a_line_break_keeps_the_sentence_on_one_line(small_data: Path) -> None:
    line = ["-m", "anomaly_lib", "tables", "a\nb", "results", str(small_data)]
    done = subprocess.run([sys.executable, *line], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "Error: Invalid value for '{1|2|3|4|7}': 'a\\nb' is not one"
    )
