"""One way to say how far a long computation is: a callback with the stage, what is done and what there is."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``; `done` counts from 0 to `total` within a stage."""

T = TypeVar("T")


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def track(items: Iterable[T], stage: str, total: int, progress: Progress) -> Iterator[T]:
    """Yield `items` and report each as done when the next one is asked for."""
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)
