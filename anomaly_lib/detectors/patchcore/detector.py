"""PatchCore: a memory bank of normal patch features, searched for the nearest neighbour of every patch.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler, "Towards Total Recall in Industrial Anomaly Detection", CVPR
2022. Where the paper and the authors' code differ, this follows the code, whose numbers are the published
ones: squared distances, adaptive means, and no re-weighting of the image score unless `reweight` asks for it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.detectors.base import Detector, Images, Scores, checked_batches, normal_threshold
from anomaly_lib.detectors.files import new_folder, none_to_nan, read_model, write_model
from anomaly_lib.detectors.frozen import describe, lasting_weights, remade, require_rate
from anomaly_lib.detectors.patchcore.memory_bank import BUFFER, MemoryBankBuilder, PatchFeatures, Select
from anomaly_lib.detectors.sampling import Sampler, check_sampling, select_rows
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.kernels.leave_one_out import leave_one_out
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.kernels.patches import embed_patches, smooth_maps
from anomaly_lib.networks.backbone import Backbone
from anomaly_lib.networks.devices import PrecisionChoice, pick_device, pick_precision
from anomaly_lib.networks.names import DEFAULT_BACKBONE, require_known
from anomaly_lib.progress import Progress, silent, track

# Dimensions of the projection that are enough to order patches by their distance roughly.
ROUGH = 32

# The threshold is learned from at most this many of the training images, evenly spread.
THRESHOLD_IMAGES = 500

TRANSFORM = Transform(resize=256, crop=224)

# Hyper-parameters that a model file keeps.
_SAVED = (
    *(
        "backbone",
        "weights",
        "pretrain_embed_dimension",
        "target_embed_dimension",
        "patchsize",
        "sampler",
        "coreset",
    ),
    *("buffer", "num_nn", "reweight", "false_alarm_rate", "official_batch_norm", "seed", "precision"),
)


class PatchCore(Detector):
    """Detector by distance to a memory bank of normal patches.

    Parameters
    ----------
    backbone, layers, weights
        See `anomaly_lib.networks.backbone.Backbone`.
    pretrain_embed_dimension, target_embed_dimension
        Dimensions of a patch feature per layer and over all layers.
    patchsize
        Side of a patch's neighbourhood, in positions of the feature map.
    sampler
        How the memory bank is thinned out: ``approx_greedy_coreset``, ``greedy_coreset`` (they differ in
        where they start), ``random`` or ``identity`` (keep all).
    coreset
        What the sampler keeps: a share of all patches when at most 1, else a number of rows.
    buffer
        Patches held at a time; the default is 500 images at 224. Of more, the memory bank is filled in
        portions, in bounded memory: see `anomaly_lib.detectors.patchcore.memory_bank.MemoryBankBuilder`.
    num_nn
        Nearest neighbours whose mean distance is a patch's score.
    reweight
        Neighbours b of equation 7, which raises the scores of images whose worst patch has its nearest
        neighbour in a sparse part of the memory bank; 0: off.
    false_alarm_rate
        Share of good images that `threshold_` may at most call anomalous.
    official_batch_norm
        Shift the backbone's batch norms as the official code does by mistake; see
        `Backbone.shift_batch_norm`.
    transform, seed, device, precision
        Input geometry; random projection and starting points; where and in which arithmetic the backbone runs
        (``auto``: the first GPU if any, bf16 where it is fast).

    Attributes
    ----------
    memory_bank_
        (rows, target_embed_dimension) float32.
    leave_one_out_
        (n,) scores of the training images (of more than 500 some), each against the patches of all others;
        what `threshold_` is from.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "patch_core"
    leave_one_out_: np.ndarray

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        layers: Sequence[str] = (),
        *,
        weights: str | Path | None = None,
        pretrain_embed_dimension: int = 1024,
        target_embed_dimension: int = 1024,
        patchsize: int = 3,
        sampler: Sampler = "approx_greedy_coreset",
        coreset: float = 0.1,
        buffer: int = BUFFER,
        num_nn: int = 1,
        reweight: int = 0,
        false_alarm_rate: float = 0.01,
        official_batch_norm: bool = False,
        transform: Transform = TRANSFORM,
        seed: int = 0,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> None:
        require_known(backbone)
        self.backbone, self.layers = backbone, tuple(layers)
        self.weights = lasting_weights(weights)
        self.pretrain_embed_dimension = pretrain_embed_dimension
        self.target_embed_dimension = target_embed_dimension
        self.patchsize = patchsize
        self.sampler, self.coreset, self.buffer = sampler, coreset, buffer
        self.num_nn, self.reweight = num_nn, reweight
        self.false_alarm_rate = false_alarm_rate
        self.official_batch_norm = official_batch_norm
        self.transform = transform
        self.seed = seed
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._check_parameters()

    def fit(self, images: Images | torch.Tensor, progress: Progress = silent) -> Self:
        """Fill the memory bank with a coreset of the patches of normal `images`."""
        if len(images) == 0:
            raise DataError("no images to fit on: PatchCore needs images of good parts")
        self._backbone = self._load_backbone()
        generator = torch.Generator().manual_seed(self.seed)
        size = 1.0 if self.sampler == "identity" else self.coreset
        select = self._selector(generator, progress)
        builder = MemoryBankBuilder(self._embed, select, size, generator, self.buffer)
        total, batches = checked_batches(images)
        every = math.ceil(total / THRESHOLD_IMAGES)
        held, first = PatchFeatures(self._embed), 0
        for batch in track(batches, "features", total, progress):
            maps = self._backbone(batch)
            builder.add(maps)
            wanted = slice(-first % every, None, every)
            if every == 1:
                held.append(maps)
            elif len(batch[wanted]):  # copied, as a slice would keep the whole batch in memory
                held.append([layer[wanted].clone() for layer in maps])
            first += len(batch)
        builder.finish()
        self._take(builder.bank, builder.bank_images)
        if self.num_nn > len(self.memory_bank_):
            raise ParameterError(f"{self.num_nn} neighbours were asked of {len(self.memory_bank_)} rows")
        self.leave_one_out_ = self._leave_one_out(held, every, math.ceil(total / every), builder, progress)
        self.threshold_ = normal_threshold(self.leave_one_out_, self.false_alarm_rate)
        return self

    def score(self, images: Images | torch.Tensor, progress: Progress = silent) -> Scores:
        """Score images by the squared distance of their patches to the memory bank."""
        self._require_fitted()
        image_scores, maps = [], []
        total, batches = checked_batches(images)
        for batch in track(batches, "score", total, progress):
            features = self._embed(self._backbone(batch))  # (n, h, w, d)
            distances, rows = self._index.search(features.flatten(0, 2), self.num_nn)
            patch_scores = distances.mean(dim=1).unflatten(0, features.shape[:3])  # (n, h, w)
            worst, patch = patch_scores.flatten(1).max(dim=1)
            if self.reweight:
                at = patch + torch.arange(len(batch), device=patch.device) * patch_scores[0].numel()
                worst = worst * self._weight(features.flatten(0, 2)[at], rows[at, 0])
            image_scores.append(worst.cpu())
            maps.append(smooth_maps(patch_scores, (batch.shape[2], batch.shape[3])).cpu())
        if not image_scores:
            return Scores(
                np.zeros(0, np.float32), np.zeros((0, self.transform.size, self.transform.size), np.float32)
            )
        return Scores(torch.cat(image_scores).numpy(), torch.cat(maps).numpy())

    def save(self, folder: Path) -> None:
        """Write the memory bank and the hyper-parameters; the backbone's weights are named, not copied."""
        self._require_fitted()
        description = describe(self, self._backbone, _SAVED, layers=list(self._backbone.layers))
        with new_folder(Path(folder)) as unfinished:
            write_model(unfinished, description, {"memory_bank": self.memory_bank_})

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", weights: str | None = None) -> Self:
        """Return the model in `folder`; the backbone's weights are where they were, or in `weights`."""
        description, tensors = read_model(Path(folder))
        model = remade(cls, description, device, weights)
        model.restore(tensors["memory_bank"], none_to_nan(description["threshold"]))
        model._backbone.require_same(description["backbone"], folder)
        return model

    def typical_distance(self) -> float:
        """Return the median distance of the memory bank's rows to their nearest neighbour in it.

        A unit for scores where there is no threshold. Of a large bank some 2,000 rows are asked.
        """
        self._require_fitted()
        some = torch.arange(
            0, len(self.memory_bank_), max(1, len(self.memory_bank_) // 2000), device=self.device
        )
        everyone = torch.arange(len(self.memory_bank_), device=self.device)
        own = NeighborIndex(self.memory_bank_, everyone, queries=len(some))
        distances, _ = own.search(self.memory_bank_[some], groups=some)
        return float(distances.median())

    def restore(self, memory_bank: torch.Tensor, threshold: float = math.nan) -> Self:
        """Take over a memory bank (rows, d) that was filled elsewhere, in place of `fit`."""
        if memory_bank.shape[1] != self.target_embed_dimension:
            raise ModelFileError(
                f"the memory bank has rows of {memory_bank.shape[1]} numbers and the model's patches have "
                f"{self.target_embed_dimension}: its files are of different models"
            )
        self._backbone = self._load_backbone()
        self._take(memory_bank.to(self.device))
        self.threshold_ = threshold
        return self

    def _take(self, memory_bank: torch.Tensor, images: torch.Tensor | None = None) -> None:
        """Prepare to search a memory bank (rows, d), whose patches may be known to be of `images` (rows,)."""
        self.memory_bank_ = memory_bank
        self._index = NeighborIndex(memory_bank, images)

    def _check_parameters(self) -> None:
        check_sampling(self.sampler, self.coreset)
        for name in ("buffer", "patchsize", "pretrain_embed_dimension", "target_embed_dimension", "num_nn"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.reweight < 0 or self.reweight == 1:
            raise ParameterError(f"reweight is {self.reweight}: give at least 2 neighbours, or 0 for none")
        require_rate("false_alarm_rate", self.false_alarm_rate)

    def _load_backbone(self) -> Backbone:
        backbone = Backbone(
            self.backbone, self.layers, weights=self.weights, device=self.device, precision=self.precision
        )
        if self.official_batch_norm:
            backbone.shift_batch_norm(self.transform.size)
        return backbone

    # Section 3.1: locally aware patch features

    @torch.inference_mode()
    def _embed(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the patch features (n, h, w, d) of the backbone's maps."""
        return embed_patches(maps, self.patchsize, self.pretrain_embed_dimension, self.target_embed_dimension)

    # Section 3.2: coreset-reduced patch-feature memory bank

    def _selector(self, generator: torch.Generator, progress: Progress) -> Select:
        """Return the function that chooses `size` of projected patches (n, e) to keep."""

        def select(projected: torch.Tensor, size: int) -> torch.Tensor:
            return select_rows(projected, size, self.sampler, generator, progress)

        return select

    # Section 3.3: anomaly detection

    def _weight(
        self, patches: torch.Tensor, rows: torch.Tensor, images: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the weights (n,) of equation 7 for the worst `patches` (n, d) and their nearest bank `rows`.

        With m* the nearest row and N_b(m*) the b rows nearest to it, itself among them: one minus the share
        of exp |patch - m*| in the sum of exp |patch - m| over N_b(m*). Plain (not squared) distances. Rows of
        the patches' own `images` (n,) do not count.
        """
        nearest_rows = self.memory_bank_[rows]
        neighbours = min(self.reweight, len(self.memory_bank_))
        found = self._index.search(nearest_rows, neighbours, images)
        distances = (patches[:, None] - self.memory_bank_[found[1]]).norm(dim=2)  # (n, b)
        distances.masked_fill_(found[0].isinf(), -torch.inf)  # fewer than b rows are of other images
        to_nearest = (patches - nearest_rows).norm(dim=1)
        return 1 - torch.exp(to_nearest - distances.logsumexp(dim=1))

    # The threshold, from normal images alone (not in the paper)

    def _leave_one_out(
        self, held: PatchFeatures, every: int, total: int, builder: MemoryBankBuilder, progress: Progress
    ) -> np.ndarray:
        """Return the scores (n,) of every so many training images against the patches of all others."""
        scores, first = [torch.empty(0)], 0
        rough = builder.projection[:, :ROUGH]
        rough_index = NeighborIndex(builder.projected_bank[:, :ROUGH], builder.bank_images)
        for features in track(held, "threshold", total, progress):
            images = torch.arange(first, first + len(features), device=features.device) * every
            first += len(features)
            flat = features.flatten(0, 2)
            image_of = images.repeat_interleave(features.shape[1] * features.shape[2])
            worst = leave_one_out(flat, flat @ rough, image_of, self._index, rough_index, self.num_nn)
            score = worst.distance
            if self.reweight:
                weights = self._weight(flat[worst.row], worst.neighbour, images)
                score = torch.where(score.isinf(), score, score * weights)
            scores.append(score.cpu())
        return torch.cat(scores).numpy()
