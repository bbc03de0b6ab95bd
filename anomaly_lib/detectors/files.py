"""A model on disk: what it is in ``model.json``, its tensors in ``model.safetensors``; no pickle."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from anomaly_lib.errors import ModelFileError

FORMAT = 2
_PACKAGES = ("anomaly_lib", "torch", "timm")


def write_model(folder: Path, description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write a model into the existing `folder`; see `new_folder` for writing it whole or not at all."""
    if tensors:
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, folder / "model.safetensors")
    versions = {package: version(package) for package in _PACKAGES}
    document = {"format": FORMAT, "versions": versions, **description}
    (folder / "model.json").write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the description and the tensors of the model in `folder`.

    Raises
    ------
    ModelFileError
        When there is none, it is damaged, or a newer version of this library wrote it.
    """
    description = read_description(folder)
    file = folder / "model.safetensors"
    try:
        return description, load_file(file) if file.exists() else {}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of the model in `folder`, without its tensors; errors as in `read_model`."""
    file = folder / "model.json"
    if not file.is_file():
        raise ModelFileError(f"no model in {folder}: give a folder that holds model.json")
    try:
        description = json.loads(file.read_text())
    except (ValueError, OSError) as error:
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error
    if not isinstance(description, dict):
        raise ModelFileError(f"the model in {folder} is damaged (model.json): train it again")
    if description.get("format", 0) > FORMAT:
        raise ModelFileError(
            f"the model in {folder} has format {description['format']}; this library reads up to {FORMAT}: "
            "update anomaly_lib"
        )
    return description


def nan_to_none(value: float) -> float | None:
    """Return `value` as JSON can hold it."""
    return None if math.isnan(value) else value


def none_to_nan(value: float | None) -> float:
    """Return what `nan_to_none` was given."""
    return math.nan if value is None else value


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes when it fails.

    Raises
    ------
    ModelFileError
        When `folder` is there already and not a model's, whose files it would replace.
    """
    folder = folder.resolve()
    if (
        folder.exists()
        and not (folder / "model.json").is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise ModelFileError(f"{folder} holds other files and no model: save to a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
