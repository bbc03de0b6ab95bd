"""Training the encoder of Patch SVDD by itself, with the two losses of the paper."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anomaly_lib.detectors.patch_svdd.gradients import BatchParts, Terms
from anomaly_lib.detectors.patch_svdd.network import LARGE, HierarchicalEncoder, PositionClassifier
from anomaly_lib.detectors.patch_svdd.pairs import Pairs
from anomaly_lib.errors import AnomalyError, ModelFileError
from anomaly_lib.networks.devices import Precision, autocast
from anomaly_lib.progress import Progress


class DivergedError(AnomalyError):
    """The loss is no longer finite."""


Batch = dict[str, tuple[torch.Tensor, torch.Tensor | None]]
"""Pairs of patches (2, b, 3, side, side) for each term, with the positions (b,) to be told apart or None.

The terms are position_64, position_32, svdd_64 and svdd_32.
"""


@dataclass(frozen=True)
class TrainingOptions:
    """What a training depends on, beside the images; see `PatchSVDD`."""

    lambda_value: float
    D: int
    sides: tuple[int, ...]
    lr: float
    batch_size: int
    repeat: int
    seed: int
    precision: Precision


class Training:
    """An encoder in training, and all that it takes to go on.

    Parameters
    ----------
    images
        (n, 3, h, w) uint8 normal images, on the device to train on.
    mean
        (3, h, w) their mean image, in [0, 1].
    options
        See `TrainingOptions`.

    Attributes
    ----------
    encoder
        The encoder as it is now.
    epoch
        Epochs done.
    losses
        What `run_epoch` returned, and what looks measured, epoch by epoch up to now.
    """

    def __init__(self, images: torch.Tensor, mean: torch.Tensor, options: TrainingOptions) -> None:
        self.options = options
        self._number, self._device = len(images), images.device
        self._generator = torch.Generator(self._device).manual_seed(options.seed)
        self._pairs = Pairs(images, mean, self._generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.encoder = HierarchicalEncoder(options.D)
            self._classifiers = nn.ModuleDict(
                {str(side): PositionClassifier(options.D) for side in options.sides}
            )
        self._networks = nn.ModuleDict({"encoder": self.encoder, "classifiers": self._classifiers})
        self._networks.to(self._device)
        self._learning = [weights for weights in self._networks.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.Adam(self._learning, lr=options.lr)
        self._parts = BatchParts(self._device)
        self.epoch = 0
        self.losses: list[dict[str, float]] = []

    @property
    def batches(self) -> int:
        """Batches of an epoch: `repeat` pairs of each kind from each image."""
        return -(-self._number * self.options.repeat // self.options.batch_size)

    def run_epoch(self, stage: str, progress: Progress) -> dict[str, float]:
        """Train for an epoch and return the mean of the loss and of its terms; `progress` counts batches."""
        sums: Terms = {}
        progress(stage, 0, self.batches)
        for done, images in enumerate(self._image_numbers(), start=1):
            for name, value in self.step(images).items():
                sums[name] = sums.get(name, 0) + value
            progress(stage, done, self.batches)
        self.epoch += 1
        self.losses.append({name: float(value) / self.batches for name, value in sums.items()})
        return self.losses[-1]

    def step(self, images: dict[str, torch.Tensor]) -> Terms:
        """Do a step of Adam on pairs from images, of numbers (b,) for each term; return the terms."""
        batch = self._batch(images)
        size = len(next(iter(images.values())))
        terms = self._parts.backward(
            lambda part, share: self._terms(_part(batch, part), share), size, self._learning
        )
        if not torch.isfinite(terms["loss"]):
            raise DivergedError(
                f"the training diverged in epoch {self.epoch + 1}: its loss is {float(terms['loss'])}; "
                "take a smaller learning rate (lr)"
            )
        self._optimizer.step()
        return terms

    def _image_numbers(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the numbers of the images of each batch: `repeat` times all, shuffled for each term."""
        pairs = self._number * self.options.repeat
        shuffled = {
            f"{kind}_{side}": torch.randperm(pairs, generator=self._generator, device=self._device)
            for kind in ("position", "svdd")
            for side in self.options.sides
        }
        for start in range(0, pairs, self.options.batch_size):
            batch = slice(start, start + self.options.batch_size)
            yield {name: order[batch] % self._number for name, order in shuffled.items()}

    def _batch(self, images: dict[str, torch.Tensor]) -> Batch:
        batch: Batch = {}
        for side in self.options.sides:
            batch[f"position_{side}"] = self._pairs.position(side, images[f"position_{side}"])
        for side in self.options.sides:
            batch[f"svdd_{side}"] = self._pairs.svdd(side, images[f"svdd_{side}"]), None
        return batch

    def _terms(self, batch: Batch, share: float = 1.0) -> Terms:
        """Return the loss of equation 6, self-supervised + lambda * SVDD, and its terms, times `share`."""
        terms: Terms = {}
        loss = torch.zeros((), device=self._device)
        for name, (patches, position) in batch.items():
            side = patches.shape[-1]
            first, second = self._embed(side, patches)
            if position is None:
                terms[name] = (first - second).norm(dim=1).mean() * share  # equation 4
                loss = loss + self.options.lambda_value * terms[name]
            else:
                logits = self._classifiers[str(side)](first, second)
                terms[name] = F.cross_entropy(logits, position) * share  # equation 5
                loss = loss + terms[name]
        return {"loss": loss, **terms}

    def _embed(self, side: int, patches: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (2, b, D) float32 of pairs (2, b, 3, side, side)."""
        flat = patches.flatten(0, 1)
        with autocast(self._device, self.options.precision):
            embeddings = self.encoder(flat) if side == LARGE else self.encoder.enc(flat).flatten(1)
        pairs: torch.Tensor = embeddings.float().unflatten(0, (2, -1))
        return pairs

    # Checkpoints

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything that an epoch changes: networks, optimizer, random state."""
        moments = self._optimizer.state_dict()["state"]
        return {
            **{f"networks.{name}": value for name, value in self._networks.state_dict().items()},
            **{f"adam.{i}.{name}": value for i, of in moments.items() for name, value in of.items()},
            "generator": self._generator.get_state(),
        }

    def _require_moments(self, moments: dict[int, dict[str, torch.Tensor]]) -> None:
        """Raise a `ModelFileError` where the optimizer's moments are not those of the weights that learn."""
        learning = self._optimizer.param_groups[0]["params"]
        fit = set(moments) == set(range(len(learning))) and all(
            set(moments[i]) == {"step", "exp_avg", "exp_avg_sq"}
            and moments[i]["step"].shape == ()
            and moments[i]["exp_avg"].shape == moments[i]["exp_avg_sq"].shape == weights.shape
            and min(moments[i]["step"], moments[i]["exp_avg_sq"].min()) >= 0
            for i, weights in enumerate(learning)
        )
        if not fit:
            raise ModelFileError("the checkpoint's moments are not those of its networks")

    def restore(self, state: dict[str, torch.Tensor], epoch: int, losses: list[dict[str, float]]) -> None:
        """Go on from what `state` returned after `epoch` epochs, of which these `losses` are known.

        Raises
        ------
        ModelFileError
            When it is of other networks.
        """
        state = dict(state)
        generator = state.pop("generator")
        self.take_networks(state)
        self.take_moments(state)
        self._generator.set_state(generator)
        self.epoch, self.losses = epoch, losses

    def take_networks(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with the networks of what `state` returned; a `ModelFileError` says that they are others."""
        networks = _below(state, "networks.")
        try:
            self._networks.load_state_dict(networks)
        except RuntimeError as error:
            raise ModelFileError(f"the checkpoint is of other networks: {error}") from error

    def take_moments(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with the optimizer's moments of what `state` returned; errors as of `take_networks`."""
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below(state, "adam.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        self._require_moments(moments)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _part(batch: Batch, part: slice) -> Batch:
    return {
        name: (patches[:, part], None if position is None else position[part])
        for name, (patches, position) in batch.items()
    }


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return what begins with `prefix`, by the rest of its name, if it is finite float32."""
    chosen = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    for name, value in chosen.items():
        if value.dtype != torch.float32 or not value.isfinite().all():
            raise ModelFileError(f"the checkpoint's {prefix}{name} is {value.dtype}, or not finite")
    return chosen
