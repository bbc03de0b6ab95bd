"""The direction of imports between the rooms of the house, those for types and inside of functions too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import anomaly_lib

HOUSE = Path(anomaly_lib.__file__).parent
LEAVES = {"errors", "files", "folders", "lazy", "pickles", "progress", "reading", "signals"}
GROUND = LEAVES | {"evaluation", "networks", "kernels", "datasets.transforms"}

# Of each room, the others that it may import from. The front door, __init__ and __main__, opens onto all.
ALLOWED = {
    **dict.fromkeys(LEAVES, LEAVES),
    "kernels": LEAVES,
    "networks": LEAVES,
    "evaluation": LEAVES,
    "datasets": LEAVES | {"kernels"},
    "predict": LEAVES | {"evaluation", "datasets"},
    "detectors": GROUND | {"predict"},
    "views.plots": GROUND | {"predict", "detectors", "datasets"},
    "runs": GROUND | {"predict", "detectors", "datasets", "views.plots"},
    "views": GROUND | {"predict", "detectors", "datasets", "runs"},
    "tables": GROUND | {"detectors", "datasets", "views", "runs"},
    "sweeps": GROUND | {"detectors", "views", "runs"},
    "federated": GROUND | {"datasets", "detectors", "views", "runs"},
    "commands": GROUND
    | {"predict", "detectors", "datasets", "views", "runs", "tables", "sweeps", "federated"},
}


def name_of(file: Path) -> str:
    """Return the name of a module within the package: ``views.plots`` of its ``__init__.py``."""
    parts = file.relative_to(HOUSE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of the package that `file` imports, wherever in it; the front door is nameless."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for package, _, name in (name.partition(".") for name in names):
            if package == "anomaly_lib":
                yield name if name in FILES else name.rpartition(".")[0]


FILES = {name_of(file): file for file in sorted(HOUSE.rglob("*.py"))}
IMPORTS = {name: set(imported(file)) for name, file in FILES.items()}


def is_in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_go_one_way(room: str) -> None:
    wrong = [
        f"{module} imports {other or 'the front door'}"
        for module in FILES
        for other in IMPORTS[module]
        if is_in(module, room) and not any(is_in(other, allowed) for allowed in {room, *ALLOWED[room]})
    ]
    assert not wrong


def test_the_argument_lists_need_nothing_but_leaves() -> None:
    assert IMPORTS["commands.arguments"] <= LEAVES


def test_every_module_is_in_a_room() -> None:
    assert not [name for name in FILES if not any(is_in(name, room) for room in ("", "__main__", *ALLOWED))]


def test_no_imports_go_in_a_circle() -> None:
    left = set(IMPORTS)
    while loose := {
        name for name in left if not (IMPORTS[name] & left and any(name in IMPORTS[other] for other in left))
    }:
        left -= loose
    assert not {name: IMPORTS[name] & left for name in left}
