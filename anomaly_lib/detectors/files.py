"""A model on disk: what it is in ``model.json``, its tensors in ``model.safetensors``; no pickle.

Format 2 keeps the SHA-256 of the tensors' file beside the description, so that damage is noticed.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from anomaly_lib.errors import ModelFileError
from anomaly_lib.files import replace_folder, written_in_full

FORMAT = 2
_PACKAGES = ("anomaly_lib", "torch", "timm")
_DESCRIPTION, _TENSORS = "model.json", "model.safetensors"
# More text than any description has, and more nesting than any needs.
_LONGEST, _DEEPEST = 2**20, 20


class SavedTensors:
    """The tensors of a model file, each taken out once and checked for what it should be."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = dict(tensors)

    def names(self) -> list[str]:
        """Return the names of what has not been taken out."""
        return list(self._tensors)

    def take(self, name: str, *shape: int | None, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the tensor `name`, of this shape (``None``: any length) and type, all of it finite.

        Raises
        ------
        ModelFileError
            When it is missing or anything else.
        """
        tensor = self._take(name)
        fits = len(shape) == tensor.ndim and all(
            length in (None, actual) for length, actual in zip(shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype:
            raise _unfit(name, tensor)
        return tensor

    def take_float(self, name: str) -> torch.Tensor:
        """Return the tensor `name`, of any shape and fp32 or fp64, all of it finite; errors as in `take`."""
        tensor = self._take(name)
        if tensor.dtype not in (torch.float32, torch.float64):
            raise _unfit(name, tensor)
        return tensor

    def rest(self) -> dict[str, torch.Tensor]:
        """Return what has not been taken out, as it is."""
        return dict(self._tensors)

    def _take(self, name: str) -> torch.Tensor:
        if name not in self._tensors:
            raise ModelFileError(f"the model lacks the tensor {name}: train it again")
        tensor = self._tensors.pop(name)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelFileError(f"the model's tensor {name} is not finite: train it again")
        return tensor


def write_model(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a model into the existing `folder`; see `new_model_folder` for writing it whole or not at all."""
    document: dict[str, Any] = {"format": FORMAT, "versions": {name: version(name) for name in _PACKAGES}}
    if tensors:
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with written_in_full(folder / _TENSORS, SafetensorError):
            save_file(on_cpu, folder / _TENSORS)
        document["sha256"] = _sha256(folder / _TENSORS)
    document |= description
    (folder / _DESCRIPTION).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_model(folder: Path) -> tuple[dict[str, Any], SavedTensors]:
    """Return the description and the tensors of the model in `folder`.

    Raises
    ------
    ModelFileError
        When there is none, it is damaged, or a newer version of this library wrote it.
    """
    while True:
        identity = _identity(folder / _DESCRIPTION)
        description = read_description(folder)
        if whole := _whole_tensors(folder, description):
            return description, whole[0]
        # Another process may have saved over the model between the reading of its two files.
        if _identity(folder / _DESCRIPTION) == identity:
            raise ModelFileError(
                f"the model in {folder} is damaged: {_TENSORS} is not what was saved; train it again"
            )


def _whole_tensors(folder: Path, description: Mapping[str, Any]) -> tuple[SavedTensors] | None:
    """Return the tensors that belong to the description, or nothing where the file is another one."""
    file, checksum = folder / _TENSORS, description.get("sha256")
    try:
        if checksum is None and not file.exists():
            return (SavedTensors({}),)
        content = file.read_bytes()
        if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
            return None
        return (SavedTensors(load(content)),)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of the model in `folder`, without its tensors; errors as in `read_model`."""
    file = folder / _DESCRIPTION
    if not file.is_file():
        raise ModelFileError(f"no model in {folder}: give a folder that holds {_DESCRIPTION}")
    try:
        if file.stat().st_size > _LONGEST:
            raise ValueError(f"{_DESCRIPTION} is longer than {_LONGEST} bytes")
        description = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error
    if not isinstance(description, dict) or _depth(description) > _DEEPEST:
        raise ModelFileError(f"the model in {folder} is damaged ({_DESCRIPTION}): train it again")
    format_ = description.get("format", 0)
    if not isinstance(format_, int):
        raise ModelFileError(f"the model in {folder} is damaged (its format): train it again")
    if format_ > FORMAT:
        raise ModelFileError(
            f"the model in {folder} has format {format_}; this library reads up to {FORMAT}: "
            "update anomaly_lib"
        )
    return description


def _unfit(name: str, tensor: torch.Tensor) -> ModelFileError:
    return ModelFileError(
        f"the model's tensor {name} is {tensor.dtype} of shape {tuple(tensor.shape)}: train it again"
    )


def nan_to_none(value: float) -> float | None:
    """Return `value` as JSON can hold it."""
    return None if math.isnan(value) else value


def none_to_nan(value: Any) -> float:
    """Return what `nan_to_none` was given.

    Raises
    ------
    ModelFileError
        When it is no number that is finite or missing.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelFileError(f"the model's threshold is {value!r}: train it again")
    return float(value)


@contextmanager
def new_model_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes when it fails.

    A model that is there is replaced; there is a whole one, the old or the new, at any time.

    Raises
    ------
    ModelFileError
        When `folder` is there already and holds anything but a model, which it would replace.
    """
    folder = folder.resolve()
    _require_replaceable(folder)
    with replace_folder(folder) as unfinished:
        yield unfinished
        _require_replaceable(folder)  # something may have been put there in the meantime


def _require_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is a file: save to a new folder")
    names = {path.name for path in folder.iterdir()}
    others = sorted(name for name in names if not _is_of_a_model(folder / name))
    if others or (names and _DESCRIPTION not in names):
        example = f", {others[0]} among them" if others else ""
        raise ModelFileError(f"{folder} holds other files than a model{example}: save to a new folder")


def _is_of_a_model(path: Path) -> bool:
    if path.name.startswith("member_") and path.is_dir():
        return all(_is_of_a_model(inner) for inner in path.iterdir())
    return path.name in (_DESCRIPTION, _TENSORS) and path.is_file()


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name."""
    with suppress(OSError):
        status = file.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _depth(value: Any) -> int:
    """Return how deeply lists and dictionaries are nested."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict | list) and depth <= _DEEPEST:
            inner = item.values() if isinstance(item, dict) else item
            waiting += [(one, depth + 1) for one in inner]
    return deepest
