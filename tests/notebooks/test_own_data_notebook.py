"""The notebook of one's own photographs as it runs in its quick setting."""

from pathlib import Path

import pytest
from nbformat import NotebookNode
from notebook_files import FOLDER, cell, figures, printed, read, require_readable

from anomaly_lib.views.notebook_page import run_notebook


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def executed(work: Path) -> NotebookNode:
    """Return the notebook run in the quick setting, in a work folder of its own."""
    document = read("own_data.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANOMALY_WORK", str(work))
        assert run_notebook(document, FOLDER, quick=True) is None
    return document


def test_goes_from_photographs_to_answers(executed: NotebookNode) -> None:
    assert "nothing would spoil the results" in printed(cell(executed, "check"))
    assert "fitted on 40 of 40 pictures" in printed(cell(executed, "fit"))
    [found] = [line for line in printed(cell(executed, "predict")).splitlines() if "anomalous" in line]
    anomalous, good = (int(part.split()[0]) for part in found.split(", "))
    assert 20 <= anomalous <= 26  # of 24 defects and 12 good parts
    assert anomalous + good == 36


def test_shows_the_worst_and_the_calibration(executed: NotebookNode) -> None:
    assert len(figures(cell(executed, "marked"))) == 1
    shown = figures(cell(executed, "calibration-figure"))
    assert len(shown) == 1
    require_readable(shown)


def test_what_is_allowed_is_learned_and_undone(executed: NotebookNode) -> None:
    lines = printed(cell(executed, "update")).splitlines()
    assert [line.split()[0] for line in lines if line.endswith(".png")] == ["good", "anomalous"]


def test_leaves_a_report(executed: NotebookNode, work: Path) -> None:
    assert "defects missed" in printed(cell(executed, "measure"))
    assert len(list((work / "photographs" / "results").rglob("report.html"))) == 1
