"""Patch SVDD of several sites: federated averaging, then memory banks of what the sites embedded.

In a round every site trains the networks that the director sends it, the encoder and the two classifiers of
positions, for some passes over its images, and sends them back; the director averages them by the number of
images (McMahan et al., 2017, algorithm 1), or leaves that to another of Flower's strategies. What becomes of
the moments of Adam between rounds is as in OpenFL: forgotten, kept at the site, or averaged as well.

What leaves a site beside networks: once the sum of its images, of which all sites' make the mean image that
Patch SVDD subtracts, so that a site's mean picture can be seen, and of a single image the image itself; at
the end the embeddings of its patches, or of a coreset of them, that the memory banks are made of.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch

from anomaly_lib.detectors.base import Detector as AnyDetector
from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.patch_svdd import PatchSVDD
from anomaly_lib.detectors.patch_svdd.embedding import PatchEncoder, mean_of_sums, pixel_sums, saved_weights
from anomaly_lib.detectors.patch_svdd.patch_banks import PatchBanks
from anomaly_lib.detectors.sources import Images
from anomaly_lib.errors import DataError, ModelFileError
from anomaly_lib.federated.ends import Director, Site
from anomaly_lib.federated.turns import Tensors, Turn
from anomaly_lib.progress import Progress, silent

Treatment = Literal["reset", "continue_local", "continue_global"]
TREATMENTS: tuple[str, ...] = get_args(Treatment)
"""What becomes of the optimizer's moments between rounds: forgotten, kept at each site, averaged."""

_NETWORKS, _MOMENTS, _MEAN = "networks.", "adam.", "mean_image"
_ENCODER = f"{_NETWORKS}encoder."


