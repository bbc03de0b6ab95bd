"""What commands say: messages and progress on stderr, results on stdout."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tqdm.auto import tqdm

from anomaly_lib.commands.failures import note_stage
from anomaly_lib.errors import one_line
from anomaly_lib.progress import Progress

if TYPE_CHECKING:
    from anomaly_lib.runs import Run


log = logging.getLogger(__name__)

# Seconds after which a log hears of a stage that goes on.
_SILENCE = 30.0


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print the library's warnings and notices, each as one line and a warning once, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    handler.addFilter(_Once())
    logger = logging.getLogger("anomaly_lib")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)  # of two commands in one process both say it
        warnings.showwarning = lambda message, *where, **more: logger.warning("%s", message)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


class _OneLine(logging.Formatter):
    """Message alone, on one line whatever names are in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return one_line(record.getMessage())


class _Once(logging.Filter):
    """No warning a second time."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is a notice, or was not there yet."""
        message = record.getMessage()
        new = record.levelno < logging.WARNING or message not in self._said
        self._said.add(message)
        return new


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a progress callback that shows a bar for each stage on a terminal or in a notebook.

    Elsewhere, in a log, a line now and then says how far a long stage is.
    """
    bar: tqdm[Any] | None = None
    current = ""
    said = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal bar, current, said
        current = stage
        if not _somebody_watches():
            if time.monotonic() - said >= _SILENCE:
                said = time.monotonic()
                log.info("%s: %d of %d", stage, done, total)
            return
        if bar is None or bar.desc != f"{stage}: ":
            close()
            bar = tqdm(total=total, desc=stage, leave=False)
            bar.desc = f"{stage}: "
        bar.update(done - bar.n)
        if done == total:
            close()

    def close() -> None:
        nonlocal bar
        if bar is not None:
            bar.close()
        bar = None

    try:
        yield show
    except Exception as error:
        note_stage(error, current)
        raise
    finally:
        close()


def _somebody_watches() -> bool:
    """Return whether progress bars would be seen: a log is flooded by them."""
    # Within a kernel: ipykernel itself is imported by whoever starts one.
    return (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel.kernelapp" in sys.modules


@contextmanager
def headings_and_bar(unit: str) -> Iterator[Progress]:
    """Yield a progress callback that prints each new stage with the time, and on a terminal one bar below.

    The bar counts `unit` over all stages, and its clock runs with every call.
    """
    layout = f"      {{bar}} {{n_fmt}} of {{total_fmt}} {unit}, {{elapsed}}"
    start, heading = time.monotonic(), ""
    with tqdm(total=0, bar_format=layout, leave=False, disable=None) as bar:

        def show(stage: str, done: int, total: int) -> None:
            nonlocal heading
            if stage != heading:
                heading = stage
                minutes, seconds = divmod(int(time.monotonic() - start), 60)
                tqdm.write(f"{minutes:2d}:{seconds:02d}  {heading}")
            bar.n, bar.total = done, total
            bar.refresh()

        try:
            yield show
        except Exception as error:
            note_stage(error, heading)
            raise


def print_results(run: "Run") -> None:
    """Print what a run did, the first columns of its results and where everything is."""
    for name, summary in run.summaries.items():
        for sentence in summary.sentences():
            say(f"{name}: {sentence}")
    shown = run.results()[["instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc", "aupro"]]
    click.echo(shown.to_string(float_format=lambda value: f"{value:.4f}", na_rep=""))
    say(f"Results: {run.folder}")


def say(sentence: str) -> None:
    """Print a sentence on one line, whatever names are in it."""
    click.echo(one_line(sentence))
