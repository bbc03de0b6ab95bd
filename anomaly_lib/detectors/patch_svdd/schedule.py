"""The epochs of a training: checkpoints, what is said of each epoch, and early looks."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.patch_svdd.checkpoints import Checkpoints
from anomaly_lib.detectors.patch_svdd.training import DivergedError, Training
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.progress import Progress

log = logging.getLogger(__name__)

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long a training lasts, and what happens between its epochs; see `PatchSVDD`."""

    epochs: int
    checkpoints: Path | None
    checkpoint_every: int
    look_every: int

    def run(
        self,
        training: Training,
        pixels: torch.Tensor,
        look: Callable[[Weights], Detector],
        watch: Watch,
        progress: Progress,
    ) -> Weights:
        """Train on images (n, 3, h, w) uint8, from the last checkpoint on, and return the encoder's weights.

        `watch` is told of every epoch, those before a checkpoint first; `look` makes a detector of the
        encoder's weights when it is time for an early look.
        """
        checkpoints = None if self.checkpoints is None else Checkpoints(self.checkpoints, pixels)
        with nullcontext() if checkpoints is None else checkpoints.locked():
            self._train(training, checkpoints, look, watch, progress)
        return training.encoder.state_dict()

    def _train(
        self,
        training: Training,
        checkpoints: Checkpoints | None,
        look: Callable[[Weights], Detector],
        watch: Watch,
        progress: Progress,
    ) -> None:
        if checkpoints is not None:
            checkpoints.resume(training, self.epochs)
        first = training.epoch - len(training.losses) + 1  # 1, but for checkpoints that kept no losses
        for epoch, losses in enumerate(training.losses, start=first):
            watch(epoch, losses, None)
        summary = ""
        while training.epoch < self.epochs:
            losses = self._run_epoch(training, summary, progress)
            summary = f" ({_sentence(losses)})"
            log.info("epoch %d of %d: %s", training.epoch, self.epochs, _sentence(losses))
            looks = self.look_every and training.epoch % self.look_every == 0
            early = look(training.encoder.state_dict()) if looks else None
            losses |= watch(training.epoch, losses, early)
            if checkpoints is not None and self._is_time(training.epoch, self.checkpoint_every):
                checkpoints.save(training)

    def _run_epoch(self, training: Training, summary: str, progress: Progress) -> dict[str, float]:
        """Train for an epoch; where that diverges, say where the last good weights are."""
        try:
            return training.run_epoch(f"epoch {training.epoch + 1} of {self.epochs}{summary}", progress)
        except DivergedError as error:
            where = "" if self.checkpoints is None else f"; the last checkpoint is kept in {self.checkpoints}"
            raise DivergedError(f"{error}{where}") from None

    def _is_time(self, epoch: int, every: int) -> bool:
        return epoch == self.epochs or epoch % every == 0


def _sentence(losses: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in losses.items())
