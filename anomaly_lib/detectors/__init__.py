"""The detectors, behind one contract."""

import math
from pathlib import Path
from typing import Any

import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector, Images, NotFittedError, Scores, TensorImages
from anomaly_lib.detectors.ensemble import Ensemble
from anomaly_lib.detectors.files import read_description
from anomaly_lib.detectors.gaussian import Gaussian
from anomaly_lib.detectors.official import (
    OfficialPatchCore,
    holds_official_patchcore,
    read_official_patchcore,
)
from anomaly_lib.detectors.patch_svdd import PatchSVDD
from anomaly_lib.detectors.patch_svdd.checkpoints import CHECKPOINT
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.errors import AnomalyError, ModelFileError

__all__ = [
    "Detector",
    "Ensemble",
    "Gaussian",
    "Images",
    "NotFittedError",
    "PatchCore",
    "PatchSVDD",
    "Scores",
    "TensorImages",
    "load_detector",
    "require_model",
]

_DETECTORS: dict[str, type[Detector]] = {
    detector.method: detector for detector in (PatchCore, Gaussian, PatchSVDD, Ensemble)
}


def load_detector(folder: Path | str, *, device: str = "auto", weights: str | None = None) -> Detector:
    """Return the fitted model saved in `folder`, ours or the official PatchCore's.

    Parameters
    ----------
    folder
        Holds ``model.json``, or ``patchcore_params.pkl`` and its index. Official models run in fp32 on images
        whose shorter side is resized to 8/7 of their crop (256 for 224), as the official scripts do.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    weights
        The backbone's weights, when they are a file that is no longer where it was.

    Raises
    ------
    ModelFileError
        When there is no model, it is damaged, or the backbone's weights are not those it was fitted with.
    """
    folder = Path(folder)
    if holds_official_patchcore(folder):
        members = [_from_official(member, device, weights) for member in read_official_patchcore(folder)]
        return members[0] if len(members) == 1 else Ensemble.of_fitted(members)
    method = read_description(folder).get("method")
    if method == CHECKPOINT:
        raise ModelFileError(
            f"{folder} holds no model but a checkpoint of a training, which goes on from it "
            "with --checkpoints and the folder that was given there"
        )
    if method not in _DETECTORS:
        raise ModelFileError(f"the model in {folder} is of the unknown method {method!r}: update anomaly_lib")
    try:
        return _DETECTORS[method].load(folder, device=device, weights=weights)
    except (AnomalyError, torch.OutOfMemoryError):  # these say themselves what is wrong
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        # something that every model has is not there, or not what it should be
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error


def require_model(folder: Path) -> None:
    """Raise `ModelFileError` when `folder` holds no model; whether it can be loaded is another question."""
    if not holds_official_patchcore(folder):
        read_description(folder)


def _from_official(member: OfficialPatchCore, device: str, weights: str | None) -> PatchCore:
    official: dict[str, Any] = dict(member.parameters)
    crop = official["input_shape"][-1]
    model = PatchCore(
        official["backbone.name"],
        official["layers_to_extract_from"],
        weights=weights,
        pretrain_embed_dimension=official["pretrain_embed_dimension"],
        target_embed_dimension=official["target_embed_dimension"],
        patchsize=official["patchsize"],
        # anomaly_scorer_num_nn is in the file, but the official code always asks for one neighbour
        official_batch_norm=True,
        transform=Transform(resize=round(crop * 8 / 7), crop=crop),
        device=device,
        precision="fp32",
    )
    return model.restore(torch.from_numpy(member.memory_bank), threshold=math.nan)
