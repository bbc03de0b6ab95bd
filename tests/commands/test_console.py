"""Progress bars are drawn where somebody watches: on a terminal and in a notebook, and nowhere else."""

import sys
from types import ModuleType

import pytest

from anomaly_lib.commands.console import progress_bars


@pytest.mark.parametrize(
    ("module", "drawn"), [("ipykernel.kernelapp", True), ("ipykernel.kernelspec", False)]
)
def test_bars_are_drawn_in_a_kernel_and_not_by_a_program_that_starts_one(
    module: str, drawn: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("ipykernel.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    with progress_bars() as progress:
        progress("features", 0, 4)
        progress("features", 2, 4)
        progress("coreset", 0, 3)
    said = capsys.readouterr().err
    assert ("features" in said and "coreset" in said) == drawn
    assert drawn or said == ""
