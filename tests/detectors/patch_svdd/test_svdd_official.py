"""Encoders of the official Patch SVDD, read without executing anything."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anomaly_lib.detectors.patch_svdd.official import read_official_patch_svdd
from anomaly_lib.errors import ModelFileError


def encoder_state(dimensions: int = 64) -> dict[str, torch.Tensor]:
    from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder

    return HierarchicalEncoder(dimensions).state_dict()


@pytest.mark.parametrize("legacy", [True, False])
def test_an_encoder_of_patch_svdd_is_its_tensors(tmp_path: Path, legacy: bool) -> None:
    file, state = tmp_path / "enchier.pkl", encoder_state()
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    read = read_official_patch_svdd(file)
    assert set(read) == set(state)
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_the_real_encoder_is_read(shared_data: Path) -> None:
    read = read_official_patch_svdd(shared_data / "patch_svdd" / "bottle_enchier.pkl")
    assert len(read) == 20
    assert read["conv2.weight"].shape == (64, 128, 1, 1)


def said_of_encoder(file: Path) -> str:
    with pytest.raises(ModelFileError) as error:
        read_official_patch_svdd(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    return str(error.value)


def test_an_encoder_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, trap_in_a_pickle: Callable[[Path], object]
) -> None:
    trap = tmp_path / "trap"
    for legacy in (True, False):
        state = {**encoder_state(4), "conv2.bias": trap_in_a_pickle(trap)}
        torch.save(state, tmp_path / "enchier.pkl", _use_new_zipfile_serialization=not legacy)
        assert "refused to read" in said_of_encoder(tmp_path / "enchier.pkl")
        assert not trap.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x02", pickle.dumps({"a": 1})])
def test_a_damaged_encoder_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "enchier.pkl").write_bytes(content)
    said_of_encoder(tmp_path / "enchier.pkl")


def test_a_missing_encoder_says_which_file_is_wanted(tmp_path: Path) -> None:
    assert "give the file enchier.pkl" in said_of_encoder(tmp_path / "enchier.pkl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv2.bias": None}, "it must hold weight and bias of enc.conv1"),
        ({"fc.weight": torch.zeros(2)}, "and nothing else"),
        ({"conv2.bias": "text"}, "conv2.bias is no tensor"),
        ({"enc.conv4.weight": torch.zeros(128, 128, 5, 5)}, r"enc.conv4.weight is of shape (128, 128, 5, 5)"),
        ({"conv2.weight": torch.zeros(8, 128, 1, 1)}, "of shape"),
    ],
)
def test_an_encoder_of_another_network_says_what_differs(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    state = {name: value for name, value in {**encoder_state(4), **changes}.items() if value is not None}
    torch.save(state, tmp_path / "enchier.pkl")
    assert said in said_of_encoder(tmp_path / "enchier.pkl")
