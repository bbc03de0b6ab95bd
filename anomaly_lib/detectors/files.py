"""A model on disk: what it is in ``model.json``, its tensors in ``model.safetensors``; no pickle.

Format 2 keeps the SHA-256 of the tensors' file in the description, and one of the description itself, so that
damage is noticed; nobody is kept from making other ones, and every value is checked besides. Format 3 has
the size of the images that were fitted on as well.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from anomaly_lib.detectors.parameters import (
    FINITE,
    FLAG,
    Constraint,
    Each,
    Names,
    Optional,
    Record,
    Text,
    Whole,
)
from anomaly_lib.detectors.tensor_file import read_tensors
from anomaly_lib.errors import ModelFileError, pass_on_lack_of_memory
from anomaly_lib.files import replace_folder, written_in_full
from anomaly_lib.reading import opened, parse_json, read_within

FORMAT = 3
PREVIOUS = "previous"
"""The folder in a model's that has the model as it was before it was updated."""
_PACKAGES = ("anomaly_lib", "torch", "timm")
_DESCRIPTION, _TENSORS = "model.json", "model.safetensors"
# More text than any description has, and more nesting than any needs.
_LONGEST, _DEEPEST = 2**20, 20
# At a folder that others replace while one looks; each look fails only if another swap falls into it.
_LOOKS = 1000

# What reading, parsing and checking raise.
_DAMAGE: tuple[type[Exception], ...] = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_DAMAGE += (OSError, RecursionError)

NOTHING: Mapping[str, Constraint] = {}

