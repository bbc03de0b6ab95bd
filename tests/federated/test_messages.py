"""Messages: to the bit where they are honest, and refused where they are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array

from anomaly_lib.errors import DataError
from anomaly_lib.federated.messages import array_record, message_bytes, tensors_of

TENSORS = {
    "rows": torch.randn(5, 3),
    "moved": torch.randn(3, 4).T,
    "sums": torch.randn(2, 2, 2, dtype=torch.float64),
    "numbers": torch.arange(7),
    "one": torch.tensor(3.5),
    "none": torch.zeros(0, 8),
    "odd": torch.tensor([torch.nan, torch.inf, -0.0]),
}


def test_tensors_travel_to_the_bit() -> None:
    record = array_record(TENSORS)
    found = tensors_of(record, message_bytes(record))
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].numpy().tobytes() == np.ascontiguousarray(tensor.numpy()).tobytes()


def test_a_message_of_more_bytes_than_expected_is_refused() -> None:
    record = array_record(TENSORS)
    with pytest.raises(DataError, match=f"of {message_bytes(record)} bytes, where at most 100"):
        tensors_of(record, 100)


def saved(array: np.ndarray, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickled)
    return file.getvalue()


def claims_more() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": (10**12,), "fortran_order": False, "descr": "<f4"})
    return file.getvalue() + b"\0" * 16


BAD: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"no array",
    lambda: saved(np.zeros(4, np.float32))[:-1],
    lambda: saved(np.zeros(4, np.float32)) + b"x",
    lambda: saved(np.array([{}], object), pickled=True),
    lambda: saved(np.array(["text"])),
    lambda: saved(np.zeros(3, np.complex64)),
    lambda: saved(np.zeros(3, ">f4")),
    lambda: saved(np.zeros(3, bool)),
    claims_more,
]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_array_is_a_sentence(bad: Callable[[], bytes]) -> None:
    with pytest.raises(DataError, match="a message's 'x' is no array"):
        tensors_of({"x": Array("float32", (3,), "numpy.ndarray", bad())}, 10**6)


def test_another_kind_of_serialization_is_refused() -> None:
    data = saved(np.zeros(3, np.float32))
    with pytest.raises(DataError, match="of another kind"):
        tensors_of({"x": Array("float32", (3,), "pickle", data)}, 10**6)
