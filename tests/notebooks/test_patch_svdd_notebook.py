"""The notebook of Patch SVDD as it runs in its quick setting."""

import re

import pytest
from nbformat import NotebookNode
from notebook_files import FOLDER, cell, figures, printed, read, require_readable

from anomaly_lib.views.notebook_page import run_notebook


@pytest.fixture(scope="module")
def executed() -> NotebookNode:
    """Return the notebook run in the quick setting."""
    document = read("patch_svdd.ipynb")
    assert run_notebook(document, FOLDER, quick=True) is None
    return document


@pytest.mark.parametrize("name", ["puzzle", "losses", "maps", "nearest"])
def test_shows_every_figure_at_the_width_of_a_notebook(executed: NotebookNode, name: str) -> None:
    shown = figures(cell(executed, name))
    assert len(shown) == 1
    require_readable(shown)


def test_the_position_loss_falls(executed: NotebookNode) -> None:
    losses = re.findall(r"epoch \d+ of 6: loss ([\d.]+),", printed(cell(executed, "train")))
    assert len(losses) == 6
    assert float(losses[-1]) < float(losses[0]) - 0.3


def test_shows_the_aurocs_of_four_maps(executed: NotebookNode) -> None:
    (html,) = [output.data["text/html"] for output in cell(executed, "table").outputs]
    assert all(f"<th>{kind}</th>" in html for kind in ("K64", "K32", "sum", "product"))
    assert html.count("<tr") == 3
