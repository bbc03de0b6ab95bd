"""What a command says when it fails: one sentence, whatever was raised.

Errors that the user can mend end with exit status 2; a stop with the status that shells give it; and what
nobody foresaw, a bug of ours, with 1. With ``ANOMALY_DEBUG=1`` the traceback stands before the sentence.
"""

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from click.exceptions import NoArgsIsHelpError

from anomaly_lib.errors import AnomalyError, is_out_of_memory, one_line

# Exit status after Ctrl-C, 128 and the number of the signal.
_INTERRUPTED = 130

_STAGE = "in the stage "

# How the library writes an argument that is an option here.
_ARGUMENT = re.compile(r"`(\w+)`")

_MAKE_ROOM = "end other programs, or raise the limit of this one; no work was begun"
_MAKE_SMALLER = (
    "take smaller images (--imagesize), fewer of them at a time (--batch_size) or in all (one category with "
    "-d), or keep fewer patches (sampler -p)"
)


class UserError(click.ClickException):
    """An error of the user's, printed as one sentence."""

    exit_code = 2


class UnexpectedError(click.ClickException):
    """An error of ours, printed as one sentence."""

    exit_code = 1


def note_stage(error: BaseException, stage: str) -> None:
    """Note on `error` that it was raised in a stage of the work, if in any."""
    if stage:
        error.add_note(f"{_STAGE}{stage!r}")


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turn whatever a command raises into one sentence, and its kind into an exit status."""
    try:
        yield
    except click.Abort as stop:
        if not isinstance(stop.__cause__, EOFError):  # click takes a file's unexpected end for Ctrl-D
            raise
        raise _sentence(stop.__cause__) from stop
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        raise _sentence(error) from error


def _sentence(error: BaseException) -> click.ClickException:
    if os.environ.get("ANOMALY_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    stage = next((f" {note}" for note in getattr(error, "__notes__", ()) if note.startswith(_STAGE)), "")
    if is_out_of_memory(error):
        return UserError(f"not enough memory{stage}: {_MAKE_SMALLER if stage else _MAKE_ROOM}")
    if isinstance(error, AnomalyError):
        return UserError(_ARGUMENT.sub(r"--\1", str(error)))
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written, a file for a folder
        return UserError(_of_the_system(error, stage))
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UnexpectedError(
        f"something went wrong inside of anomaly_lib{stage}, which is not your fault: {said}; "
        "please report it, with what the same line prints after ANOMALY_DEBUG=1 is set"
    )


def _of_the_system(error: OSError, stage: str) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename else f"{reason}{stage}: no file is named"


def show(error: click.ClickException | click.Abort) -> int:
    """Print the error, its sentence on one line, and return the exit status."""
    with suppress(OSError, ValueError):  # nobody can read it
        if isinstance(error, click.Abort):
            click.echo("Aborted!", err=True)
        elif isinstance(error, NoArgsIsHelpError):
            error.show()
        else:
            _show_sentence(error)
    return _INTERRUPTED if isinstance(error, click.Abort) else error.exit_code


def _show_sentence(error: click.ClickException) -> None:
    sentence = error.format_message().replace(error.message, one_line(error.message))
    sentence = " ".join(sentence.split())  # click has lists of one choice a line
    if isinstance(error, click.UsageError):
        click.UsageError(sentence, error.ctx).show()
    else:
        click.ClickException(sentence).show()
