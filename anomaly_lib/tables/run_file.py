"""The runs of a table on disk, so that an interrupted table goes on where it was.

Several processes may add to one file at the same time: each addition takes in what the others have written.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anomaly_lib.errors import ParameterError
from anomaly_lib.files import locked, new_file
from anomaly_lib.tables.grids import Setting

KEY = ["arch", "distance", "reduction", "variance_threshold", "category", "fold"]


class RunFile:
    """The rows of a table's runs, on disk after every addition.

    Raises
    ------
    ParameterError
        When the file was begun with other options, or is damaged.
    """

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        self._file, self._document = file, file.with_suffix(".json")
        self._options = options
        self.frame = pd.DataFrame(columns=KEY)
        self.add([])

    def has(self, setting: Setting, fold: int, category: str) -> bool:
        """Return whether this run is there."""
        return bool((self.frame[KEY] == [*setting.key, category, str(fold)]).all(axis=1).any())

    def has_any(self, arch: str) -> bool:
        """Return whether there is any run of an architecture."""
        return bool((self.frame["arch"] == arch).any())

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add runs to what is in the file by now, which is taken in; errors as of the class."""
        with locked(self._file.parent):
            if self._file.is_file():
                self._require_same_options()
                before = _rows(self._file)
            else:
                before = pd.DataFrame(columns=KEY)
                with new_file(self._document) as unfinished:
                    unfinished.write_text(json.dumps(self._options, indent=2) + "\n")
            parts = [part for part in (before, self.frame, pd.DataFrame(rows)) if len(part)]
            if parts:
                self.frame = pd.concat(parts, ignore_index=True).drop_duplicates(KEY, ignore_index=True)
            with new_file(self._file) as unfinished:
                self.frame.to_csv(unfinished, index=False)

    def _require_same_options(self) -> None:
        before = _options(self._document)
        changed = [name for name in self._options if self._options[name] != before.get(name)]
        if changed:
            raise ParameterError(
                f"{self._file} was begun with another {changed[0]} ({before.get(changed[0])}, now "
                f"{self._options[changed[0]]}): choose another folder, or remove the file"
            )


def _options(document: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(document.read_text()))
    except FileNotFoundError:
        raise ParameterError(
            f"{document} is missing, which tells how the runs beside it were made: remove them as well"
        ) from None
    except (ValueError, TypeError):
        raise _damaged(document) from None


def _rows(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, dtype=dict.fromkeys(KEY, str), keep_default_na=False, na_values={})
        numbers = frame.columns.difference(KEY, sort=False)
        frame[numbers] = frame[numbers].apply(pd.to_numeric)
    except ValueError:  # so are the errors of pandas' readers
        raise _damaged(file) from None
    if not set(KEY) <= set(frame.columns):
        raise _damaged(file)
    return frame


def _damaged(file: Path) -> ParameterError:
    return ParameterError(f"{file} is damaged: remove it, and the table is begun anew")
