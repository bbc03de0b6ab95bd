"""The notebooks as they are written, and the workshop as it runs in its quick setting."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat import NotebookNode
from notebook_files import FOLDER, cell, code_of, figures, printed, read, require_readable

from anomaly_lib import load_results
from anomaly_lib.views.notebook_page import run_notebook

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PUBLIC = {"anomaly_lib", "anomaly_lib.commands", "anomaly_lib.views"}
TASKS = range(1, 8)
FIGURES = {
    "gallery": 2,
    "task-1-figure": 1,
    "task-2-figure": 1,
    "task-3-figure": 1,
    "task-4-image-histogram": 1,
    "task-4-pixel-histogram": 1,
    "task-4-confusion": 1,
    "task-5-figure": 1,
    "task-6-figure": 1,
    "task-7-figure": 1,
}


def solution(document: NotebookNode, task: int) -> str:
    """Return the code that is folded below a task."""
    text = cell(document, f"task-{task}-your-turn").source
    found = re.search(
        r"^<details><summary>Solution</summary>\n\n```python\n(.+?)\n```\n\n</details>$", text, re.M | re.S
    )
    assert found, f"task {task} has no folded solution"
    return found[1]


def assert_public_names_only(trees: list[ast.Module]) -> None:
    for tree in trees:
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not [name for name in names if name.startswith("_")]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def imported_modules(trees: list[ast.Module]) -> set[str]:
    nodes = [node for tree in trees for node in ast.walk(tree)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def assert_public_modules_only(trees: list[ast.Module]) -> None:
    ours = {name for name in imported_modules(trees) if name.split(".")[0] == "anomaly_lib"}
    assert ours <= PUBLIC


def workshop() -> NotebookNode:
    return read("workshop.ipynb")


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
class TestEveryNotebook:
    def test_is_valid_and_has_no_output(self, file: Path):
        document = read(file)
        nbformat.validate(document)
        assert document.metadata.kernelspec.name == "python3"
        assert "widgets" not in document.metadata
        for one in document.cells:
            if one.cell_type == "code":
                assert one.outputs == []
                assert one.execution_count is None

    def test_has_cell_ids_that_a_person_chose(self, file: Path):
        ids = [one.id for one in read(file).cells]
        assert len(set(ids)) == len(ids)
        assert not [name for name in ids if re.fullmatch("[0-9a-f]{8}(-.*)?", name)]

    def test_uses_public_names_only(self, file: Path):
        assert_public_names_only(code_of(read(file)))

    def test_imports_from_the_public_modules_only(self, file: Path):
        trees = code_of(read(file))
        assert "anomaly_lib" in imported_modules(trees)
        assert_public_modules_only(trees)

    def test_has_no_cell_longer_than_it_teaches(self, file: Path):
        for one in read(file).cells:
            if one.cell_type == "code" and one.id != "imports":
                assert len(one.source.splitlines()) <= 25, one.id

    def test_names_no_place_on_a_certain_machine(self, file: Path):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|Users|work|tmp)/|[A-Z]:\\\\", text)


def test_solutions_are_code():
    document = workshop()
    trees = code_of(document, [solution(document, task) for task in TASKS])
    assert_public_names_only(trees)
    assert_public_modules_only(trees)


@pytest.mark.parametrize("task", TASKS)
def test_task_explains_asks_hints_and_answers(task: int):
    document = workshop()
    ids = [one.id for one in document.cells]
    assert re.match(rf"## Task {task}: .+\n\n.{{200}}", cell(document, f"task-{task}").source, re.S)
    turn = cell(document, f"task-{task}-your-turn").source
    assert turn.startswith("**Your turn.** ")
    assert re.search(r"^\*Hint:\* .{20}", turn, re.M)
    compile(solution(document, task), "solution", "exec")
    assert ids.index(f"task-{task}-your-turn") + 1 == ids.index(f"task-{task}-your-code")


@pytest.fixture(scope="module")
def executed() -> NotebookNode:
    """Return the notebook run in the quick setting, each solution in its task, and Task 1 once more."""
    document = workshop()
    for task in TASKS:
        place = document.cells.index(cell(document, f"task-{task}-your-code"))
        answer = nbformat.v4.new_code_cell(solution(document, task), id=f"task-{task}-solution")
        document.cells.insert(place + 1, answer)
    remember = nbformat.v4.new_code_cell("first_run = run", id="remember")
    again = nbformat.v4.new_code_cell(cell(document, "task-1-train").source, id="again")
    compare = nbformat.v4.new_code_cell("print(first_run, run, sep='\\n')", id="compare")
    document.cells += [remember, again, compare]
    assert run_notebook(document, FOLDER, quick=True) is None
    return document


def test_runs_without_an_error(executed: NotebookNode):
    kinds = {output.output_type for one in executed.cells if "outputs" in one for output in one.outputs}
    assert "error" not in kinds


def test_shows_every_figure_at_the_width_of_a_notebook(executed: NotebookNode):
    shown = {name: figures(cell(executed, name)) for name in FIGURES}
    assert {name: len(pictures) for name, pictures in shown.items()} == FIGURES
    assert sum(FIGURES.values()) >= 10
    for pictures in shown.values():
        require_readable(pictures)


@pytest.mark.parametrize("name", ["task-3-table", "task-5-table", "task-6-table", "task-7-train"])
def test_shows_the_tables(executed: NotebookNode, name: str):
    shown = [output.data for output in cell(executed, name).outputs if "data" in output]
    (html,) = [data["text/html"] for data in shown if "text/html" in data]
    assert html.count("<tr") >= 3


@pytest.mark.parametrize("task", TASKS)
def test_solution_shows_something(executed: NotebookNode, task: int):
    assert cell(executed, f"task-{task}-solution").outputs


def test_evaluation_repeats_the_training_to_the_last_digit(executed: NotebookNode):
    assert "Largest difference to Task 1: 0.0\n" in printed(cell(executed, "task-2-evaluate"))


def test_worst_and_best_category_differ(executed: NotebookNode):
    worst, best = (printed(cell(executed, f"task-{task}-table")).strip() for task in (5, 6))
    assert worst != best


def test_a_cell_that_trains_again_reads_its_own_run(executed: NotebookNode):
    folders = [Path(line) for line in printed(cell(executed, "compare")).split("\n") if line]
    assert len(set(folders)) == 2
    first, second = (load_results(folder) for folder in folders)
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"defects": {}, "good": 2}, "nothing to draw"),
        ({"masks": False, "good": 0}, "no pixels to compare"),
    ],
    ids=["no defects", "no masks and no good test images"],
)
def test_runs_on_a_folder_with_little_to_measure_by(
    files: dict[str, Any], message: str, write_category: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_category(tmp_path, "lid", train=3, **files)
    monkeypatch.setenv("ANOMALY_DATA", str(tmp_path))
    document = workshop()
    assert run_notebook(document, FOLDER, quick=True) is None
    assert message in "".join(printed(one) for one in document.cells if one.cell_type == "code")


@pytest.mark.slow
def test_says_so_when_a_folder_has_no_test_images(
    write_category: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_category(tmp_path, "lid", train=3, good=0, defects={})
    monkeypatch.setenv("ANOMALY_DATA", str(tmp_path))
    failure = run_notebook(workshop(), FOLDER, quick=True)
    assert failure is not None
    assert failure.endswith("has test images: put a few good parts into test/good.")
