"""What the tests of the notebooks share: reading them, and looking at what they showed."""

import ast
import base64
import io
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def read(file: Path | str) -> NotebookNode:
    """Return the notebook at `file`, or called so."""
    return nbformat.read(FOLDER / file, as_version=4)


def cell(document: NotebookNode, cell_id: str) -> NotebookNode:
    return next(one for one in document.cells if one.id == cell_id)


def code_of(document: NotebookNode, further: Iterable[str] = ()) -> list[ast.Module]:
    """Return the parsed code cells, and further sources likewise."""
    sources = [one.source for one in document.cells if one.cell_type == "code"]
    return [ast.parse(source) for source in [*sources, *further]]


def figures(one: NotebookNode) -> list[Image.Image]:
    shown = [output.get("data", {}).get("image/png") for output in one.outputs]
    return [Image.open(io.BytesIO(base64.b64decode(png))) for png in shown if png]


def printed(one: NotebookNode) -> str:
    return "".join(output.text for output in one.outputs if output.output_type == "stream")


def require_readable(pictures: Iterable[Image.Image]) -> None:
    """Assert that the pictures are as wide as a notebook and show something."""
    for picture in pictures:
        assert 1000 <= picture.width <= 2000  # twice the pixels of the screen
        assert np.asarray(picture.convert("L")).std() > 5
