"""What the tests of files from outside share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class _Trap:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap_in_a_pickle() -> Callable[[Path], object]:
    """Return a function that makes an object: whoever unpickles it makes the folder."""
    return _Trap
