"""Public names of a package that are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package's ``__init__.py``.

    Parameters
    ----------
    package
        Name of the package. Its ``__all__`` is what it shows.
    where
        From each name to the module within anomaly_lib that has it, a dot, and its name there.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = where[name].rpartition(".")
        return getattr(importlib.import_module(f"anomaly_lib.{module}"), attribute)

    def show() -> list[str]:
        return list(sys.modules[package].__all__)

    return get, show
