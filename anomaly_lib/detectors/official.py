"""Models that the official PatchCore wrote, read without executing anything.

That code (amazon-science/patchcore-inspection) keeps a pickled dictionary, ``patchcore_params.pkl``, and a
faiss index, ``nnscorer_search_index.faiss``; an ensemble has one pair for each member, with the prefixes
``Ensemble-1-3_``, ``Ensemble-2-3_``, ``Ensemble-3-3_``.
"""

import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_lib.errors import ModelFileError

_PARAMETERS = "patchcore_params.pkl"
_INDEX = "nnscorer_search_index.faiss"
_NEEDED = (
    "backbone.name",
    "layers_to_extract_from",
    "input_shape",
    "pretrain_embed_dimension",
    "target_embed_dimension",
    "patchsize",
)


@dataclass(frozen=True)
class OfficialPatchCore:
    """One member: its parameters under their official names, and its memory bank (rows, d) float32."""

    parameters: Mapping[str, Any]
    memory_bank: np.ndarray


def holds_official_patchcore(folder: Path) -> bool:
    """Return whether `folder` holds a model of the official PatchCore, single or ensemble."""
    return any(folder.glob(f"*{_PARAMETERS}"))


def read_official_patchcore(folder: Path) -> list[OfficialPatchCore]:
    """Return the members of the official model in `folder` in their order; one for a single model.

    Raises
    ------
    ModelFileError
        When a file is missing, damaged, or holds anything but the plain values that belong there.
    """
    return [_read_member(folder, prefix) for prefix in _prefixes(folder)]


def official_patchcore_parameters(folder: Path) -> dict[str, Any]:
    """Return the parameters of the official model in `folder`, of its first member; errors as above."""
    return _read_parameters(folder / (_prefixes(folder)[0] + _PARAMETERS))


def _prefixes(folder: Path) -> list[str]:
    """Return the prefixes of the members' files in their order."""
    prefixes = [_checked_prefix(file) for file in folder.glob(f"*{_PARAMETERS}")]
    if not prefixes:
        raise ModelFileError(f"no official PatchCore model in {folder}: there is no {_PARAMETERS}")
    return sorted(prefixes, key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])


def _checked_prefix(file: Path) -> str:
    prefix = file.name.removesuffix(_PARAMETERS)
    if not re.fullmatch(r"(Ensemble-\d+-\d+_)?", prefix):
        raise ModelFileError(f"unexpected file {file}: the prefix of a member is Ensemble-<i>-<n>_")
    return prefix


def _read_member(folder: Path, prefix: str) -> OfficialPatchCore:
    parameters = _read_parameters(folder / (prefix + _PARAMETERS))
    bank = _read_index(folder / (prefix + _INDEX))
    if bank.shape[1] != parameters["target_embed_dimension"]:
        raise ModelFileError(
            f"the index in {folder} has rows of {bank.shape[1]} numbers and its parameters say "
            f"{parameters['target_embed_dimension']}: the two files are of different models"
        )
    return OfficialPatchCore(parameters, bank)


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, strings, lists, tuples and dictionaries, and nothing that has to be imported."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")


def _read_parameters(file: Path) -> dict[str, Any]:
    try:
        parameters = _PlainUnpickler(io.BytesIO(file.read_bytes())).load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ModelFileError(f"refused to read {file}: {error}") from None
    if not isinstance(parameters, dict):
        raise ModelFileError(f"refused to read {file}: it does not hold a dictionary of parameters")
    missing = [name for name in _NEEDED if name not in parameters]
    if missing:
        raise ModelFileError(f"{file} is no official PatchCore model: it lacks {', '.join(missing)}")
    return parameters


def _read_index(file: Path) -> np.ndarray:
    import faiss  # only models of the official code need it

    if not file.is_file():
        raise ModelFileError(f"no index {file}: it belongs beside {_PARAMETERS}")
    try:
        index = faiss.read_index(str(file))
        rows: np.ndarray = index.reconstruct_n(0, index.ntotal)
    except RuntimeError as error:
        raise ModelFileError(f"cannot read the faiss index {file}: {str(error).splitlines()[0]}") from None
    if not len(rows):
        raise ModelFileError(f"the faiss index {file} is empty: the model was never fitted")
    return rows
