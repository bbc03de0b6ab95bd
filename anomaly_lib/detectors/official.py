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

from anomaly_lib.detectors.parameters import Constraint, Each, Text, Whole
from anomaly_lib.errors import ModelFileError, ParameterError, pass_on_lack_of_memory
from anomaly_lib.pickles import require_plain_pickle
from anomaly_lib.reading import opened, read_within

_PARAMETERS = "patchcore_params.pkl"
_INDEX = "nnscorer_search_index.faiss"
# More than the parameters of any model take.
_LONGEST = 2**20


_NEEDED: Mapping[str, Constraint] = {
    "backbone.name": Text(),
    "layers_to_extract_from": Each(Text(), 1, 100),
    "input_shape": Each(Whole(1, 4096), 3, 3),
    "pretrain_embed_dimension": Whole(1, 2**16),
    "target_embed_dimension": Whole(1, 2**16),
    "patchsize": Whole(1, 2**8),
}
"""The parameters that a model needs, and what each has to be."""

_INDEX_HEADER = np.dtype(
    [
        ("kind", "S4"),
        ("columns", "<i4"),
        ("rows", "<i8"),
        ("unused", "<i8", 2),
        ("trained", "<u1"),
        ("metric", "<i4"),
        ("floats", "<u8"),
    ]
)
"""How a faiss index begins; ``IxF2`` and the older ``IxFl`` are flat ones of L2 distances."""

_FLAT, _L2 = (b"IxF2", b"IxFl"), 1


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
        content = read_within(file, _LONGEST)
        require_plain_pickle(content)
        parameters = _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise almost anything
        pass_on_lack_of_memory(error)
        raise ModelFileError(f"refused to read {file}: {error}") from None
    if not isinstance(parameters, dict):
        raise ModelFileError(f"refused to read {file}: it does not hold a dictionary of parameters")
    missing = [name for name in _NEEDED if name not in parameters]
    if missing:
        raise ModelFileError(f"{file} is no official PatchCore model: it lacks {', '.join(missing)}")
    for name, constraint in _NEEDED.items():
        try:
            constraint.require(name, parameters[name])
        except ParameterError as error:
            raise ModelFileError(
                f"{file} is no official PatchCore model: its {name} makes no sense ({error})"
            ) from None
    return {name: parameters[name] for name in _NEEDED}


def _read_index(file: Path) -> np.ndarray:
    """Return the rows (n, d) float32 of a flat faiss index for L2 distances.

    Read as bytes and not by faiss, which follows other kinds of index to further files. After the header come
    the number of floats and the floats.
    """
    if not file.exists():
        raise ModelFileError(f"no index {file}: it belongs beside {_PARAMETERS}")
    try:
        with opened(file) as stream:
            header = np.frombuffer(stream.read(_INDEX_HEADER.itemsize), _INDEX_HEADER)[0]
            rows, columns = int(header["rows"]), int(header["columns"])
            size = stream.seek(0, io.SEEK_END) - _INDEX_HEADER.itemsize
            fits = header["floats"] == rows * columns and size == 4 * rows * columns
            if header["kind"] not in _FLAT or header["metric"] != _L2 or columns < 1 or not fits:
                raise ValueError("it is no whole flat index of L2 distances")
            stream.seek(_INDEX_HEADER.itemsize)
            bank = np.fromfile(stream, np.dtype("<f4"), rows * columns).reshape(rows, columns)
    except (OSError, ValueError, IndexError, OverflowError) as error:
        pass_on_lack_of_memory(error)
        raise ModelFileError(f"cannot read the faiss index {file}: {error}") from None
    if not rows:
        raise ModelFileError(f"the faiss index {file} is empty: the model was never fitted")
    if not np.isfinite(bank).all():
        raise ModelFileError(f"the faiss index {file} has rows that are not finite")
    return bank.astype(np.float32, copy=False)
