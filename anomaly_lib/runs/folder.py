"""The folder that a run leaves behind.

A run of `train` is ``RESULTS/<log_project>/<log_group>``, one of `evaluate` is ``RESULTS``, with ``_0``,
``_1`` ... appended when that exists. In it::

    results.csv                             a row for each category and their mean
    sigma.csv                               what the detector tells besides, of Gaussian
    run.json                                arguments, seed, versions, seconds, peak memory
    predictions/<dataset>_<category>.npz    scores and maps of every test image
    models/<dataset>_<category>/            the fitted models, when asked for
    training/<dataset>_<category>.json      and the paths of the images that they were fitted on
    segmentation_images/<dataset>_<category>/*.png                  likewise
    training/<dataset>_<category>.csv       losses of every epoch, of methods that train in epochs
"""

import errno
import io
import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_lib.errors import DataError, pass_on_lack_of_memory
from anomaly_lib.files import file_name, new_file, sweep_unfinished
from anomaly_lib.reading import parse_json, read_within
from anomaly_lib.runs.summary import OF_ONE_MODEL, Summary

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

# More than a table of thousands of categories.
_LONGEST = 2**24

# Where something may be left half written, beside the folder itself.
_PLACES = ("models", "predictions", "segmentation_images", "segmentation_images/*", "training")
_VERSIONS = ("anomaly_lib", "torch", "torchvision", "timm", "numpy", "pillow")


