"""Files of the official PatchCore, read without executing anything."""

import pickle
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from anomaly_lib.detectors.official import (
    holds_official_patchcore,
    read_official_patchcore,
)
from anomaly_lib.errors import ModelFileError

PARAMETERS = {
    "backbone.name": "wideresnet50",
    "layers_to_extract_from": ["layer2", "layer3"],
    "input_shape": (3, 224, 224),
    "pretrain_embed_dimension": 1024,
    "target_embed_dimension": 8,
    "patchsize": 3,
    "patchstride": 1,
    "anomaly_scorer_num_nn": 1,
}


def write(folder: Path, prefix: str = "", rows: int = 5, **changes: object) -> np.ndarray:
    """Write a member as the official code does and return its memory bank."""
    folder.mkdir(exist_ok=True)
    bank = np.random.default_rng(rows).random((rows, 8), dtype=np.float32)
    with (folder / f"{prefix}patchcore_params.pkl").open("wb") as file:
        pickle.dump({**PARAMETERS, **changes}, file, pickle.HIGHEST_PROTOCOL)
    index = faiss.IndexFlatL2(8)
    if rows:
        index.add(bank)
    faiss.write_index(index, str(folder / f"{prefix}nnscorer_search_index.faiss"))
    return bank


def said_of(folder: Path) -> str:
    with pytest.raises(ModelFileError) as error:
        read_official_patchcore(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


def test_a_model_is_its_parameters_and_its_rows(tmp_path: Path) -> None:
    bank = write(tmp_path)
    [member] = read_official_patchcore(tmp_path)
    used = {name: value for name, value in PARAMETERS.items() if name in member.parameters}
    assert dict(member.parameters) == used
    assert set(PARAMETERS) - set(used) == {"patchstride", "anomaly_scorer_num_nn"}
    assert member.memory_bank.dtype == np.float32
    assert np.array_equal(member.memory_bank, bank)


def test_members_of_an_ensemble_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """By name, Ensemble-10-12_ would come before Ensemble-2-12_."""
    for i in (10, 2, 12, 1, 11, 3):
        write(tmp_path, f"Ensemble-{i}-12_", rows=i)
    members = read_official_patchcore(tmp_path)
    assert [len(member.memory_bank) for member in members] == [1, 2, 3, 10, 11, 12]


def test_a_folder_is_recognised_by_its_parameters(tmp_path: Path) -> None:
    assert not holds_official_patchcore(tmp_path)
    write(tmp_path / "single")
    write(tmp_path / "several", "Ensemble-1-2_")
    assert holds_official_patchcore(tmp_path / "single")
    assert holds_official_patchcore(tmp_path / "several")
    assert not holds_official_patchcore(tmp_path / "nowhere")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, trap_in_a_pickle: Callable[[Path], object], protocol: int
) -> None:
    write(tmp_path)
    trap = tmp_path / "trap"
    with (tmp_path / "patchcore_params.pkl").open("wb") as file:
        pickle.dump({**PARAMETERS, "patchsize": trap_in_a_pickle(trap)}, file, protocol)
    said = said_of(tmp_path)
    assert "refused to read" in said
    assert "mkdir" in said
    assert not trap.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "collections.OrderedDict", "numpy.dtype"])
def test_nothing_at_all_is_imported(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    module, _, attribute = name.rpartition(".")
    (tmp_path / "patchcore_params.pkl").write_bytes(f"c{module}\n{attribute}\n.".encode())
    assert f"it wants to call {name}" in said_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x05", pickle.dumps([1, 2]), pickle.dumps(None)])
def test_damaged_parameters_are_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path)
    (tmp_path / "patchcore_params.pkl").write_bytes(content)
    assert "patchcore_params.pkl" in said_of(tmp_path)


def test_parameters_that_lack_something_say_what(tmp_path: Path) -> None:
    write(tmp_path)
    short = {name: value for name, value in PARAMETERS.items() if name not in ("patchsize", "input_shape")}
    (tmp_path / "patchcore_params.pkl").write_bytes(pickle.dumps(short))
    assert "it lacks input_shape, patchsize" in said_of(tmp_path)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    write(tmp_path, "Ensemble-1-2_")
    write(tmp_path, "Ensemble-2-2_")
    (tmp_path / "Ensemble-2-2_nnscorer_search_index.faiss").unlink()
    assert "no index" in said_of(tmp_path)
    assert "Ensemble-2-2_nnscorer_search_index.faiss" in said_of(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 20, 60])
def test_a_damaged_index_is_named(tmp_path: Path, keep: int) -> None:
    write(tmp_path)
    file = tmp_path / "nnscorer_search_index.faiss"
    file.write_bytes(file.read_bytes()[:keep])
    assert "cannot read the faiss index" in said_of(tmp_path)


def test_an_empty_index_is_named(tmp_path: Path) -> None:
    write(tmp_path, rows=0)
    assert "is empty" in said_of(tmp_path)


def test_an_index_of_another_model_is_refused(tmp_path: Path) -> None:
    write(tmp_path, target_embed_dimension=1024)
    said = said_of(tmp_path)
    assert "rows of 8 numbers" in said
    assert "1024" in said


def test_a_file_with_a_strange_prefix_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "Copy of ")
    assert "Copy of patchcore_params.pkl" in said_of(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    assert "there is no patchcore_params.pkl" in said_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patchsize", 0), ("patchsize", "3"), ("patchsize", 10**9), ("target_embed_dimension", -8),
        ("input_shape", (3, 224)), ("input_shape", (3, 0, 224)), ("input_shape", 224),
        ("layers_to_extract_from", "layer2"), ("layers_to_extract_from", [2]), ("backbone.name", None),
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_named(tmp_path: Path, name: str, value: object) -> None:
    write(tmp_path, **{name: value})
    assert f"its {name} makes no sense" in said_of(tmp_path)


def test_an_index_of_another_kind_is_refused_unread(tmp_path: Path) -> None:
    """One on disk would open a further file, whose path it holds."""
    bank = write(tmp_path)
    quantizer = faiss.IndexFlatL2(8)
    clustered = faiss.IndexIVFFlat(quantizer, 8, 2)
    clustered.train(bank)
    clustered.add(bank)
    for index in (clustered, faiss.IndexFlatIP(8), faiss.IndexIDMap(faiss.IndexFlatL2(8))):
        faiss.write_index(index, str(tmp_path / "nnscorer_search_index.faiss"))
        assert "no whole flat index" in said_of(tmp_path)


@pytest.mark.parametrize("rows", [2**62, 10**9, -1, 4, 6])
def test_the_size_of_an_index_is_checked_before_memory_is_taken(tmp_path: Path, rows: int) -> None:
    write(tmp_path)
    file = tmp_path / "nnscorer_search_index.faiss"
    content = bytearray(file.read_bytes())
    content[8:16] = rows.to_bytes(8, "little", signed=True)
    file.write_bytes(content)
    assert "no whole flat index" in said_of(tmp_path)


def test_rows_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    index = faiss.IndexFlatL2(8)
    index.add(np.full((2, 8), np.nan, np.float32))
    faiss.write_index(index, str(tmp_path / "nnscorer_search_index.faiss"))
    assert "not finite" in said_of(tmp_path)
