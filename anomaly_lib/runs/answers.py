"""What is kept of answers: a table, and pictures with what was found in them."""

import csv
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from anomaly_lib.datasets import read_picture
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.files import file_name, new_file
from anomaly_lib.predict import Answer
from anomaly_lib.views.plots.marked_picture import save_marked_picture


@dataclass(frozen=True)
class AnswerRow:
    """A row of the table: numbers are empty where there are none."""

    path: str
    label: str
    score: float | None = None
    share_of_threshold: float | None = None
    p_value: float | None = None
    error: str = ""

    @classmethod
    def of(cls, path: Path, answer: Answer | DataError) -> Self:
        """Return the row for a file and what was said of it."""
        if isinstance(answer, DataError):
            return cls(str(path), "unreadable", error=str(answer))
        share, p_value = (
            None if math.isnan(number) else number for number in (answer.share_of_threshold, answer.p_value)
        )
        return cls(str(path), answer.label, answer.score, share, p_value)

    def line(self) -> str:
        """Return the row as a person reads it."""
        if self.error:
            return f"{self.label:<12}        {self.path}: {self.error}"
        number = self.score if self.share_of_threshold is None else self.share_of_threshold
        return f"{self.label:<12} {number:6.2f} {self.path}"


class AnswerFile:
    """A table of answers, ``.csv`` or ``.json``, or none.

    It is there when it is whole; a `lasting` one, which is a ``.csv``, grows row by row instead, and what it
    holds already stays.

    Raises
    ------
    ParameterError
        When the file's name says no such format.
    """

    def __init__(self, file: Path | None, *, lasting: bool = False) -> None:
        kinds = (".csv",) if lasting else (".csv", ".json")
        if file is not None and file.suffix.lower() not in kinds:
            raise ParameterError(f"`output` {file} must end in {' or '.join(kinds)}")
        self.file = file
        self._lasting = lasting
        self._rows = 0
        self.known = frozenset(self._known_paths()) if lasting else frozenset[Path]()

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._stream = self._opened(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None and self._stream and self.file and self.file.suffix.lower() == ".json":
            self._stream.write("\n]\n" if self._rows else "[]\n")
        self._stack.__exit__(kind, *rest)

    def add(self, path: Path, answer: Answer | DataError) -> AnswerRow:
        """Add and return the row for a file."""
        row = AnswerRow.of(path, answer)
        if self._stream and self.file:
            if self.file.suffix.lower() == ".json":
                self._stream.write(("[\n" if not self._rows else ",\n") + json.dumps(asdict(row)))
            else:
                csv.writer(self._stream).writerow(asdict(row).values())
            if self._lasting:
                self._stream.flush()
        self._rows += 1
        return row

    def _opened(self, stack: ExitStack) -> IO[str] | None:
        if self.file is None:
            return None
        begun = self._lasting and self.file.exists() and self.file.stat().st_size > 0
        if self._lasting:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            place, mode = self.file, "a"
        else:
            place, mode = stack.enter_context(new_file(self.file)), "w"
        stream: IO[str] = stack.enter_context(place.open(mode, encoding="utf-8", newline=""))
        if self.file.suffix.lower() == ".csv" and not begun:
            csv.writer(stream).writerow(one.name for one in fields(AnswerRow))
        return stream

    def _known_paths(self) -> Iterator[Path]:
        """Yield the files that a table from before has rows of."""
        if self.file is None or not self.file.exists() or not self.file.stat().st_size:
            return
        columns = [one.name for one in fields(AnswerRow)]
        try:
            with self.file.open(encoding="utf-8", newline="") as stream:
                rows = csv.reader(stream, strict=True)
                if next(rows) != columns:
                    raise ValueError("other columns")
                yield from (Path(row[0]) for row in rows if row)
        except (ValueError, csv.Error) as error:
            raise ParameterError(
                f"`output` {self.file} is no table of answers ({error}): name a new file"
            ) from None


class MarkedPictures:
    """A folder of pictures with what was found in them, or none.

    Raises
    ------
    ParameterError
        When the pictures themselves are in it, which would be replaced.
    """

    def __init__(self, folder: Path | None, originals: Sequence[Path]) -> None:
        if folder is not None and folder.resolve() in {original.resolve() for original in originals}:
            raise ParameterError(f"`pictures` {folder} holds the pictures themselves: choose another folder")
        self._folder = folder
        self._names: set[str] = set()

    def save(self, file: Path, answer: Answer) -> None:
        """Write the picture of a file; one of the same name as another gets a number."""
        if self._folder is None:
            return
        names = itertools.chain([file.stem], (f"{file.stem}_{number}" for number in itertools.count(1)))
        name = next(new for new in (file_name(one, ".png") for one in names) if new not in self._names)
        self._names.add(name)
        save_marked_picture(self._folder / name, np.asarray(read_picture(file)), answer)
