"""What commands say: errors as sentences, messages and progress on stderr, results on stdout."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm.auto import tqdm

from anomaly_lib.errors import AnomalyError
from anomaly_lib.progress import Progress

if TYPE_CHECKING:
    import pandas as pd


class UserError(click.ClickException):
    """An error of the user's, printed as one sentence."""

    exit_code = 2


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turn the library's errors into one printed sentence and exit status 2."""
    try:
        yield
    except AnomalyError as error:
        raise UserError(str(error)) from error
    except OSError as error:  # a full disk, a folder that cannot be written, a file in the place of a folder
        raise UserError(f"{error.strerror or error}: {error.filename or 'no file named'}") from error


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print the library's warnings and notices, each as one line, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("anomaly_lib")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # each sentence once a command
        warnings.showwarning = lambda message, *where, **more: logger.warning("%s", message)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a progress callback that shows a bar for each stage, on a terminal or in a notebook only."""
    bar: tqdm[Any] | None = None

    def show(stage: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None or bar.desc != f"{stage}: ":
            close()
            bar = tqdm(total=total, desc=stage, leave=False, disable=not _somebody_watches())
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
    finally:
        close()


def _somebody_watches() -> bool:
    """Return whether progress bars would be seen: a log is flooded by them."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


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

        yield show


def print_results(table: "pd.DataFrame", folder: Path) -> None:
    """Print the first columns of a run's results and where everything is."""
    shown = table[["instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc", "aupro"]]
    click.echo(shown.to_string(float_format=lambda value: f"{value:.4f}", na_rep=""))
    click.echo(f"Results: {folder}")
