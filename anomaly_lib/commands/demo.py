"""``anomaly demo``: the workshop from top to bottom without a browser, kept as one HTML page."""

import asyncio
import copy
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from anomaly_lib import folders
from anomaly_lib.commands.common import UserError
from anomaly_lib.files import new_file

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

_NOTEBOOK = "workshop.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_SCORES = "scores"  # tag of the cell whose table is printed at the end

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


@click.command(name="demo")
@click.option(
    "--quick/--full", envvar="ANOMALY_QUICK", help="Fewer categories and smaller images: one minute."
)
@click.option(
    "--notebook",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Another notebook than the workshop.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page. Default: demo/workshop.html in the work folder.",
)
def main(quick: bool, notebook: Path | None, output: Path | None) -> None:
    """Run the workshop notebook and keep it as a page with all tables and figures."""
    import nbformat

    notebook = (notebook or _find_notebook()).absolute()
    output = (output or folders.work_folder() / "demo" / f"{notebook.stem}.html").absolute()
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    click.echo(f"{notebook.name}: {'quick' if quick else 'full'} setting, results in {folders.work_folder()}")
    failure = run_notebook(document, notebook.parent, quick)
    with new_file(output) as unfinished:
        unfinished.write_text(_page(document), encoding="utf-8")
    if table := _tagged_text(document, _SCORES):
        click.echo(f"\n{table}\n")
    click.echo(f"Page: {output}")
    if failure:
        raise click.ClickException(failure)


def _find_notebook() -> Path:
    """Return the workshop's notebook: below or in the current directory, else in the library's repository."""
    repository = Path(folders.__file__).resolve().parents[1]
    for folder in (Path("notebooks"), Path(), repository / "notebooks"):
        if (folder / _NOTEBOOK).is_file():
            return folder / _NOTEBOOK
    raise UserError(
        f"{_NOTEBOOK} is not in this directory and not part of an installed package: "
        "run this in the repository, or say where it is with --notebook"
    )


def run_notebook(document: "NotebookNode", folder: Path, quick: bool) -> str | None:
    """Execute the notebook in place, in `folder`; return a sentence about the cell that failed, if any."""
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    progress = _Progress(document)
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
        on_cell_execute=progress.begin,
        on_cell_executed=progress.end,
    )
    settings = {"ANOMALY_QUICK": str(int(quick)), "ANOMALY_WORK": str(folders.work_folder())}
    try:
        asyncio.run(_execute(client, progress, {**os.environ, **settings}))
    except CellExecutionError as error:
        return f"{progress.place} failed: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"{progress.place} stopped: its process died, perhaps for want of memory"
    finally:
        progress.close()
    return None


async def _execute(client: "NotebookClient", progress: "_Progress", environment: dict[str, str]) -> None:
    clock = asyncio.create_task(progress.tick())
    try:
        await client.async_execute(env=environment, cleanup_kc=True)
    finally:
        clock.cancel()


class _Progress:
    """A line for each part of the notebook, and on a terminal a bar over its cells, below them."""

    def __init__(self, document: "NotebookNode") -> None:
        self._headings = _headings(document)
        self._heading = ""
        cells = sum(cell.cell_type == "code" for cell in document.cells)
        layout = "      {bar} {n_fmt} of {total_fmt} cells, {elapsed}"
        self._bar = tqdm(total=cells, bar_format=layout, leave=False, disable=None)
        self._start = time.monotonic()
        self._cell = 0

    @property
    def place(self) -> str:
        """Where the notebook is, in words."""
        return f"cell [{self._cell}], {self._heading!r},"

    def begin(self, cell: "NotebookNode", cell_index: int) -> None:
        """Say what the cell belongs to, if that is new."""
        self._cell += 1
        if self._headings[cell_index] != self._heading:
            self._heading = self._headings[cell_index]
            minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
            tqdm.write(f"{minutes:2d}:{seconds:02d}  {self._heading}")

    def end(self, **_: Any) -> None:
        """Count the cell."""
        self._bar.update()

    async def tick(self) -> None:
        """Keep the clock of the bar running while a cell does."""
        while True:
            await asyncio.sleep(1)
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def _headings(document: "NotebookNode") -> list[str]:
    """Return the heading above each cell."""
    headings, current = [], ""
    for cell in document.cells:
        found = re.search(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        current = found[1] if found else current
        headings.append(current)
    return headings


def _page(document: "NotebookNode") -> str:
    """Return the executed notebook as HTML that needs no other file and no network."""
    from nbconvert import HTMLExporter

    document = copy.deepcopy(document)
    for cell in document.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_leftover(output)]
    # Not embed_images: figures are embedded in any case, and it would close <details> before their content.
    exporter = HTMLExporter(raw_template=_PAGE)  # type: ignore[no-untyped-call]
    html: str = exporter.from_notebook_node(document)[0]
    return html


def _is_leftover(output: "NotebookNode") -> bool:
    """Whether an output is worth nothing without its kernel: widgets, and among them progress bars."""
    if output.output_type == "stream":
        return all(re.search(r"\d+%\|", line) or not line.strip() for line in output.text.splitlines())
    return _WIDGET in output.get("data", {})


def _tagged_text(document: "NotebookNode", tag: str) -> str:
    """Return what the cells with `tag` show, as plain text."""
    cells = [cell for cell in document.cells if tag in cell.metadata.get("tags", ())]
    shown = [
        output["data"].get("text/plain", "") for cell in cells for output in cell.outputs if "data" in output
    ]
    return "\n".join(shown)
