"""One way to say how far a long computation is: a callback with the stage, what is done and what there is."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``; `done` counts from 0 to `total` within a stage."""

S = TypeVar("S", bound=Sized)


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def track(batches: Iterable[S], stage: str, total: int, progress: Progress) -> Iterator[S]:
    """Yield `batches` and report the items of each as done when the next one is asked for.

    Examples
    --------
    >>> for batch in track(["abc", "de"], "read", 5, print):
    ...     pass
    read 0 5
    read 3 5
    read 5 5
    """
    done = 0
    progress(stage, done, total)
    for batch in batches:
        yield batch
        done += len(batch)
        progress(stage, done, total)
