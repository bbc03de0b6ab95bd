"""Notebooks that are run without a browser, and their pages."""

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from anomaly_lib.errors import AnomalyError
from anomaly_lib.views import notebook_page
from anomaly_lib.views.notebook_page import (
    find_workshop,
    read_notebook,
    run_notebook,
    shown_scores,
    write_page,
)


def notebook(*sources: str) -> NotebookNode:
    """Return a notebook of code, and of markdown where a source is a heading."""
    return new_notebook(
        cells=[new_markdown_cell(one) if one.startswith("#") else new_code_cell(one) for one in sources]
    )


def page(document: NotebookNode, folder: Path) -> str:
    write_page(document, folder / "pages" / "page.html")
    return (folder / "pages" / "page.html").read_text(encoding="utf-8")


def test_a_failing_cell_is_named_and_what_ran_is_kept(tmp_path: Path, recorder: Any) -> None:
    document = notebook("## Sums", "print(1 + 1)", "## Shares", "1 / 0", "print('never')")
    said = run_notebook(document, tmp_path, quick=True, progress=recorder)
    assert said == "cell [2], 'Shares', failed: ZeroDivisionError: division by zero"
    told = list(dict.fromkeys(call for call in recorder.calls if call[0]))  # not the kernel's start
    assert told == [("Sums", 0, 3), ("Sums", 1, 3), ("Shares", 1, 3), ("Shares", 2, 3)]
    text = page(document, tmp_path)
    assert "<pre>2\n</pre>" in text
    assert "ZeroDivisionError" in text
    assert "<pre>never" not in text


def test_a_dead_kernel_is_a_sentence(tmp_path: Path) -> None:
    said = run_notebook(notebook("import os", "os._exit(1)"), tmp_path, quick=True)
    assert said == "cell [2], '', stopped: its process died, perhaps for want of memory"


def test_the_kernel_is_this_interpreter_in_the_notebooks_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["no-such-program"], "display_name": "Other", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    document = notebook(
        "import os, sys; print(sys.executable, os.getcwd(), os.environ['ANOMALY_QUICK'], sep='\\n')"
    )
    assert run_notebook(document, tmp_path, quick=False) is None
    assert document.cells[0].outputs[0].text == f"{sys.executable}\n{tmp_path}\n0\n"


@pytest.mark.slow
def test_progress_is_told_while_a_cell_runs(tmp_path: Path, recorder: Any) -> None:
    document = notebook("## Waiting", "import time; time.sleep(2.5)")
    assert run_notebook(document, tmp_path, quick=True, progress=recorder) is None
    assert recorder.calls.count(("Waiting", 0, 1)) >= 3
    assert recorder.calls[-1] == ("Waiting", 1, 1)


def test_what_needs_a_kernel_is_left_out_of_the_page_but_not_of_the_notebook(tmp_path: Path) -> None:
    document = notebook("show()")
    document.cells[0].outputs = [
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"}),
        new_output("stream", name="stderr", text="steel: 50%|#####     | 5/10\n\n"),
        new_output("stream", name="stdout", text="kept\n"),
    ]
    text = page(document, tmp_path)
    assert "kept" in text
    assert "VBox()" not in text
    assert "5/10" not in text
    assert len(document.cells[0].outputs) == 3


def test_scores_are_those_of_the_tagged_cells() -> None:
    document = notebook("1", "2")
    for one, shown in zip(document.cells, ("first", "second"), strict=True):
        one.outputs = [new_output("execute_result", {"text/plain": shown}, execution_count=1)]
    assert shown_scores(document) == ""
    document.cells[1].metadata.tags = ["scores"]
    assert shown_scores(document) == "second"


def test_a_notebook_is_read_and_another_file_is_named(tmp_path: Path) -> None:
    nbformat.write(notebook("1"), tmp_path / "small.ipynb")
    assert read_notebook(tmp_path / "small.ipynb").cells[0].source == "1"
    (tmp_path / "text.ipynb").write_bytes(b"\xff\xfe")
    with pytest.raises(AnomalyError, match=r"text\.ipynb is not a notebook"):
        read_notebook(tmp_path / "text.ipynb")


def test_the_workshop_is_found_here_before_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    repository = Path(notebook_page.__file__).parents[2]
    assert find_workshop() == repository / "notebooks" / "workshop.ipynb"
    (tmp_path / "workshop.ipynb").touch()
    assert find_workshop() == Path("workshop.ipynb")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "workshop.ipynb").touch()
    assert find_workshop() == Path("notebooks/workshop.ipynb")