SAVED: Mapping[str, Constraint] = {
    "method": Text(),
    "parameters": Names(),
    "transform": Record(
        {
            "resize": Whole(1),
            "crop": Optional(Whole(1)),
            "square": FLAG,
            "interpolation": Text(),
            "multiple": Whole(1),
        }
    ),
    "input_shape": Optional(Each(Whole(1), 2, 2)),
    "images": Whole(0),
    "threshold": Optional(FINITE),
}
"""What the description of every detector says; the parameters have constraints of their own."""


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

    def take_any(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor `name`, of any shape and this type, all of it finite; errors as in `take`."""
        tensor = self._take(name)
        if tensor.dtype != dtype:
            raise _unfit(name, tensor)
        return tensor

    def below(self, prefix: str) -> "SavedTensors":
        """Take out all tensors whose names have a prefix, and return them by the rest of their names."""
        names = [name for name in self._tensors if name.startswith(prefix)]
        return SavedTensors({name[len(prefix) :]: self._tensors.pop(name) for name in names})

    def rest(self) -> dict[str, torch.Tensor]:
        """Return what has not been taken out, as it is."""
        return dict(self._tensors)

    def require_empty(self) -> None:
        """Raise `ModelFileError` where a tensor has not been taken out, which the parameters do not need."""
        if self._tensors:
            raise ModelFileError(
                f"the model has a tensor {min(self._tensors)}, which its parameters need not: train it again"
            )

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
    document["checksum"] = _checksum(document)
    (folder / _DESCRIPTION).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    if tensors:
        shutil.copymode(folder / _DESCRIPTION, folder / _TENSORS)  # which safetensors closes to others


def read_model(
    folder: Path, constraints: Mapping[str, Constraint] = NOTHING
) -> tuple[dict[str, Any], SavedTensors]:
    """Return the description and the tensors of the model in `folder`.

    Parameters
    ----------
    folder
        Holds the two files.
    constraints
        What the description has to say, by name.

    Raises
    ------
    ModelFileError
        When there is none, it is damaged, or a newer version of this library wrote it.
    """
    while True:
        identity = _identity(folder / _DESCRIPTION)
        description = read_description(folder, constraints)
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
    if checksum is None and not file.exists():
        return (SavedTensors({}),)
    with damage_named(folder), opened(file) as stream:
        if checksum is None and description["format"] > 1:
            raise ValueError(f"{_DESCRIPTION} knows nothing of {_TENSORS}")
        # Twice through the file rather than a copy of it in memory before it is known to be whole.
        if checksum is not None and hashlib.file_digest(stream, "sha256").hexdigest() != checksum:
            return None
        size = stream.seek(0, 2)
        stream.seek(0)
        return (SavedTensors(read_tensors(stream, size)),)


def read_description(folder: Path, constraints: Mapping[str, Constraint] = NOTHING) -> dict[str, Any]:
    """Return the description of the model in `folder`, without its tensors; errors as in `read_model`."""
    file = folder / _DESCRIPTION
    if not file.exists():
        raise ModelFileError(f"no model in {folder}: give a folder that holds {_DESCRIPTION}")
    with damage_named(folder):
        description = parse_json(read_within(file, _LONGEST))
        if not isinstance(description, dict) or _depth(description) > _DEEPEST:
            raise ValueError(_DESCRIPTION)
        Whole(1).require("format", description.get("format"))
        if description["format"] > FORMAT:
            raise ModelFileError(
                f"the model in {folder} has format {description['format']}; this library reads up to "
                f"{FORMAT}: update anomaly_lib"
            )
        if description.pop("checksum", checksum := _checksum(description)) != checksum:
            raise ValueError(f"{_DESCRIPTION} is not what was saved")
        if description["format"] < 3 and isinstance(description.get("transform"), dict):
            description["transform"].setdefault("multiple", 32)  # which no transform made use of
            description.setdefault("input_shape", None)
            description.setdefault("images", 0)
        for name, constraint in constraints.items():
            if name not in description:
                raise ValueError(f"{_DESCRIPTION} lacks {name}")
            constraint.require(name, description[name])
    return description


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Raise `ModelFileError` where what was read from `folder` is not what a model needs."""
    try:
        yield
    except _DAMAGE as error:
        pass_on_lack_of_memory(error)
        reason = str(error) or type(error).__name__
        raise ModelFileError(f"the model in {folder} is damaged ({reason}): train it again") from error


def _checksum(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all of a description but its own checksum."""
    document = {name: value for name, value in description.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _unfit(name: str, tensor: torch.Tensor) -> ModelFileError:
    return ModelFileError(
        f"the model's tensor {name} is {tensor.dtype} of shape {tuple(tensor.shape)}: train it again"
    )


def nan_to_none(value: float) -> float | None:
    """Return `value` as JSON can hold it."""
    return None if math.isnan(value) else value


def none_to_nan(value: float | None) -> float:
    """Return what `nan_to_none` was given."""
    return math.nan if value is None else float(value)


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
    require_replaceable(folder)
    with replace_folder(folder) as unfinished:
        yield unfinished
        require_replaceable(folder)  # something may have been put there in the meantime


def copy_model(folder: Path, to: Path) -> None:
    """Copy the files of the model in `folder`, without the one before it, into the existing folder `to`."""
    if folder.is_symlink():
        raise ModelFileError(f"{folder} is a link to another place: copy the model with what it links to")
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(PREVIOUS), dirs_exist_ok=True)


def require_replaceable(folder: Path) -> None:
    """Raise a `ModelFileError` when `folder` is there and holds anything but a model.

    It is looked at again where it was another folder at the end than at the beginning: a saver that swapped
    its own in takes the files of the old one away, one by one.
    """
    for _ in range(_LOOKS):
        before, objection = _identity(folder), _objection(folder)
        if objection is None:
            return
        if before is not None and _identity(folder) == before:
            break
    raise ModelFileError(f"{folder} {objection}: save to a new folder")


def _objection(folder: Path) -> str | None:
    if not folder.exists():
        return None
    if not folder.is_dir():
        return "is a file"
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:  # moved away at this moment
        return "is being replaced"
    others = sorted(name for name in names if not _is_of_a_model(folder / name))
    if others or (names and _DESCRIPTION not in names):
        example = f", {others[0]} among them" if others else ""
        return f"holds other files than a model{example}"
    return None


def _is_of_a_model(path: Path) -> bool:
    if (path.name.startswith("member_") or path.name == PREVIOUS) and path.is_dir():
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
