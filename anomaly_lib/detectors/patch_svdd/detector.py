"""Patch SVDD: an encoder trained on the normal images alone, and the nearest training patch of every patch.

Yi and Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020. Where the paper
and the authors' code differ, this follows the code, whose numbers are the published ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Geometry, Transform
from anomaly_lib.detectors.base import Detector
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.parameters import (
    FLAG,
    RATE,
    SEED,
    Choice,
    Constraint,
    Each,
    Interval,
    Optional,
    Text,
    Whole,
)
from anomaly_lib.detectors.patch_svdd.embedding import (
    PatchEncoder,
    in_shape,
    mean_image,
    read_pixels,
    require_size,
    saved_weights,
)
from anomaly_lib.detectors.patch_svdd.network import LARGE, SMALL, STEP
from anomaly_lib.detectors.patch_svdd.official import read_official_patch_svdd
from anomaly_lib.detectors.patch_svdd.patch_banks import PatchBanks, Sampling
from anomaly_lib.detectors.patch_svdd.schedule import Schedule, Weights
from anomaly_lib.detectors.patch_svdd.training import Training, TrainingOptions
from anomaly_lib.detectors.places import PatchPlace
from anomaly_lib.detectors.sampling import CoresetSize, Sampler
from anomaly_lib.detectors.sources import Images, checked_batches
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import ModelFileError, ParameterError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.networks.devices import Precision, PrecisionChoice, pick_device, pick_precision
from anomaly_lib.progress import Progress, silent, track

# The official code's.
OFFICIAL_TRANSFORM = Transform(resize=256, square=True, interpolation="bicubic")

# Rows of a memory bank, drawn at random, that an early look at a training makes do with.
_LOOK_ROWS = 50_000


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
        Dimensions of an embedding; with `weights`, theirs.
    K
        Side of the largest patches in pixels: 64 for both levels of the encoder, 32 for the lower one.
    S
        Pixels between neighbouring patches of 64 and of 32 pixels when they are scored; even numbers.
    epochs, repeat
        Epochs of training, and pairs of each kind from each image in one. (The official 300 are 299 here.)
    lr, batch_size
        Of Adam, and the pairs of each kind in a step.
    sampler, coreset
        How the memory banks are thinned out, as for `PatchCore`; ``identity``, the original's way: not.
    false_alarm_rate, robust, threshold_images
        Share of good images that `threshold_` may at most call anomalous, see also `Detector.outliers`; and
        the number of training images, evenly spread, that it is learned from; 0: no threshold.
    checkpoints, checkpoint_every
        Folder for checkpoints, from which an interrupted training goes on, and the epochs between them.
    look_every
        Epochs between early looks at how well it does, of which `fit` tells; 0: none.
    transform, seed, device, precision
        Input geometry, by default whole pictures, brought to the shape of the first; initial weights and
        pairs; where to compute; arithmetic of the training (``auto``: bf16 where it is fast; embeddings are
        always fp32).

    Attributes
    ----------
    patch_banks_
        Encoder and memory banks: see `anomaly_lib.detectors.patch_svdd.patch_banks.PatchBanks`.
    calibration_
        (n,) scores of training images against the patches of all others; the encoder has seen them.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "patch_svdd"
    constraints: ClassVar[Mapping[str, Constraint]] = {
        "weights": Optional(Text()),
        "lambda_value": Interval(0, closed=True),
        "D": Whole(1, 4096),
        "K": Choice((LARGE, SMALL)),
        "S": Each(Whole(STEP), 2, 2),
        "epochs": Whole(0, 1_000_000),
        "lr": Interval(0),
        "batch_size": Whole(1, 65_536),
        "repeat": Whole(1, 100_000),
        "sampler": Choice.of(Sampler),
        "coreset": CoresetSize(),
        "false_alarm_rate": RATE,
        "robust": FLAG,
        "threshold_images": Whole(0, 1_000_000),
        "checkpoint_every": Whole(1, 1_000_000),
        "look_every": Whole(0, 1_000_000),
        "seed": SEED,
        "precision": Choice.of(Precision),
    }
    unsaved: ClassVar[frozenset[str]] = Detector.unsaved | {"checkpoints", "checkpoint_every", "look_every"}
    patch_banks_: PatchBanks

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        lambda_value: float = 1e-3,
        D: int = 64,
        K: int = LARGE,
        S: Sequence[int] = (16, 4),
        epochs: int = 300,
        lr: float = 1e-4,
        batch_size: int = 64,
        repeat: int = 100,
        sampler: Sampler = "identity",
        coreset: float = 0.1,
        false_alarm_rate: float = 0.01,
        robust: bool = False,
        threshold_images: int = 100,
        checkpoints: str | Path | None = None,
        checkpoint_every: int = 1,
        look_every: int = 0,
        transform: Transform | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> None:
        self.weights = None if weights is None else str(Path(weights).absolute())
        self.lambda_value, self.D, self.K = lambda_value, D, K
        self.S: Sequence[int] = tuple(S) if isinstance(S, list) else S
        self.epochs, self.lr, self.batch_size, self.repeat = epochs, lr, batch_size, repeat
        self.sampler, self.coreset = sampler, coreset
        self.false_alarm_rate, self.robust, self.threshold_images = false_alarm_rate, robust, threshold_images
        self.checkpoints = None if checkpoints is None else Path(checkpoints)
        self.checkpoint_every, self.look_every = checkpoint_every, look_every
        self.transform = transform or self.default_transform()
        self.seed = seed
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._check_parameters()
        for side, stride in self.strides.items():
            if stride < STEP or stride > side or stride % STEP:
                raise ParameterError(
                    f"S is {stride} for patches of {side} pixels: give an even number from 2 to {side}"
                )

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray | None:
        """Train the encoder on normal `images` (read once and kept as 8 bits) and fill the memory banks."""
        pixels = self.read(images, progress)
        mean = mean_image(pixels)
        if self.weights is not None:
            weights = read_official_patch_svdd(Path(self.weights))
        else:
            weights = self._train(pixels, mean, watch, progress)
        self.patch_banks_ = self.filled_banks(weights, pixels, mean, progress)
        chosen = self.threshold_numbers(len(pixels))
        return (
            self.patch_banks_.left_out_scores(pixels, chosen, 0, progress) if self.threshold_images else None
        )

    def learn_more(
        self, images: Images | torch.Tensor, calibrate: bool, progress: Progress
    ) -> np.ndarray | None:
        """Add the patches of further images to the memory banks, embedded by the encoder as it is."""
        pixels = self.read(images, progress, tuple(self.patch_banks_.encoder.mean_image.shape[1:]))
        sampling = Sampling(self.sampler, self.coreset, self.seed)
        self.patch_banks_ = self.patch_banks_.extended(pixels, self.images_, sampling, progress)
        chosen = self.threshold_numbers(len(pixels))
        return (
            self.patch_banks_.left_out_scores(pixels, chosen, self.images_, progress) if calibrate else None
        )

    def score_batch(self, images: torch.Tensor) -> Scores:
        """Score images by the product of the maps of both levels.

        The scores' parts are the maps that it is made of, ``K64`` and ``K32``, and their ``sum``.
        """
        shape = tuple(self.patch_banks_.encoder.mean_image.shape[1:])
        images = in_shape(images, shape) if self.transform.whole else images
        require_size(shape, tuple(images.shape[2:]))
        maps = self.patch_banks_.maps(images)
        kinds = [*(f"K{side}" for side in self.strides), *(["sum"] if self.K == LARGE else [])]
        product = _scores_of(maps["product"])
        return Scores(product.image, product.maps, {kind: _scores_of(maps[kind]) for kind in kinds})

    def nearest_patches(
        self, image: torch.Tensor, row: int, column: int, k: int = 5, side: int = SMALL
    ) -> list[PatchPlace]:
        """Return the `k` training patches nearest to one of an image; those compared have this side."""
        self._require_fitted()
        require_size(self.seen_shape(0, 0), tuple(image.shape[1:]))
        return self.patch_banks_.nearest(image, row, column, k, side)

    def seen_shape(self, width: int, height: int) -> tuple[int, int]:
        """Return (height, width) of the mean image, to which all pictures are brought."""
        shape = self.patch_banks_.encoder.mean_image.shape
        return shape[1], shape[2]

    def default_transform(self) -> Transform:
        """Return the geometry of whole pictures, in the official size."""
        return OFFICIAL_TRANSFORM.asked(Geometry(whole=True))

    @property
    def least_images(self) -> int:
        """How many images the patches in the memory banks are of at least."""
        return self.patch_banks_.least_images

    @property
    def strides(self) -> dict[int, int]:
        """The sides of the patches that are scored, and the pixels between them."""
        return {side: stride for side, stride in zip((LARGE, SMALL), self.S, strict=True) if side <= self.K}

    @classmethod
    def require_geometry(cls, fitted: Transform, asked: Transform) -> None:
        """Raise a `DataError` when the size is not that of the mean image."""
        require_size((fitted.size, fitted.size), (asked.size, asked.size))

    def read(
        self, images: Images | torch.Tensor, progress: Progress, shape: Sequence[int] = ()
    ) -> torch.Tensor:
        """Return images (n, 3, h, w) uint8; whole pictures in this shape, or in that of the first."""
        batches = track(checked_batches(images), "read", len(images), progress)
        return read_pixels(batches, self.K, whole=self.transform.whole, shape=shape).to(self.device)

    # Section 3: training

    def _train(self, pixels: torch.Tensor, mean: torch.Tensor, watch: Watch, progress: Progress) -> Weights:
        """Return the weights of an encoder trained on images (n, 3, h, w) uint8."""
        schedule = Schedule(self.epochs, self.checkpoints, self.checkpoint_every, self.look_every)

        def look(weights: Weights) -> Detector:
            return self.early(weights, pixels, mean)

        return schedule.run(self.training(pixels, mean, self.seed), pixels, look, watch, progress)

    def training(self, pixels: torch.Tensor, mean: torch.Tensor, seed: int) -> Training:
        """Return an encoder that is yet to be trained on images (n, 3, h, w) uint8."""
        options = TrainingOptions(
            lambda_value=self.lambda_value,
            D=self.D,
            sides=tuple(self.strides),
            lr=self.lr,
            batch_size=self.batch_size,
            repeat=self.repeat,
            seed=seed,
            precision=self.precision,
        )
        return Training(pixels, mean, options)

    def early(self, weights: Weights, pixels: torch.Tensor, mean: torch.Tensor) -> Detector:
        """Return a detector with the encoder as it is now and small memory banks, for an early look."""
        early = self.with_transform(self.transform)
        early.sampler, early.coreset = "random", _LOOK_ROWS
        early.patch_banks_ = early.filled_banks(weights, pixels, mean, silent)
        early._calibrate(None)
        return early

    # Section 3.4: anomaly maps

    def filled_banks(
        self, weights: Weights, pixels: torch.Tensor, mean: torch.Tensor, progress: Progress
    ) -> PatchBanks:
        """Return the memory banks of images (n, 3, h, w) uint8."""
        sampling = Sampling(self.sampler, self.coreset, self.seed)
        return PatchBanks.filled(PatchEncoder(weights, mean, self.strides), pixels, sampling, progress)

    # The threshold, from normal images alone (not in the paper)

    def threshold_numbers(self, images: int) -> torch.Tensor:
        """Return the numbers (k,) of the images, evenly spread, whose scores the threshold is learned from.

        Of a single image there are none: it has no others to be compared with.
        """
        number = min(self.threshold_images, images) if images + self.images_ > 1 else 0
        return torch.arange(number) * images // max(1, number)

    # Saving and loading

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the encoder, the mean image and the memory banks."""
        banks = self.patch_banks_
        return {
            "mean_image": banks.encoder.mean_image,
            **{f"memory_bank_{side}": bank for side, bank in banks.banks.items()},
            **{f"patch_numbers_{side}": numbers for side, numbers in banks.numbers.items()},
            **{f"encoder.{name}": value for name, value in banks.encoder.weights().items()},
        }

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> "PatchSVDD":
        """Return the model in `folder`, which holds all that it needs: `weights` are refused."""
        if weights is not None:
            raise ParameterError(f"the Patch SVDD model in {folder} has its encoder with it: omit `weights`")
        return super().load(folder, device=device)

    def restore(self, tensors: SavedTensors, description: Mapping[str, Any], folder: Path) -> None:
        """Take over an encoder and memory banks."""
        self.restore_tensors(tensors)

    def restore_tensors(self, tensors: SavedTensors) -> None:
        """Take over what `tensors` returned."""
        mean = tensors.take("mean_image", 3, None, None).to(self.device)
        if min(mean.shape[1:]) < self.K:
            raise ModelFileError("the mean image is smaller than a patch: train it again")
        own_dimensions = self.D if self.weights is None else None
        encoder = PatchEncoder(saved_weights(tensors, own_dimensions), mean, self.strides)
        banks, numbers = {}, {}
        for side in self.strides:
            banks[side] = tensors.take(f"memory_bank_{side}", None, encoder.dimensions).to(self.device)
            numbers[side] = tensors.take(f"patch_numbers_{side}", len(banks[side]), dtype=torch.int64)
            if not len(banks[side]) or int(numbers[side].min()) < 0:
                raise ModelFileError("the memory bank is damaged: train it again")
        self.patch_banks_ = PatchBanks(encoder, banks, numbers)
        if self.sampler == "identity" and not self.patch_banks_.of_whole_images():
            raise ModelFileError("the memory banks are not those of whole images: train it again")


def _scores_of(maps: torch.Tensor) -> Scores:
    """Return maps (n, h, w) with their maxima, the images' scores (section 3.4 of the paper)."""
    return Scores(maps.flatten(1).amax(dim=1).cpu().numpy(), maps.cpu().numpy())
