"""Progress bars are drawn where somebody watches: on a terminal and in a notebook, and nowhere else."""

import sys
import time
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


def test_a_log_hears_of_a_long_stage_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("ipykernel.")]:
        monkeypatch.delitem(sys.modules, name)
    seconds = iter([0.0, *range(1, 100)])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    caplog.set_level("INFO")
    with progress_bars() as progress:
        for done in range(76):
            progress("bottle: embed", done, 75)
    assert caplog.messages == ["bottle: embed: 29 of 75", "bottle: embed: 59 of 75"]
