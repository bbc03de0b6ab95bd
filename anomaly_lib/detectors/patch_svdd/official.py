"""Encoders that the official Patch SVDD trained, read without executing anything.

That code (nuclearboy95/Anomaly-Detection-PatchSVDD-PyTorch) keeps the encoder's state dict, ``enchier.pkl``.
"""

import io
import zipfile
from pathlib import Path

import torch

from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder
from anomaly_lib.errors import ModelFileError, first_line, pass_on_lack_of_memory
from anomaly_lib.pickles import require_plain_pickle
from anomaly_lib.reading import read_within

# An encoder of 64 dimensions takes 1.6 MB, and has half a million numbers.
_LONGEST, _MOST_NUMBERS = 2**24, 2**24

_NAMES = frozenset(
    ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"]
    + [f"torch.{kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16")]
)
"""What a pickle of tensors names."""

# A file of the older form is this many pickles, one after the other, and the tensors' numbers. The third is
# the state dict; the first is a number that tells the form.
_OLDER_PICKLES = 5


def encoder_shapes(dimensions: int) -> dict[str, torch.Size]:
    """Return the shapes of the weights of an encoder with embeddings of so many dimensions."""
    with torch.device("meta"):  # the structure alone
        weights = HierarchicalEncoder(dimensions).state_dict()
    return {name: weight.shape for name, weight in weights.items()}


def read_official_patch_svdd(file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of the encoder (K = 64) in a file that the official Patch SVDD wrote.

    Raises
    ------
    ModelFileError
        When the file is missing, damaged, holds anything but tensors, or is of another network.
    """
    if not file.is_file():
        ours = (file / "model.json").is_file()
        raise ModelFileError(
            f"no encoder {file}: give the file enchier.pkl of an official Patch SVDD"
            + ("; a model that was trained here is evaluated with: model_loader -p" if ours else "")
        )
    try:
        content = _bounded(read_within(file, _LONGEST))
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        pass_on_lack_of_memory(error)
        raise ModelFileError(f"refused to read {file}: {first_line(error)}") from None
    if not isinstance(state, dict) or set(state) != set(encoder_shapes(1)):
        raise ModelFileError(
            f"{file} is no encoder of the official Patch SVDD: it must hold weight and bias of enc.conv1 to "
            "enc.conv8, conv1 and conv2, and nothing else"
        )
    bias = state["enc.conv8.bias"]
    dimensions = len(bias) if isinstance(bias, torch.Tensor) and bias.ndim == 1 and len(bias) else 1
    for name, shape in encoder_shapes(dimensions).items():
        if reason := _unfit(state[name], shape):
            raise ModelFileError(f"{file} is no encoder of the official Patch SVDD: {name} is {reason}")
    return {name: value.detach().float().contiguous() for name, value in state.items()}


def _bounded(content: bytes) -> bytes:
    """Return the file for `torch.load`, when that takes no more memory than an encoder needs.

    A zip file is packed anew, without compression: torch may find other entries in it than Python.

    Raises
    ------
    ValueError
        When it is damaged, or larger or holds more than tensors.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        start = 0
        for number in range(_OLDER_PICKLES):
            largest = 2**80 if number == 0 else _MOST_NUMBERS
            start += require_plain_pickle(content[start:], _NAMES, largest)
        return content
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as entries, zipfile.ZipFile(packed, "w") as anew:
        if sum(entry.file_size for entry in entries.infolist()) > _LONGEST:
            raise ValueError(f"it unpacks to more than {_LONGEST} bytes")
        for entry in entries.infolist():
            inner = entries.read(entry)
            if entry.filename.endswith(".pkl"):
                require_plain_pickle(inner, _NAMES, _MOST_NUMBERS)
            anew.writestr(entry.filename, inner)
    return packed.getvalue()


def _unfit(value: object, shape: torch.Size) -> str | None:
    """Return what is wrong with a weight of the encoder, if anything is."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or not value.is_cpu:
        return "no tensor"
    if value.shape != shape:
        return f"of shape {tuple(value.shape)} instead of {tuple(shape)}"
    if not value.is_floating_point() or not value.isfinite().all():
        return "not finite, or no floats"
    return None
