"""A notebook run from top to bottom without a browser, and kept as one HTML page."""

import asyncio
import copy
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from anomaly_lib import folders
from anomaly_lib.errors import AnomalyError
from anomaly_lib.files import new_file
from anomaly_lib.progress import Progress, silent
from anomaly_lib.signals import stoppable

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

_WORKSHOP = "workshop.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_SCORES = "scores"  # tag of the cell whose table says how good the detectors are

# The page as `nbconvert` makes it loads scripts for formulas and widgets from the internet; it has neither.
_PAGE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block extra_css -%}
<style>
main { max-width: 1100px; margin: 0 auto }
details { margin: 0.5em 0 }
summary { cursor: pointer }
</style>
{%- endblock -%}
"""


def find_workshop() -> Path:
    """Return the workshop's notebook: below or in the current directory, else in the library's repository.

    Raises
    ------
    AnomalyError
        When it is in none of them.
    """
    repository = Path(folders.__file__).resolve().parents[1]
    for folder in (Path("notebooks"), Path(), repository / "notebooks"):
        if (folder / _WORKSHOP).is_file():
            return folder / _WORKSHOP
    raise AnomalyError(
        f"{_WORKSHOP} is not in this directory and not part of an installed package: "
        "run this in the repository, or say where it is by `notebook`"
    )


def read_notebook(file: Path) -> "NotebookNode":
    """Return the notebook in `file`.

    Raises
    ------
    AnomalyError
        When the file is none.
    """
    import nbformat

    wrong = (ValueError, TypeError, LookupError, AttributeError, RecursionError, nbformat.ValidationError)
    try:
        if not file.is_file():  # a pipe would be waited for
            raise ValueError
        document: NotebookNode = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(document)
    except wrong as error:
        raise AnomalyError(f"{file} is not a notebook: give a file that JupyterLab opens") from error
    return document


def run_notebook(
    document: "NotebookNode", folder: Path, quick: bool, progress: Progress = silent
) -> str | None:
    """Execute the notebook in place, in `folder`; return a sentence about the cell that failed, if any.

    `progress` is told the heading that the notebook is at and how many of all its cells are done, once a
    second, so that a clock can run.
    """
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    place = _Place(document, progress)
    client = NotebookClient(
        document,
        # Without folders to look for others in, the kernel is that of the interpreter which runs this.
        AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            transport_encryption="auto" if zmq.has("curve") else "disabled",
        ),
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        on_cell_execute=place.begin,
        on_cell_executed=place.end,
    )
    try:
        asyncio.run(_execute(client, place, _environment(quick)))
    except CellExecutionError as error:
        return f"{place} failed: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"{place} stopped: its process died, perhaps for want of memory"
    return None


def _environment(quick: bool) -> dict[str, str]:
    """Return the kernel's environment variables."""
    settings = {"ANOMALY_QUICK": str(int(quick)), "ANOMALY_WORK": str(folders.work_folder())}
    return os.environ | settings


async def _execute(client: "NotebookClient", place: "_Place", environment: dict[str, str]) -> None:
    clock = asyncio.create_task(place.tick())
    with TemporaryFile() as words:  # what the kernel itself says: shown when it died, not when it was stopped
        try:
            await stoppable(client.async_execute(env=environment, cleanup_kc=True, stderr=words))
        except RuntimeError:
            words.seek(0)
            sys.stderr.write(words.read().decode(errors="backslashreplace"))
            raise
        finally:
            clock.cancel()


class _Place:
    """Where in the notebook its execution is."""

    def __init__(self, document: "NotebookNode", progress: Progress) -> None:
        self._headings = _headings(document)
        self._heading = ""
        self._cells = sum(cell.cell_type == "code" for cell in document.cells)
        self._begun = self._done = 0
        self._progress = progress

    def __str__(self) -> str:
        return f"cell [{self._begun}], {self._heading!r},"

    def begin(self, cell: "NotebookNode", cell_index: int) -> None:
        """Note that a cell begins."""
        self._begun += 1
        self._heading = self._headings[cell_index]
        self._report()

    def end(self, **_: Any) -> None:
        """Note that the cell ended."""
        self._done += 1
        self._report()

    async def tick(self) -> None:
        """Report every second while a cell runs."""
        while True:
            await asyncio.sleep(1)
            self._report()

    def _report(self) -> None:
        self._progress(self._heading, self._done, self._cells)


def _headings(document: "NotebookNode") -> list[str]:
    """Return the heading above each cell."""
    headings, current = [], ""
    for cell in document.cells:
        found = re.search(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        current = found[1] if found else current
        headings.append(current)
    return headings


def require_writable(output: Path) -> None:
    """Raise an `OSError` where the page could not be written, before the notebook takes its time."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=output.parent):
        pass


def write_page(document: "NotebookNode", output: Path) -> None:
    """Write the executed notebook as HTML that needs no other file and no network."""
    from nbconvert import HTMLExporter

    document = copy.deepcopy(document)
    for cell in document.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not _is_leftover(one)]
    # Not embed_images: figures are embedded in any case, and it would close <details> before their content.
    exporter = HTMLExporter(raw_template=_PAGE)  # type: ignore[no-untyped-call]
    html: str = exporter.from_notebook_node(document)[0]
    with new_file(output) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def _is_leftover(output: "NotebookNode") -> bool:
    """Whether an output is worth nothing without its kernel: widgets, and among them progress bars."""
    if output.output_type == "stream":
        return all(re.search(r"\d+%\|", line) or not line.strip() for line in output.text.splitlines())
    return _WIDGET in output.get("data", {})


def shown_scores(document: "NotebookNode") -> str:
    """Return what the cells tagged ``scores`` show, as plain text; nothing where none is."""
    cells = [cell for cell in document.cells if _SCORES in cell.metadata.get("tags", ())]
    shown = [one["data"].get("text/plain", "") for cell in cells for one in cell.outputs if "data" in one]
    return "\n".join(shown)
