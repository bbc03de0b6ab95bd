"""Patch SVDD: an encoder trained on the normal images alone, and the nearest training patch of every patch.

Yi and Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020. Where the paper
and the authors' code differ, this follows the code, whose numbers are the published ones.
"""

import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import (
    Detector,
    Images,
    Scores,
    Watch,
    checked_batches,
    normal_threshold,
    unwatched,
)
from anomaly_lib.detectors.files import nan_to_none, new_folder, none_to_nan, read_model, write_model
from anomaly_lib.detectors.frozen import remade, require_rate
from anomaly_lib.detectors.official import read_official_patch_svdd
from anomaly_lib.detectors.patch_svdd.checkpoints import Checkpoints
from anomaly_lib.detectors.patch_svdd.network import LARGE, SMALL, STEP, HierarchicalEncoder
from anomaly_lib.detectors.patch_svdd.training import Training, TrainingOptions
from anomaly_lib.detectors.sampling import Sampler, check_sampling, select_rows
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.kernels.patches import spread_scores
from anomaly_lib.networks.devices import PrecisionChoice, pick_device, pick_precision
from anomaly_lib.progress import Progress, silent, track

log = logging.getLogger(__name__)

TRANSFORM = Transform(resize=256, square=True, interpolation="bicubic")

# Images embedded at a time (the first layers' maps take 8 MB each), and searched for at a time.
_EMBEDDED, _SEARCHED = 2, 8

# Rows of a memory bank, drawn at random, that an early look at a training makes do with.
_LOOK_ROWS = 50_000


class PatchPlace(NamedTuple):
    """A patch of a training image: the image's number, the patch's corner in pixels, how far it is."""

    image: int
    row: int
    column: int
    distance: float


