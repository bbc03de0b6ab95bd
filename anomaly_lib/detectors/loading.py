"""From a folder to a fitted detector, ours or the official PatchCore's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from anomaly_lib.datasets.transforms import Geometry, Transform
from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.ensemble import Ensemble
from anomaly_lib.detectors.files import damage_named, read_description
from anomaly_lib.detectors.gaussian import Gaussian
from anomaly_lib.detectors.official import (
    OfficialPatchCore,
    holds_official_patchcore,
    official_patchcore_parameters,
    read_official_patchcore,
)
from anomaly_lib.detectors.parameters import parameter_names
from anomaly_lib.detectors.patch_svdd import PatchSVDD
from anomaly_lib.detectors.patch_svdd.checkpoints import CHECKPOINT
from anomaly_lib.detectors.patchcore import PatchCore
from anomaly_lib.detectors.patchcore.memory_bank import MemoryBank
from anomaly_lib.errors import AnomalyError, DataError, ModelFileError, ParameterError, pass_on_lack_of_memory
from anomaly_lib.networks.devices import pick_device

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
        pick_device(device)  # what is wrong with it is none of the model's damage
        official = read_official_patchcore(folder)
        with _without_a_traceback(folder):
            members = [_from_official(member, device, weights) for member in official]
            return members[0] if len(members) == 1 else Ensemble.of_fitted(members)
    kind = _kind(folder, read_description(folder))
    with _without_a_traceback(folder):
        return kind.load(folder, device=device, weights=weights)


def new_detector(
    method: str, parameters: Mapping[str, Any], transform: Mapping[str, Any], *, device: str
) -> Detector:
    """Return a detector that is yet to be fitted, with what ``model.json`` says of one.

    Raises
    ------
    ParameterError
        When there is no such method, or its parameters make no sense.
    """
    if method not in _DETECTORS:
        raise ParameterError(f"no method {method!r}: there are {', '.join(_DETECTORS)}")
    kind = _DETECTORS[method]
    if odd := sorted(set(parameters) - set(parameter_names(kind))):
        raise ParameterError(f"{method} has no parameter {odd[0]!r}")
    given: dict[str, Any] = {**parameters, "transform": Transform(**transform), "device": device}
    return kind(**given)


def require_model(folder: Path, geometry: Geometry) -> None:
    """Raise an `AnomalyError` when `folder` holds no model, or none that can score in that geometry.

    Whether it can be loaded is another question: only its description is read.
    """
    if holds_official_patchcore(folder):
        _official_transform(official_patchcore_parameters(folder)).asked(geometry)
        return
    kind = _kind(folder, read_description(folder))
    with damage_named(folder):
        description = read_description(folder, kind.saved)
        fitted = Transform(**description["transform"])
    asked = fitted.asked(geometry, fitted.multiple)
    kind.require_geometry(fitted, asked)
    if asked != fitted and description["threshold"] is not None:
        raise DataError(
            f"the model in {folder} was fitted at {fitted}, and its threshold is for that: omit `resize` and "
            "`imagesize`, or fit another model"
        )


@contextmanager
def _without_a_traceback(folder: Path) -> Iterator[None]:
    """Raise `ModelFileError` where a library refuses what no check of ours did."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        pass_on_lack_of_memory(error)
        if isinstance(error, AnomalyError):  # says itself what is wrong
            raise
        raise ModelFileError(f"the model in {folder} is damaged ({error}): train it again") from error


def _kind(folder: Path, description: dict[str, Any]) -> type[Detector]:
    method = description.get("method")
    if method == CHECKPOINT:
        raise ModelFileError(
            f"{folder} holds no model but a checkpoint of a training, which goes on from it "
            "with that folder as `checkpoints`"
        )
    if not isinstance(method, str) or method not in _DETECTORS:
        raise ModelFileError(f"the model in {folder} is of the unknown method {method!r}: update anomaly_lib")
    return _DETECTORS[method]


def _official_transform(parameters: dict[str, Any]) -> Transform:
    crop = parameters["input_shape"][-1]
    return Transform(resize=round(crop * 8 / 7), crop=crop)


def _from_official(member: OfficialPatchCore, device: str, weights: str | None) -> PatchCore:
    official: dict[str, Any] = dict(member.parameters)
    model = PatchCore(
        official["backbone.name"],
        official["layers_to_extract_from"],
        weights=weights,
        pretrain_embed_dimension=official["pretrain_embed_dimension"],
        target_embed_dimension=official["target_embed_dimension"],
        patchsize=official["patchsize"],
        # anomaly_scorer_num_nn is in the file, but the official code always asks for one neighbour
        official_batch_norm=True,
        transform=_official_transform(official),
        device=device,
        precision="fp32",
    )
    rows = torch.from_numpy(member.memory_bank).to(model.device)
    model.require_patches()
    return model.of_bank(MemoryBank.of_rows(rows, torch.Generator().manual_seed(model.seed)))
