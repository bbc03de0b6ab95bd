"""Named tensors as Flower's records and back, with nothing taken on trust: who sends them may be anybody."""

import io
import math
import time
from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, Metadata, RecordDict

from anomaly_lib.errors import DataError
from anomaly_lib.federated.turns import Tensors

_STYPE = "numpy.ndarray"
# Seconds that a message is of use: what waits for an answer has a limit of its own.
_LIFETIME = 7 * 86400.0
_TYPES = ("float32", "float64", "int64")


def new_message(content: RecordDict, kind: str, node: int = 0, number: str = "") -> Message:
    """Return a message for a `node`, made outside of the processes that Flower starts for a run."""
    metadata = Metadata(
        run_id=0,
        message_id=number,
        src_node_id=0,
        dst_node_id=node,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=_LIFETIME,
        message_type=kind,
    )
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]


def array_record(tensors: Tensors) -> ArrayRecord:
    """Return the tensors as a record, to the bit."""
    arrays = {name: np.asarray(tensor.detach().cpu().numpy(), order="C") for name, tensor in tensors.items()}
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def message_bytes(record: Mapping[str, Array]) -> int:
    """Return how many bytes the arrays of a record take on their way."""
    return sum(len(array.data) for array in record.values())


def tensors_of(record: Mapping[str, Array], most: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a record; what they say is for the method to check.

    Raises
    ------
    DataError
        When they take more than `most` bytes, or are no plain arrays of float32, float64 or int64.
    """
    size = message_bytes(record)
    if size > most:
        raise DataError(f"a message of {size} bytes, where at most {most} are expected")
    return {name: _tensor(name, array) for name, array in record.items()}


def _tensor(name: str, array: Array) -> torch.Tensor:
    """Return an array as a tensor, if its bytes are those of the shape and type that it claims."""
    stream = io.BytesIO(array.data)
    try:
        if array.stype != _STYPE or np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("of another kind")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if (
            dtype.name not in _TYPES
            or not dtype.isnative
            or math.prod(shape) * dtype.itemsize != len(array.data) - stream.tell()
        ):
            raise ValueError("of another type, or shape, than its bytes")
        values = np.load(io.BytesIO(array.data), allow_pickle=False)
    except (ValueError, TypeError, EOFError, SyntaxError) as error:
        raise DataError(f"a message's {name!r} is no array: {error}") from None
    return torch.from_numpy(values)
