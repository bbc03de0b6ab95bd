import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner, Result

from anomaly_lib import folders, work_folder
from anomaly_lib.commands.demo import main


@pytest.fixture(scope="module")
def demo() -> Result:
    """Return what `anomaly demo --quick` printed."""
    return CliRunner().invoke(main, ["--quick"])


@pytest.fixture(scope="module")
def page(demo: Result) -> str:
    return (work_folder() / "demo" / "workshop.html").read_text(encoding="utf-8")


def notebook(folder: Path, *sources: str) -> Path:
    cells = [
        nbformat.v4.new_code_cell(source)
        if not source.startswith("#")
        else nbformat.v4.new_markdown_cell(source)
        for source in sources
    ]
    file = folder / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return file


def test_prints_progress_the_scores_and_where_to_look(demo: Result):
    assert demo.exit_code == 0, demo.output
    for task in range(1, 8):
        assert re.search(rf"^ ?\d+:\d\d  Task {task}: ", demo.output, re.M)
    assert re.search(r"^ +instance_auroc +full_pixel_auroc", demo.output, re.M)
    assert re.search(r"^Mean +[01]\.\d+", demo.output, re.M)
    assert demo.output.endswith(f"Page: {work_folder() / 'demo' / 'workshop.html'}\n")


def test_page_has_all_figures_and_tables(page: str):
    assert len(re.findall(r'<img[^>]+src="data:image/png;base64,', page)) >= 10
    assert page.count("<table") >= 4


def test_page_needs_no_network_and_no_other_file(page: str):
    sources = re.findall(r"<(?:img|script|iframe|source)\b[^>]*?\bsrc=\"([^\"]*)\"", page)
    assert all(source.startswith("data:") for source in sources)
    assert "<link" not in page
    assert not re.search(r"@import|url\([\"']?(?!data:)[^)]*\)|import .* from [\"']http", page)


def test_page_has_no_leftovers_of_widgets(page: str):
    assert "widget-view" not in page
    assert "VBox(" not in page
    assert not re.search(r"\d+%\|", page)


def test_solutions_are_folded_in_the_page(page: str):
    folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", page, re.S)
    assert len(folded) == 7
    assert all('<div class="highlight">' in solution for solution in folded)


def test_page_is_alone_in_its_folder(page: str):
    assert [file.name for file in (work_folder() / "demo").iterdir()] == ["workshop.html"]


def test_failing_cell_is_named_and_what_ran_is_kept(tmp_path: Path):
    file = notebook(tmp_path, "## Sums", "print(1 + 1)", "1 / 0", "print('never')")
    output = tmp_path / "pages" / "small.html"
    result = CliRunner().invoke(main, ["--notebook", str(file), "--output", str(output)])
    assert result.exit_code == 1
    assert "Error: cell [2], 'Sums', failed: ZeroDivisionError: division by zero" in result.output
    assert "Traceback" not in result.output
    assert "<pre>2\n</pre>" in output.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_setting_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANOMALY_QUICK", "1")
    file = notebook(tmp_path, "import os; print('quick is', os.environ['ANOMALY_QUICK'])")
    result = CliRunner().invoke(main, ["--notebook", str(file), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("small.ipynb: quick setting, results in ")
    assert "quick is 1" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_setting_that_makes_no_sense_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANOMALY_QUICK", "junk")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "ANOMALY_QUICK" in result.output
    assert "'junk' is not a valid boolean" in result.output


def test_missing_notebook_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "site-packages" / "anomaly_lib" / "folders.py"))
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert result.output.startswith("Error: workshop.ipynb is not in this directory")
    assert result.output.count("\n") == 1


NO_CELLS = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}'


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"nbformat": 9}', "text", NO_CELLS, "[" * 100_000])
def test_a_file_that_is_no_notebook_is_a_sentence(tmp_path: Path, content: str):
    (tmp_path / "file.ipynb").write_text(content)
    result = CliRunner().invoke(main, ["--notebook", str(tmp_path / "file.ipynb")])
    assert result.exit_code == 2
    assert result.output == (
        f"Error: {tmp_path / 'file.ipynb'} is not a notebook: give a file that JupyterLab opens\n"
    )


def test_a_pipe_is_no_notebook_and_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.ipynb")
    result = CliRunner().invoke(main, ["--notebook", str(tmp_path / "pipe.ipynb")])
    assert result.exit_code == 2
    assert "pipe.ipynb is not a notebook" in result.output


@pytest.mark.parametrize("place", ["a file/page.html", "page\0.html"])
def test_a_page_that_cannot_be_written_is_found_before_the_notebook_runs(tmp_path: Path, place: str):
    (tmp_path / "a file").touch()
    file = notebook(tmp_path, f"open({str(tmp_path / 'it ran')!r}, 'w')")
    result = CliRunner().invoke(main, ["--notebook", str(file), "--output", str(tmp_path / place)])
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_with_its_kernel_and_without_a_word_of_python(
    tmp_path: Path, number: int, status: int
):
    cell = f"import os, time; open({str(tmp_path / 'kernel')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    line = ["demo", "--notebook", str(notebook(tmp_path, cell)), "--output", str(tmp_path / "page.html")]
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_lib", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    kernel = tmp_path / "kernel"
    until = time.monotonic() + 60
    while not (kernel.exists() and kernel.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert not Path(f"/proc/{kernel.read_text()}").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kernel", "small.ipynb"]
