"""Tensors in a safetensors file, each checked before memory is taken for it.

The file begins with the length of its header, which is JSON and says the type, the shape and the place of
every tensor; their bytes follow, without gaps.
"""

import math
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import torch

from anomaly_lib.detectors.parameters import Choice, Each, Record, Whole
from anomaly_lib.reading import parse_json

# More than the header of any model takes.
LONGEST_HEADER = 2**20

_TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "U8": torch.uint8}

_LENGTH = Whole(0, 2**48)
_ENTRY = Record(
    {"dtype": Choice(tuple(_TYPES)), "shape": Each(_LENGTH, most=8), "data_offsets": Each(_LENGTH, 2, 2)}
)


class Place(NamedTuple):
    """Where a tensor's bytes begin and end behind the header, and what it is."""

    begin: int
    end: int
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


def read_tensors(stream: BufferedReader, size: int) -> dict[str, torch.Tensor]:
    """Return the tensors by name of an open safetensors file of `size` bytes.

    Raises
    ------
    ValueError
        When it is none, or not whole, or longer than its header says.
    """
    return {place.name: _read(stream, place) for place in _places(stream, size)}


def _places(stream: BufferedReader, size: int) -> list[Place]:
    """Return the places of the tensors in their order; the stream is behind the header then."""
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 0 < length <= min(LONGEST_HEADER, size - 8):
        raise ValueError("it is no safetensors file")
    header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no dictionary")
    header.pop("__metadata__", None)
    places = sorted(_place(name, entry) for name, entry in header.items())
    end = 0
    for place in places:
        if place.begin != end:
            raise ValueError(f"its tensor {place.name} is not where the one before it ends")
        end = place.end
    if end != size - 8 - length:
        raise ValueError(f"it has {size - 8 - length} bytes of tensors, and its header says {end}")
    return places


def _place(name: str, entry: Mapping[str, Any]) -> Place:
    _ENTRY.require(name, entry)
    dtype, shape, (begin, end) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its tensor {name} has other bytes than its shape says")
    return Place(begin, end, name, dtype, shape)


def _read(stream: BufferedReader, place: Place) -> torch.Tensor:
    tensor = torch.empty(place.shape, dtype=place.dtype)
    memory: Any = tensor.view(-1).view(torch.uint8).numpy()
    if stream.readinto(memory) != tensor.nbytes:
        raise ValueError(f"its tensor {place.name} is not whole")
    return tensor
