"""Encoders that the official Patch SVDD trained, read without executing anything.

That code (nuclearboy95/Anomaly-Detection-PatchSVDD-PyTorch) keeps the encoder's state dict, ``enchier.pkl``.
"""

from pathlib import Path

import torch

from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder
from anomaly_lib.errors import ModelFileError


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
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise ModelFileError(f"refused to read {file}: {reason}") from None
    if not isinstance(state, dict) or set(state) != set(encoder_shapes(1)):
        raise ModelFileError(
            f"{file} is no encoder of the official Patch SVDD: it must hold weight and bias of enc.conv1 to "
            "enc.conv8, conv1 and conv2, and nothing else"
        )
    bias = state["enc.conv8.bias"]
    dimensions = len(bias) if isinstance(bias, torch.Tensor) and bias.ndim == 1 else 1
    for name, shape in encoder_shapes(dimensions).items():
        if not isinstance(state[name], torch.Tensor):
            raise ModelFileError(f"{file} is no encoder of the official Patch SVDD: {name} is no tensor")
        if state[name].shape != shape:
            raise ModelFileError(
                f"{file} is no encoder of the official Patch SVDD: {name} is of shape "
                f"{tuple(state[name].shape)} instead of {tuple(shape)}"
            )
    return {name: value.float() for name, value in state.items()}
