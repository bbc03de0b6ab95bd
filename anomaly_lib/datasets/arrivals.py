"""Pictures that arrive in a folder, each once and only when it is complete."""

import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from anomaly_lib.datasets.formats import SUFFIXES, open_picture
from anomaly_lib.datasets.listing import entries, pictures_in
from anomaly_lib.errors import DataError

# Seconds between two looks, and of rest after which a file is taken for complete if it can be read, or in any
# case.
_PAUSE, _REST, _LONG_REST = 0.5, 1.0, 20.0

_State = tuple[int, int]


def arrivals(folder: Path, known: Collection[Path] = ()) -> Iterator[list[Path]]:
    """Yield, without end, the pictures that have become complete in `folder` since the last time.

    Those that are there at the beginning count as well, but for those already `known`. A file is complete
    when nothing was written to it for a second and it can be read; one that cannot is given out after 20
    seconds all the same, so that somebody says so.
    """
    pictures_in(folder)  # says what is there besides, once
    done, since = set(known), dict[Path, tuple[_State, float]]()
    while True:
        now = time.monotonic()
        states = {path: state for path, state in _states(folder).items() if path not in done}
        since = {
            path: since[path] if path in since and since[path][0] == state else (state, now)
            for path, state in states.items()
        }
        complete = [path for path, (_, start) in since.items() if _is_complete(path, now - start)]
        done.update(complete)
        if complete:
            yield complete
        time.sleep(_PAUSE)


def _states(folder: Path) -> dict[Path, _State]:
    """Return the size of each picture file and when it was written to, by name."""
    states = {}
    for path in entries(folder):
        try:
            status = path.stat()
        except OSError:  # gone already
            continue
        if path.suffix.lower() in SUFFIXES and stat.S_ISREG(status.st_mode):
            states[path] = (status.st_size, status.st_mtime_ns)
    return states


def _is_complete(path: Path, rest: float) -> bool:
    if rest < _REST:
        return False
    try:
        open_picture(path, lambda picture: picture.load())
    except DataError:
        return rest >= _LONG_REST
    return True