class Run:
    """A run and its folder.

    Parameters
    ----------
    folder
        See `new_run_folder`.
    seed, arguments
        For ``run.json``: the seed, and the words of the command line.

    Attributes
    ----------
    summaries
        What was done with each category so far, likewise.
    rows
        The metrics of each category so far, by the name of its row.
    """

    def __init__(self, folder: Path, seed: int = 0, arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.rows: dict[str, Mapping[str, float]] = {}
        self._seed, self._arguments = seed, list(arguments)
        self._seconds: dict[str, dict[str, float]] = {}
        self._tables: dict[str, dict[str, pd.DataFrame]] = {}
        self.summaries: dict[str, Summary] = {}

    @contextmanager
    def timed(self, row_name: str, stage: str) -> Iterator[None]:
        """Note the seconds that the block takes as those of `stage`."""
        start = time.perf_counter()
        yield
        self._seconds.setdefault(row_name, {})[stage] = round(time.perf_counter() - start, 3)

    def add(self, row_name: str, row: Mapping[str, float], tables: Mapping[str, pd.DataFrame]) -> None:
        """Add a category's metrics and further tables, and write what there is, lest it be lost."""
        self.rows[row_name] = row
        for name, table in tables.items():
            self._tables.setdefault(name, {})[row_name] = table
        self.write()

    def write(self) -> None:
        """Write results.csv, run.json and further tables as they are now."""
        with new_file(self.folder / "results.csv") as file:
            self.results().to_csv(file, index_label="Row Names")
        for name, tables in self._tables.items():
            with new_file(self.folder / f"{name}.csv") as file:
                pd.concat(tables, names=["Row Names"]).droplevel(1).to_csv(file)
        document = {
            "arguments": self._arguments,
            "seed": self._seed,
            "seconds": self._seconds,
            "summaries": {name: summary.document() for name, summary in self.summaries.items()},
            "peak_memory_mb": _peak_memory_mb(),
            "python": platform.python_version(),
            "versions": {package: version(package) for package in _VERSIONS},
        }
        with new_file(self.folder / "run.json") as file:
            file.write_text(json.dumps(document, indent=2) + "\n")

    def results(self) -> pd.DataFrame:
        """Return the table of results.csv: a row for each category, last their mean over the known cells."""
        table = pd.DataFrame.from_dict(self.rows, orient="index")
        table.loc["Mean"] = table.mean()
        table.loc["Mean", [name for name in OF_ONE_MODEL if name in table]] = math.nan
        return table.rename_axis("Row Names")

    # Where the files of a category are

    def model(self, row_name: str) -> Path:
        """Return the folder of a category's model."""
        return self.folder / "models" / file_name(row_name)

    def predictions(self, row_name: str) -> Path:
        """Return the file of a category's predictions."""
        return self.folder / "predictions" / file_name(row_name, ".npz")

    def segmentation_images(self, row_name: str) -> Path:
        """Return the folder of a category's pictures."""
        return self.folder / "segmentation_images" / file_name(row_name)

    def training_log(self, row_name: str) -> Path:
        """Return the file of a category's epochs."""
        return self.folder / "training" / file_name(row_name, ".csv")

    def training_images(self, row_name: str) -> Path:
        """Return the file with the paths of the images that a category's detector was fitted on."""
        return self.folder / "training" / file_name(row_name, ".json")

    def tensorboard(self, row_name: str, part: str = "") -> Path:
        """Return the folder of a category's file for TensorBoard, or of a `part` of what it tells."""
        return self.folder / "tensorboard" / file_name(row_name, part)


def new_run_folder(wanted: Path) -> Path:
    """Make and return `wanted`, or with ``_0``, ``_1`` ... appended the first name that is free.

    What killed runs have left half written in those before it is removed.

    Raises
    ------
    DataError
        When `wanted` has no name of its own, is something else than a folder, or cannot be made.
    """
    if wanted.name in ("", ".."):
        raise DataError(f"cannot write results to {wanted}: it has no name of its own; choose another folder")
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for folder in _numbered(wanted):
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
            if folder == wanted and not folder.is_dir():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
            _sweep(folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)  # a ValueError: of a null character
        if isinstance(error, FileExistsError):
            reason = f"{error.filename} is no folder"
        raise DataError(f"cannot write results to {wanted}: {reason}; choose another folder") from None
    raise AssertionError("there is no end of numbers")


def _sweep(folder: Path) -> None:
    """Remove what a killed run has left half written."""
    sweep_unfinished(folder)
    for pattern in _PLACES:
        for place in folder.glob(pattern):
            sweep_unfinished(place)


def _numbered(wanted: Path) -> Iterator[Path]:
    """Yield `wanted` and, without end, the names with a number."""
    yield wanted
    for number in itertools.count():
        yield wanted.with_name(f"{wanted.name}_{number}")


def load_results(folder: Path | str) -> pd.DataFrame:
    """Return results.csv of a run folder: a row for each category, indexed by its name, and last ``Mean``.

    Raises
    ------
    DataError
        When there is none, or it is no such table of numbers; a cell may be empty, but not infinite.
    """
    file = Path(folder) / "results.csv"
    if not file.exists():
        raise DataError(f"no results in {folder}: give the folder of a finished run")
    try:
        content = io.BytesIO(read_within(file, _LONGEST))
        table = pd.read_csv(content, index_col="Row Names", encoding="utf-8", dtype={"Row Names": str})
    except Exception as error:  # a damaged table can make pandas raise almost anything
        pass_on_lack_of_memory(error)
        raise DataError(f"{file} is no table of results ({error}): run it again") from None
    if reason := _unfit(table):
        raise DataError(f"{file} is no table of results ({reason}): run it again")
    return table


def _unfit(table: pd.DataFrame) -> str | None:
    """Return what is wrong with a table that was read from a file, if anything is."""
    if not len(table) or table.index[-1] != "Mean":
        return "its last row is not the mean"
    if table.index.hasnans or table.index.has_duplicates:
        return "a row has no name, or that of another"
    for name, values in table.items():
        if values.dtype.kind not in "fi" or np.isinf(values).any():
            return f"not all of {name} are finite numbers"
    return None


def load_training_images(run: Run, row_name: str) -> list[Path] | None:
    """Return the images that a category's detector was fitted on in this run, in its order; or ``None``.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    file = run.training_images(row_name)
    if not file.exists():
        return None
    try:
        paths = parse_json(read_within(file, _LONGEST))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}): run it again") from None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataError(f"{file} is no list of paths: run it again")
    return [Path(path) for path in paths]


def _peak_memory_mb() -> int | None:
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)  # bytes there, KiB elsewhere
