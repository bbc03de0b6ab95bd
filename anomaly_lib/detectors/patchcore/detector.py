"""PatchCore: a memory bank of normal patch features, searched for the nearest neighbour of every patch.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler, "Towards Total Recall in Industrial Anomaly Detection", CVPR
2022. Where the paper and the authors' code differ, this follows the code, whose numbers are the published
ones: squared distances, adaptive means, and no re-weighting of the image score unless `reweight` asks for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from anomaly_lib.datasets.transforms import Geometry, Transform
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.frozen import FROZEN_CONSTRAINTS, lasting_weights
from anomaly_lib.detectors.parameters import FLAG, Choice, Constraint, Each, Text, Whole
from anomaly_lib.detectors.patchcore.bank_detector import BankDetector
from anomaly_lib.detectors.patchcore.memory_bank import (
    BUFFER,
    Keep,
    KeepNumber,
    KeepShare,
    MemoryBank,
    MemoryBankBuilder,
)
from anomaly_lib.detectors.patchcore.reweighting import image_weights
from anomaly_lib.detectors.sampling import CoresetSize, Sampler, select_rows
from anomaly_lib.detectors.sources import Images
from anomaly_lib.detectors.watch import Watch
from anomaly_lib.errors import ModelFileError, ParameterError
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.kernels.patches import embed_patches, smooth_maps
from anomaly_lib.networks.devices import PrecisionChoice, pick_device, pick_precision
from anomaly_lib.networks.names import DEFAULT_BACKBONE, require_known, side_multiple
from anomaly_lib.progress import Progress

# The official scripts'.
OFFICIAL_TRANSFORM = Transform(resize=256, crop=224)

# Of a patch, and of what pools them: a gigabyte, and more than fifty times what is ever asked for.
_MOST_VALUES, _MOST_WEIGHTS = 2**18, 2**28


class PatchCore(BankDetector):
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
    false_alarm_rate, robust
        Share of good images that `threshold_` may at most call anomalous; see `Detector.outliers`.
    official_batch_norm
        Shift the backbone's batch norms as the official code does by mistake; see
        `Backbone.shift_batch_norm`.
    transform
        Input geometry; by default whole pictures, their shorter side at 256 pixels.
    seed, device, precision
        Of the random projection and starting points; where and in which arithmetic the backbone runs
        (``auto``: the first GPU if any, bf16 where it is fast).

    Attributes
    ----------
    memory_bank_
        The normal patches that were kept: see `anomaly_lib.detectors.patchcore.memory_bank.MemoryBank`.
    calibration_
        (n,) scores of the training images (of more than 500 some), each against the bank without its patches
        and, of a greedy coreset, with those that would have been kept in their place. On real and generated
        parts their median lay within 10 % of that of fresh good parts.

    Raises
    ------
    ParameterError
        When a value makes no sense.
    """

    method: ClassVar[str] = "patch_core"
    constraints: ClassVar[Mapping[str, Constraint]] = {
        **FROZEN_CONSTRAINTS,
        "layers": Each(Text()),
        "pretrain_embed_dimension": Whole(1, 65_536),
        "target_embed_dimension": Whole(1, 65_536),
        "patchsize": Whole(1, 33),
        "sampler": Choice.of(Sampler),
        "coreset": CoresetSize(),
        "buffer": Whole(1, 10**9),
        "num_nn": Whole(1, 10_000),
        "reweight": Whole(0, 10_000),
        "official_batch_norm": FLAG,
    }
    memory_bank_: MemoryBank

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
        robust: bool = False,
        official_batch_norm: bool = False,
        transform: Transform | None = None,
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
        self.false_alarm_rate, self.robust = false_alarm_rate, robust
        self.official_batch_norm = official_batch_norm
        self.transform = transform or self.default_transform()
        self.seed = seed
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self._check_parameters()
        if reweight == 1:
            raise ParameterError("reweight is 1: give at least 2 neighbours, or 0 for none")

    def learn(self, images: Images | torch.Tensor, progress: Progress, watch: Watch) -> np.ndarray:
        """Fill the memory bank with a coreset of the patches of normal `images`."""
        generator = torch.Generator().manual_seed(self.seed)
        seen = self.fill(self.bank_builder(generator, progress), images, 0, progress)
        return self.left_out_scores(seen, len(images), 0, 0, progress)

    def score_batch(self, images: torch.Tensor) -> Scores:
        """Score images by the squared distance of their patches to the memory bank."""
        features = self.embed(self.features_of_batch(images).maps)  # (n, h, w, d)
        patches = features.flatten(0, 2)
        distances, rows = self._index.search(patches, self.num_nn)
        patch_scores = distances.mean(dim=1).unflatten(0, features.shape[:3])  # (n, h, w)
        image_scores, worst = patch_scores.flatten(1).max(dim=1)
        if self.reweight:
            worst = worst + torch.arange(len(images), device=worst.device) * patch_scores[0].numel()
            image_scores = image_scores * image_weights(
                patches[worst], rows[worst, 0], self._index, self.reweight
            )
        maps = smooth_maps(patch_scores, (images.shape[2], images.shape[3]))
        return Scores(image_scores.cpu().numpy(), maps.cpu().numpy())

    def default_transform(self) -> Transform:
        """Return the geometry of whole pictures, in the official scripts' size."""
        return OFFICIAL_TRANSFORM.asked(Geometry(whole=True), side_multiple(self.backbone))

    # Section 3.1: locally aware patch features

    def backbone_layers(self) -> Sequence[str]:
        """Return the layers that patches are made of."""
        return self.layers

    @torch.inference_mode()
    def embed(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the patch features (n, h, w, d) of the backbone's maps (n, c, h, w), one a layer."""
        return embed_patches(maps, self.patchsize, self.pretrain_embed_dimension, self.target_embed_dimension)

    # Section 3.2: coreset-reduced patch-feature memory bank

    def bank_builder(self, generator: torch.Generator, progress: Progress) -> MemoryBankBuilder:
        """Return what fills a memory bank with the patches that the sampler keeps."""

        def select(projected: torch.Tensor, size: int) -> torch.Tensor:
            return select_rows(projected, size, self.sampler, generator, progress)

        keep: Keep
        if self.sampler == "identity" or self.coreset <= 1:
            keep = KeepShare(select, 1.0 if self.sampler == "identity" else self.coreset)
        else:
            keep = KeepNumber(select, int(self.coreset))
        return MemoryBankBuilder(keep, generator, self.buffer)

    # Saving and loading

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters that are saved, with the layers' names where they are the defaults."""
        return super().parameters() | {"layers": list(self.network.layers)}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the memory bank, and what updating it takes."""
        return self.memory_bank_.tensors()

    def restore_tensors(self, tensors: SavedTensors) -> None:
        """Take over a memory bank."""
        if not self.layers:
            raise ModelFileError("the model does not say what layers it is of: train it again")
        self.take(MemoryBank.restored(tensors, self.target_embed_dimension, self.seed, self.device))
        self.require_patches()

    def require_patches(self) -> None:
        """Raise `ModelFileError` where the sizes in a file make no patches of the network's features.

        Embedding takes memory by them, so it is reckoned before an image is embedded.
        """
        maps = self.maps_of_nothing()
        values = max(layer.shape[1] for layer in maps) * self.patchsize**2
        pooled = len(maps) * self.pretrain_embed_dimension
        products = values * self.pretrain_embed_dimension, pooled * self.target_embed_dimension
        if values > _MOST_VALUES or max(products) > _MOST_WEIGHTS:
            raise ModelFileError(
                f"the model has patches of side {self.patchsize} and {self.pretrain_embed_dimension} "
                f"dimensions of {self.backbone}, which no image can be embedded in: train it again"
            )
        if not self.embed(maps).numel():
            raise ModelFileError(
                f"the model has patches of side {self.patchsize}, which its images have none of"
            )