class PatchSVDDSite(Site[PatchSVDD]):
    """One site's end.

    Parameters
    ----------
    detector, images, turn
        See `Site`.
    shape
        (height, width) of the first site's first image; all are brought to it.
    """

    def __init__(
        self, detector: PatchSVDD, images: Images | torch.Tensor, turn: Turn, shape: Sequence[int]
    ) -> None:
        super().__init__(detector, images, turn)
        self._shape = tuple(shape)
        self._pixels: torch.Tensor | None = None

    def pixels(self, progress: Progress = silent) -> torch.Tensor:
        """Return the images (n, 3, h, w) uint8."""
        if self._pixels is None:
            self._pixels = self.detector.read(self.images, progress, self._shape)
        if tuple(self._pixels.shape[2:]) != self._shape:
            raise DataError("the images are not of the shape of the other sites': resize them alike")
        return self._pixels

    def pixel_sums(self, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Return the sum of the images, (3, h, w) int64."""
        return {"sums": pixel_sums(self.pixels(progress)).cpu()}

    def train(
        self, state: Tensors, number: int, passes: int, moments: Tensors, progress: Progress = silent
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Train the director's networks in round `number`, counted from 1, for some passes over the images.

        Parameters
        ----------
        state
            The networks, and the mean image.
        moments
            Adam's, to go on with; none, to begin anew.

        Returns
        -------
        tuple
            Networks and moments, and the mean losses of the last pass.

        Raises
        ------
        ModelFileError
            When they are none of this detector.
        DivergedError
            When the loss is no longer finite.
        """
        mean = _mean_of(state, self._shape).to(self.detector.device)
        # Of its own for each round and site, so that a round can be repeated wherever it runs.
        seed = int(np.random.default_rng([self.detector.seed, number, self.turn.first]).integers(2**62))
        training = self.detector.training(self.pixels(progress), mean, seed)
        training.take_networks(state)
        if moments:
            training.take_moments(moments)
        losses: dict[str, float] = {}
        for done in range(passes):
            losses = training.run_epoch(f"pass {done + 1} of {passes}", progress)
        trained = {name: value.cpu() for name, value in training.state().items() if name != "generator"}
        return trained, losses

    def early(self, state: Tensors) -> AnyDetector:
        """Return a detector with the director's encoder and small memory banks of this site's images alone.

        Errors are those of `train`.
        """
        mean = _mean_of(state, self._shape).to(self.detector.device)
        return self.detector.early(_encoder_of(self.detector, state), self.pixels(), mean)

    def take_encoder(self, state: Tensors) -> None:
        """Take over the final networks and the mean image, for `share`; errors are those of `train`."""
        self._encoder = _encoder_of(self.detector, state)
        self._mean = _mean_of(state, self._shape).to(self.detector.device)

    def share(self, progress: Progress = silent) -> dict[str, torch.Tensor]:
        """Return this site's memory banks: embeddings and the numbers of their patches."""
        banks = self.detector.filled_banks(self._encoder, self.pixels(progress), self._mean, progress)
        shared = {}
        for side, bank in banks.banks.items():
            shared[f"bank_{side}"] = bank
            shared[f"numbers_{side}"] = banks.numbers[side] + self.turn.first * banks.encoder.patches(side)
        return shared

    def _left_out_scores(
        self, model: SavedTensors, extra: SavedTensors, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        extra.require_empty()
        self.detector.restore_tensors(model)
        model.require_empty()
        first, images, total = self.turn
        chosen = self.detector.threshold_numbers(total) - first
        own = chosen[(chosen >= 0) & (chosen < images)]
        banks, pixels = self.detector.patch_banks_, self.pixels(progress)
        return np.arange(first, first + images), banks.left_out_scores(pixels, own, first, progress)


class PatchSVDDDirector(Director[PatchSVDD]):
    """The director's end.

    Parameters
    ----------
    detector
        Not fitted; it becomes the merged model.
    state
        The final networks and the mean image.
    """

    def __init__(self, detector: PatchSVDD, state: Tensors) -> None:
        super().__init__(detector)
        mean = _mean_of(state, state[_MEAN].shape[1:]).to(detector.device)
        self._encoder = PatchEncoder(_encoder_of(detector, state), mean, detector.strides)
        self._banks: dict[int, list[torch.Tensor]] = {side: [] for side in detector.strides}
        self._numbers: dict[int, list[torch.Tensor]] = {side: [] for side in detector.strides}

    def _add(self, tensors: SavedTensors, turn: Turn) -> None:
        banks, numbers = {}, {}
        for side in self._banks:
            patches = self._encoder.patches(side)
            banks[side] = tensors.take(f"bank_{side}", None, self._encoder.dimensions)
            numbers[side] = tensors.take(f"numbers_{side}", len(banks[side]), dtype=torch.int64)
            images = numbers[side] // patches
            within = (turn.first <= images) & (images < turn.first + turn.images)
            whole = self.detector.sampler != "identity" or len(banks[side]) == patches * turn.images
            if not len(banks[side]) or not within.all() or not whole:
                raise ModelFileError("a site's memory bank is not one of its images")
        tensors.require_empty()
        for side in self._banks:
            self._banks[side].append(banks[side])
            self._numbers[side].append(numbers[side])

    def _finished(self) -> dict[str, torch.Tensor]:
        if not self.images:
            raise DataError("no site has sent a memory bank")
        banks = {side: torch.cat(parts).to(self.detector.device) for side, parts in self._banks.items()}
        numbers = {side: torch.cat(parts) for side, parts in self._numbers.items()}
        self.detector.patch_banks_ = PatchBanks(self._encoder, banks, numbers)
        return {}

    def _expected_bytes(self, images: int, shape: tuple[int, int]) -> int:
        row = 4 * self._encoder.dimensions + 8
        return images * sum(self._encoder.patches(side) for side in self._banks) * row


def initial_networks(detector: PatchSVDD) -> dict[str, torch.Tensor]:
    """Return the networks that the first round begins with, by the detector's seed."""
    nothing = torch.zeros(1, 3, detector.K, detector.K, dtype=torch.uint8)
    state = detector.training(nothing, torch.zeros(3, detector.K, detector.K), detector.seed).state()
    return networks_of(state)


def networks_of(state: Tensors) -> dict[str, torch.Tensor]:
    """Return the networks alone."""
    return {name: value.cpu() for name, value in state.items() if name.startswith(_NETWORKS)}


def moments_of(state: Tensors) -> dict[str, torch.Tensor]:
    """Return Adam's moments alone."""
    return {name: value for name, value in state.items() if name.startswith(_MOMENTS)}


def mean_state(
    sums: Sequence[Tensors], turns: Sequence[Turn], shape: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Return the mean image of all sites, from what `PatchSVDDSite.pixel_sums` returned.

    Raises
    ------
    ModelFileError
        When they are no sums of so many images.
    """
    total = torch.zeros(3, *shape, dtype=torch.int64)
    for tensors, turn in zip(sums, turns, strict=True):
        total += checked_sums(tensors, turn, shape)
    images = sum(turn.images for turn in turns)
    return {_MEAN: mean_of_sums(total, images)}


def checked_sums(tensors: Tensors, turn: Turn, shape: Sequence[int]) -> torch.Tensor:
    """Return the sum of a site's images, (3, h, w) int64; errors are those of `mean_state`."""
    saved = SavedTensors(tensors)
    sums = saved.take("sums", 3, *shape, dtype=torch.int64)
    saved.require_empty()
    if int(sums.min()) < 0 or int(sums.max()) > 255 * turn.images:
        raise ModelFileError(f"a site's sums are not those of {turn.images} images")
    return sums


def _mean_of(state: Tensors, shape: Sequence[int]) -> torch.Tensor:
    return SavedTensors(state).take(_MEAN, 3, *shape)


def _encoder_of(detector: PatchSVDD, state: Tensors) -> dict[str, torch.Tensor]:
    """Return the encoder's weights."""
    encoder = {
        name.replace(_ENCODER, "encoder.", 1): v for name, v in state.items() if name.startswith(_ENCODER)
    }
    return saved_weights(SavedTensors(encoder), detector.D)
