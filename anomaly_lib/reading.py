"""Files from outside: regular ones alone, read within bounds and without executing anything."""

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any


@contextmanager
def opened(file: Path, most: int | None = None) -> Iterator[BufferedReader]:
    """Open a regular file of at most so many bytes for reading; a pipe or a device is not waited for.

    Raises
    ------
    OSError
        When it cannot be opened.
    ValueError
        When it is no regular file, or longer.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError(f"{file.name} is no regular file")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(file, flags), "rb") as stream:  # noqa: PTH123  (a path's open takes no flags)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{file.name} is no regular file")
        if most is not None and status.st_size > most:
            raise ValueError(f"{file.name} is longer than {most} bytes")
        yield stream


def read_within(file: Path, most: int) -> bytes:
    """Return the content of a regular file of at most so many bytes; errors as of `opened`."""
    with opened(file, most) as stream:
        return stream.read(most)


def parse_json(content: bytes) -> Any:
    """Return what JSON in UTF-8 says, of which nothing is left to chance.

    Raises
    ------
    ValueError
        When it is no JSON, a name is there twice, or a number is not finite.
    RecursionError
        When it is nested too deeply.
    """
    return json.loads(
        content.decode("utf-8"),
        object_pairs_hook=_without_doubles,
        parse_constant=_finite,
        parse_float=_finite,
    )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is not finite")
    return value
