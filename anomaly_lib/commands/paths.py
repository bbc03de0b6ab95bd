"""What PATHS of pictures mean on a command line."""

import glob
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click


def picture_files(paths: Sequence[str]) -> Iterator[Path]:
    """Yield the pictures that paths mean: files, folders, patterns, and - for a list on stdin."""
    from anomaly_lib.datasets.listing import pictures_below

    for path in paths:
        if path == "-":
            yield from (Path(line) for line in sys.stdin.read().splitlines() if line)
        elif Path(path).is_dir():
            yield from pictures_below(Path(path))
        elif set(path) & set("*?[") and not Path(path).exists():
            found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (a whole pattern, maybe absolute)
            if not found:
                raise click.UsageError(f"no file is called as in {path!r}")
            yield from map(Path, found)
        else:
            yield Path(path)
