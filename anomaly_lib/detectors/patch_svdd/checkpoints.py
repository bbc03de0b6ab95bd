"""Checkpoints of a training: after a kill it goes on as if nothing had been."""

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from anomaly_lib.detectors.files import new_model_folder, read_model, write_model
from anomaly_lib.detectors.parameters import Constraint, Names, Text, Whole
from anomaly_lib.detectors.patch_svdd.training import Training
from anomaly_lib.errors import ModelFileError, ParameterError, pass_on_lack_of_memory
from anomaly_lib.files import locked, sweep_unfinished

log = logging.getLogger(__name__)

CHECKPOINT = "patch_svdd_checkpoint"
"""The method in the ``model.json`` of a checkpoint, which is none of a detector."""


_SAVED: Mapping[str, Constraint] = {
    "method": Text(),
    "epoch": Whole(0),
    "options": Names(),
    "images": Text(),
}


class Checkpoints:
    """The checkpoints of one training: ``<folder>/epoch_00010/`` holds json and safetensors.

    An older one is removed only when a newer one is complete, so that there is one at any time.

    Parameters
    ----------
    folder
        Holds the checkpoints of one training and nothing else.
    images
        (n, 3, h, w) uint8, those that are trained on: a checkpoint of other images is refused.
    """

    def __init__(self, folder: Path, images: torch.Tensor) -> None:
        self._folder = folder
        self._fingerprint = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()

    def save(self, training: Training) -> None:
        """Write where `training` is now and remove older checkpoints."""
        with new_model_folder(self._folder / f"epoch_{training.epoch:05d}") as unfinished:
            description = {
                "method": CHECKPOINT,
                "epoch": training.epoch,
                "options": asdict(training.options),
                "losses": training.losses,
                "images": self._fingerprint,
            }
            write_model(unfinished, description, training.state())
        self._remove_older()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the folder, and begin by removing what killed ones have left in it.

        Raises
        ------
        LockedError
            When there is another training.
        """
        with locked(self._folder, wait=False):
            sweep_unfinished(self._folder)
            if self._complete():
                self._remove_older()
            yield

    def _remove_older(self) -> None:
        """Remove all but the newest complete checkpoint, and what a kill has left of others."""
        newest = self._complete()[-1]
        for folder in self._folder.glob("epoch_*"):
            if folder < newest:
                shutil.rmtree(folder)

    def resume(self, training: Training, epochs: int) -> None:
        """Bring a new `training`, of so many `epochs`, to the newest checkpoint, when there is one.

        Raises
        ------
        ParameterError
            When it is of other images or options, or of a later epoch than the last that is wanted.
        """
        folders = self._complete()
        if not folders:
            return
        description, tensors = read_model(folders[-1], _SAVED)
        if description["method"] != CHECKPOINT:
            raise ModelFileError(f"{folders[-1]} is no checkpoint of a training: give another folder")
        self._require_same(description, training)
        epoch = description["epoch"]
        if epoch > epochs:
            raise ParameterError(
                f"epochs is {epochs}: the checkpoint in {self._folder} is of epoch {epoch} "
                "already; give another folder for checkpoints, or more epochs"
            )
        try:
            training.restore(tensors.rest(), epoch, _losses(description))
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError, ModelFileError) as error:
            pass_on_lack_of_memory(error)
            raise ModelFileError(f"the checkpoint {folders[-1]} is damaged ({error}): remove it") from error
        log.info("going on after epoch %d from %s", training.epoch, folders[-1])

    def _require_same(self, description: dict[str, Any], training: Training) -> None:
        remedy = "give another folder for checkpoints, or the same options"
        options = asdict(training.options) | {"sides": list(training.options.sides)}
        before = description["options"]
        other = [name for name, value in options.items() if before.get(name) != value]
        if other:
            changes = ", ".join(f"{name} {before.get(name)} (now {options[name]})" for name in other)
            raise ParameterError(
                f"the checkpoints in {self._folder} are of a training with {changes}: {remedy}"
            )
        if description.get("images") != self._fingerprint:
            raise ParameterError(f"the checkpoints in {self._folder} are of other training images: {remedy}")

    def _complete(self) -> list[Path]:
        """Return the folders of complete checkpoints, the newest last."""
        return sorted(file.parent for file in self._folder.glob("epoch_*/model.json"))


def _losses(description: dict[str, Any]) -> list[dict[str, float]]:
    """Return the losses of the epochs that a checkpoint tells of.

    Raises
    ------
    ValueError
        When they are not rows of numbers, at most one for each epoch.
    """
    rows: Any = description.get("losses", [])
    numbers = isinstance(rows, list) and all(
        isinstance(row, dict) and all(type(value) in (int, float) for value in row.values()) for row in rows
    )
    if not numbers or len(rows) > description["epoch"]:
        raise ValueError("its losses are not rows of numbers")
    return [{name: float(value) for name, value in row.items()} for row in rows]
