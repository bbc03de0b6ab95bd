"""The Gaussian notebook as it runs in its quick setting."""

from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from notebook_files import FOLDER, cell, figures, printed, read, require_readable

from anomaly_lib.views.notebook_page import run_notebook

FIGURES = ("levels", "auroc", "pca", "sigma", "contamination", "map", "extremes")


@pytest.fixture(scope="module")
def executed() -> NotebookNode:
    """Return the notebook run in the quick setting."""
    document = read("gaussian.ipynb")
    assert run_notebook(document, FOLDER, quick=True) is None
    return document


def test_shows_every_figure_at_the_width_of_a_notebook(executed: NotebookNode) -> None:
    for name in FIGURES:
        shown = figures(cell(executed, f"{name}-figure"))
        assert len(shown) == 1, name
        require_readable(shown)


def test_the_extremes_are_four_images(executed: NotebookNode) -> None:
    one, four = (figures(cell(executed, f"{name}-figure"))[0] for name in ("map", "extremes"))
    assert four.height > 2.5 * one.height


@pytest.mark.parametrize(("name", "rows"), [("sum-table", 3), ("pca", 10)])
def test_shows_the_tables(executed: NotebookNode, name: str, rows: int) -> None:
    shown = [output.data for output in cell(executed, name).outputs if "data" in output]
    (html,) = [data["text/html"] for data in shown if "<table" in data.get("text/html", "")]
    assert html.count("<tr") - 1 >= rows


def test_says_what_the_thresholds_do(executed: NotebookNode) -> None:
    lines = printed(cell(executed, "thresholds")).splitlines()
    assert [line.split(":")[0] for line in lines] == ["steel", "connector"]
    assert all("of the defective and" in line for line in lines)


@pytest.mark.slow
def test_runs_on_a_folder_of_one_s_own_without_masks(
    write_category: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_category(tmp_path, "lid", train=6, good=2, defects={"spot": 2}, masks=False)
    write_category(tmp_path, "nothing", train=3, good=2, defects={})
    monkeypatch.setenv("ANOMALY_DATA", str(tmp_path))
    document = read("gaussian.ipynb")
    assert run_notebook(document, FOLDER, quick=True) is None
    assert printed(cell(document, "thresholds")).startswith("lid:")