class PatchSVDD(Detector):
    """Detector by distance to the nearest normal patch, in an embedding learned from normal images.

    Parameters
    ----------
    weights
        ``enchier.pkl`` of the official code: the encoder is taken from there and not trained.
    lambda_value
        Weight of the SVDD loss; the position loss has weight 1. The paper's value is the default, where one
        of the published codes has 1.
    D
        Dimensions of an embedding.
    K
        Side of the largest patches in pixels: 64 for both levels of the encoder, or 32 for the lower one
        alone.
    S
        Pixels between neighbouring patches of 64 and of 32 pixels when they are scored; even numbers.
    epochs, repeat
        Epochs of training, and the pairs of each kind from each image in one. (The official code spends the
        first of its epochs on evaluation: its 300 are 299 here.)
    lr, batch_size
        Of Adam, and the pairs of each kind in a step.
    sampler, coreset
        How the memory banks are thinned out, as for `PatchCore`; ``identity``, the original's way, keeps all
        patches.
    false_alarm_rate, threshold_images
        Share of good images that `threshold_` may at most call anomalous, and the number of training images,
        evenly spread, that it is learned from; 0: no threshold.
    checkpoints, checkpoint_every
        Folder for checkpoints, from which an interrupted training goes on, and the epochs between them.
    look_every
        Epochs between early looks at how well the detector does; 0: none. See `Detector.prepare`.
    transform, seed, device
        Input geometry; initial weights and pairs; where to compute.
    precision
        Arithmetic of the training (``auto``: bf16 where it is fast). Embeddings are always computed in fp32:
        those of neighbouring patches lie close together.

    Attributes
    ----------
    mean_image_
        (3, h, w) mean of the training images, in [0, 1].
    memory_banks_
        By the side of their patches, 64 and 32, embeddings (rows, D) float32.
    patch_numbers_
        Likewise the number (rows,) int64 of each row's patch, counted row by row through all training images.
    leave_one_out_
        (n,) scores of training images, each against the patches of all others; what `threshold_` is from. The
        encoder has seen these images, so that new ones may score somewhat higher.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "patch_svdd"
    mean_image_: torch.Tensor
    memory_banks_: dict[int, torch.Tensor]
    patch_numbers_: dict[int, torch.Tensor]
    leave_one_out_: np.ndarray

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        lambda_value: float = 1e-3,
        D: int = 64,
        K: int = LARGE,
        S: tuple[int, int] = (16, 4),
        epochs: int = 300,
        lr: float = 1e-4,
        batch_size: int = 64,
        repeat: int = 100,
        sampler: Sampler = "identity",
        coreset: float = 0.1,
        false_alarm_rate: float = 0.01,
        threshold_images: int = 100,
        checkpoints: str | Path | None = None,
        checkpoint_every: int = 1,
        look_every: int = 0,
        transform: Transform = TRANSFORM,
        seed: int = 0,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> None:
        self.weights = None if weights is None else str(Path(weights).absolute())
        self.lambda_value, self.D, self.K, self.S = lambda_value, D, K, (int(S[0]), int(S[1]))
        self.epochs, self.lr, self.batch_size, self.repeat = epochs, lr, batch_size, repeat
        self.sampler, self.coreset = sampler, coreset
        self.false_alarm_rate, self.threshold_images = false_alarm_rate, threshold_images
        self.checkpoints = None if checkpoints is None else Path(checkpoints)
        self.checkpoint_every, self.look_every = checkpoint_every, look_every
        self.transform = transform
        self.seed = seed
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._watch: Watch = unwatched
        self._check_parameters()

    def prepare(self, name: str, watch: Watch) -> None:
        """Keep checkpoints under `name`, and tell `watch` of every epoch, those before a checkpoint first."""
        self._watch = watch
        if self.checkpoints is not None:
            self.checkpoints = self.checkpoints / name

    def fit(self, images: Images | torch.Tensor, progress: Progress = silent) -> Self:
        """Train the encoder on normal `images` (read once and kept as 8 bits) and fill the memory banks."""
        if len(images) == 0:
            raise DataError("no images to fit on: Patch SVDD needs images of good parts")
        pixels = self._read(images, progress)
        self.mean_image_ = _mean_image(pixels)
        if self.weights is not None:
            self._set_encoder(read_official_patch_svdd(Path(self.weights)))
        else:
            self._set_encoder(self._train(pixels, progress))
        self._fill(pixels, progress)
        self.leave_one_out_ = self._leave_one_out(pixels, progress)
        self.threshold_ = math.nan
        if self.threshold_images:
            self.threshold_ = normal_threshold(self.leave_one_out_, self.false_alarm_rate)
        return self

    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Score images by the product of the maps of both levels.

        The scores' parts are the maps that it is made of, ``K64`` and ``K32``, and their ``sum``.
        """
        self._require_fitted()
        kinds: dict[str, list[torch.Tensor]] = {}
        total, batches = checked_batches(images)
        for batch in track(_regrouped(batches, _SEARCHED), "score", total, progress):
            self.require_size(*batch.shape[2:])
            for kind, maps in self._maps(batch).items():
                kinds.setdefault(kind, []).append(maps.cpu())
        empty = torch.zeros(0, self.transform.size, self.transform.size)
        scores = {
            kind: _scores_of(torch.cat(kinds.get(kind, [empty]))) for kind in (*self._kinds(), "product")
        }
        product = scores.pop("product")
        return Scores(product.image, product.maps, scores)

    def nearest_patches(
        self, image: torch.Tensor, row: int, column: int, side: int = SMALL, k: int = 5
    ) -> list[PatchPlace]:
        """Return the `k` nearest training patches, in a memory bank, of a patch of an image, nearest first.

        Parameters
        ----------
        image
            (3, h, w) in [0, 1].
        row, column, side
            Upper left corner and side of the patch, in pixels. The patches that are scored lie `S` apart;
            the one at or before this corner is taken.
        """
        self._require_fitted()
        stride = self._strides()[side]
        with torch.inference_mode():
            embeddings = self._embed(image[None])[side]
        rows, columns = embeddings.shape[1:3]
        asked = embeddings[0, min(row // stride, rows - 1), min(column // stride, columns - 1)]
        found, which = self._indexes[side].search(asked[None], k)
        places = []
        for distance, patch in zip(found[0].sqrt(), self.patch_numbers_[side][which[0].cpu()], strict=True):
            of_image, place = divmod(int(patch), rows * columns)
            top, left = (stride * number for number in divmod(place, columns))
            places.append(PatchPlace(of_image, top, left, float(distance)))
        return places

    def save(self, folder: Path) -> None:
        """Write the encoder, the mean image, the memory banks and the hyper-parameters."""
        self._require_fitted()
        description = {
            "method": self.method,
            "parameters": self._parameters(),
            "transform": asdict(self.transform),
            "threshold": nan_to_none(self.threshold_),
        }
        tensors = {
            "mean_image": self.mean_image_,
            **{f"memory_bank_{side}": bank for side, bank in self.memory_banks_.items()},
            **{f"patch_numbers_{side}": numbers for side, numbers in self.patch_numbers_.items()},
            **{f"encoder.{name}": value for name, value in self._encoder.state_dict().items()},
        }
        with new_folder(Path(folder)) as unfinished:
            write_model(unfinished, description, tensors)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the model in `folder`, which holds all that it needs: `weights` are refused."""
        if weights is not None:
            raise ParameterError(f"the Patch SVDD model in {folder} has its encoder with it: omit --weights")
        description, tensors = read_model(Path(folder))
        model = remade(cls, description, device, None)
        model.mean_image_ = tensors["mean_image"].to(model.device)
        banks, numbers = (
            {side: tensors[f"{name}_{side}"] for side in model._strides()}
            for name in ("memory_bank", "patch_numbers")
        )
        model._take({side: bank.to(model.device) for side, bank in banks.items()}, numbers)
        model._set_encoder(
            {
                name.removeprefix("encoder."): value
                for name, value in tensors.items()
                if name.startswith("encoder.")
            }
        )
        model.threshold_ = none_to_nan(description["threshold"])
        return model

    def _check_parameters(self) -> None:
        if self.K not in (LARGE, SMALL):
            raise ParameterError(
                f"K is {self.K}: the encoder sees patches of 64 pixels (and 32), or of 32 only"
            )
        for side, stride in self._strides().items():
            if stride < STEP or stride > side or stride % STEP:
                raise ParameterError(
                    f"S is {stride} for patches of {side} pixels: give an even number from 2 to {side}"
                )
        for name in ("D", "batch_size", "repeat", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("epochs", "look_every", "threshold_images"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} is {getattr(self, name)}: it must not be negative")
        if not (math.isfinite(self.lambda_value) and self.lambda_value >= 0):
            raise ParameterError(f"lambda_value is {self.lambda_value}: it must be finite and not negative")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ParameterError(f"lr is {self.lr}: it must be finite and positive")
        check_sampling(self.sampler, self.coreset)
        require_rate("false_alarm_rate", self.false_alarm_rate)

    def _parameters(self) -> dict[str, Any]:
        names = (
            *("weights", "lambda_value", "D", "K", "S", "epochs", "lr", "batch_size", "repeat"),
            *("sampler", "coreset", "false_alarm_rate", "threshold_images", "seed", "precision"),
        )
        return {name: getattr(self, name) for name in names}

    def _strides(self) -> dict[int, int]:
        """Return the sides of the patches that are scored, and the pixels between them."""
        return {side: stride for side, stride in zip((LARGE, SMALL), self.S, strict=True) if side <= self.K}

    def _kinds(self) -> list[str]:
        """Return the names of the scores' parts."""
        return [*(f"K{side}" for side in self._strides()), *(["sum"] if self.K == LARGE else [])]

    def _read(self, images: Images | torch.Tensor, progress: Progress) -> torch.Tensor:
        """Return all images as (n, 3, h, w) uint8."""
        total, batches = checked_batches(images)
        read = [
            batch.mul(255).round_().clamp_(0, 255).to(self.device, torch.uint8)
            for batch in track(batches, "read", total, progress)
        ]
        pixels = torch.cat(read)
        if min(pixels.shape[2:]) < self.K:
            raise ParameterError(
                f"images of {pixels.shape[3]} x {pixels.shape[2]} pixels are smaller than patches of "
                f"{self.K}: raise --imagesize" + (", or give --K 32" if self.K == LARGE else "")
            )
        return pixels

    def require_size(self, height: int, width: int) -> None:
        """Raise a `DataError` when the size is not that of the mean image."""
        fitted = tuple(self.mean_image_.shape[1:])
        if fitted != (height, width):
            raise DataError(
                f"images of {width} x {height} pixels for a Patch SVDD that was fitted on {fitted[1]} x "
                f"{fitted[0]}: its mean image is of that size; omit --resize and --imagesize"
            )

    # Section 3: training

    def _train(self, pixels: torch.Tensor, progress: Progress) -> dict[str, torch.Tensor]:
        """Return the weights of an encoder trained on images (n, 3, h, w) uint8."""
        options = TrainingOptions(
            lambda_value=self.lambda_value,
            D=self.D,
            sides=tuple(self._strides()),
            lr=self.lr,
            batch_size=self.batch_size,
            repeat=self.repeat,
            seed=self.seed,
            precision=self.precision,
        )
        training = Training(pixels, self.mean_image_, options)
        checkpoints = Checkpoints(self.checkpoints, pixels) if self.checkpoints is not None else None
        if checkpoints is not None:
            checkpoints.resume(training, self.epochs)
        known_from = training.epoch - len(training.losses) + 1  # 1, but for checkpoints that kept no losses
        for epoch, losses in enumerate(training.losses, start=known_from):
            self._watch(epoch, losses, None)
        said = ""
        while training.epoch < self.epochs:
            losses = training.run_epoch(f"epoch {training.epoch + 1} of {self.epochs}{said}", progress)
            said = f" ({_sentence(losses)})"
            log.info("epoch %d of %d: %s", training.epoch, self.epochs, _sentence(losses))
            last = training.epoch == self.epochs
            if checkpoints is not None and (last or training.epoch % self.checkpoint_every == 0):
                checkpoints.save(training)
            look = self.look_every and training.epoch % self.look_every == 0
            self._watch(training.epoch, losses, self._as_it_is(training, pixels) if look else None)
        return training.encoder.state_dict()

    def _as_it_is(self, training: Training, pixels: torch.Tensor) -> "PatchSVDD":
        """Return a detector with the encoder as it is now and small memory banks, for an early look."""
        now = copy.copy(self)
        now.sampler, now.coreset = "random", _LOOK_ROWS
        now._set_encoder(training.encoder.state_dict())
        now._fill(pixels, silent)
        now.threshold_ = math.nan
        return now

    def _set_encoder(self, weights: dict[str, torch.Tensor]) -> None:
        self.D = len(weights["conv2.weight"])
        self._encoder = HierarchicalEncoder(self.D)
        self._encoder.load_state_dict(weights)
        self._encoder.requires_grad_(False).eval()
        self._encoder.to(self.device)

    # Section 3.4: anomaly maps

    @torch.inference_mode()
    def _embed(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the embeddings (n, rows, columns, D) of all patches of images (n, 3, h, w), by side."""
        parts = []
        for part in images.split(_EMBEDDED):
            scaled = part.to(self.device).float()
            scaled = scaled / 255 if part.dtype == torch.uint8 else scaled
            parts.append(self._encoder.dense(scaled - self.mean_image_, self._strides()))
        return {side: torch.cat([part[side] for part in parts]) for side in self._strides()}

    def _fill(self, pixels: torch.Tensor, progress: Progress) -> None:
        """Fill the memory banks with the patches of images (n, 3, h, w) uint8, or with a coreset of them."""
        banks: dict[int, torch.Tensor] = {}
        done = 0
        for batch in track(pixels.split(_EMBEDDED), "embed", len(pixels), progress):
            for side, embeddings in self._embed(batch).items():
                if side not in banks:
                    banks[side] = embeddings.new_empty(len(pixels), *embeddings.shape[1:])
                banks[side][done : done + len(batch)] = embeddings
            done += len(batch)
        kept_banks, numbers = {}, {}
        generator = torch.Generator().manual_seed(self.seed)
        for side in self._strides():
            rows = banks.pop(side).flatten(0, 2)  # (n * rows * columns, D)
            size = max(1, int(len(rows) * self.coreset)) if self.coreset <= 1 else int(self.coreset)
            kept_banks[side], numbers[side] = rows, torch.arange(len(rows))
            if self.sampler != "identity" and size < len(rows):
                kept = select_rows(rows, size, self.sampler, generator, progress)
                kept_banks[side], numbers[side] = rows[kept], kept.cpu()
            del rows  # before the next bank
        self._take(kept_banks, numbers)

    def _take(self, banks: dict[int, torch.Tensor], numbers: dict[int, torch.Tensor]) -> None:
        """Prepare to search memory banks, whose rows are patches of these numbers."""
        self.memory_banks_, self.patch_numbers_ = banks, numbers
        self._indexes = {
            side: NeighborIndex(bank, (numbers[side] // self._patches(side)).to(bank.device))
            for side, bank in banks.items()
        }

    def _patches(self, side: int) -> int:
        """Return the number of patches of an image."""
        rows, columns = (
            1 + (length - side) // self._strides()[side] for length in self.mean_image_.shape[1:]
        )
        return rows * columns

    @torch.inference_mode()
    def _maps(
        self,
        images: torch.Tensor,
        numbers: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the anomaly maps (n, h, w) of images (n, 3, h, w) by kind.

        With the `numbers` (n,) of training images, an image's own patches are no neighbours of its patches.
        """
        maps: dict[str, torch.Tensor] = {}
        for side, embeddings in self._embed(images).items():
            own = None if numbers is None else numbers.repeat_interleave(self._patches(side))
            found, _ = self._indexes[side].search(embeddings.flatten(0, 2), groups=own)
            distances = found[:, 0].sqrt().unflatten(0, embeddings.shape[:3])  # (n, rows, columns)
            size = (images.shape[2], images.shape[3])
            maps[f"K{side}"] = spread_scores(distances, size, side, self._strides()[side])
        levels = torch.stack(list(maps.values()))
        return maps | {"sum": levels.sum(dim=0), "product": levels.prod(dim=0)}

    # The threshold, from normal images alone (not in the paper)

    def _leave_one_out(self, pixels: torch.Tensor, progress: Progress) -> np.ndarray:
        """Return the scores (m,) of some of the training images against the patches of all others."""
        if not self.threshold_images or len(pixels) == 1:
            return np.zeros(0, np.float32)
        chosen = torch.arange(0, len(pixels), -(-len(pixels) // self.threshold_images), device=pixels.device)
        scores = [
            self._maps(pixels[numbers], numbers)["product"].flatten(1).amax(dim=1).cpu()
            for numbers in track(chosen.split(_SEARCHED), "threshold", len(chosen), progress)
        ]
        # Where a small bank has no patches of other images, infinite distances have made nan.
        return torch.cat(scores).nan_to_num_(nan=torch.inf).numpy()


def _mean_image(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean (3, h, w) in [0, 1] of images (n, 3, h, w) uint8."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.int64, device=pixels.device)
    for image in pixels:
        total += image
    return (total.double() / (255 * len(pixels))).float()


def _scores_of(maps: torch.Tensor) -> Scores:
    """Return maps (n, h, w) with their maxima, the images' scores (section 3.4 of the paper)."""
    images = maps.flatten(1).amax(dim=1) if len(maps) else torch.zeros(0)
    return Scores(images.numpy(), maps.numpy())


def _regrouped(batches: Iterator[torch.Tensor], images: int) -> Iterator[torch.Tensor]:
    """Yield the images of `batches` in batches of at least `images`, but for the last."""
    waiting: list[torch.Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= images:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def _sentence(losses: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in losses.items())
