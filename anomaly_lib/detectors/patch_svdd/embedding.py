"""Embeddings of all patches of an image in one pass: the encoder, the mean image and where patches lie."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F

from anomaly_lib.detectors.files import SavedTensors
from anomaly_lib.detectors.patch_svdd.network import LARGE, HierarchicalEncoder
from anomaly_lib.detectors.patch_svdd.official import encoder_shapes
from anomaly_lib.errors import DataError, ModelFileError, ParameterError

# Images embedded at a time: the first layers' maps take 8 MB each.
EMBEDDED = 2


class PatchEncoder:
    """A trained encoder for images of one size. Embeddings are fp32: those of neighbours lie close together.

    Parameters
    ----------
    weights
        State dict of a `HierarchicalEncoder`.
    mean_image
        (3, h, w) mean of the training images, in [0, 1], on the device to compute on.
    strides
        By the sides of the patches to embed, 64 and 32, the pixels between neighbours.
    """

    def __init__(
        self, weights: Mapping[str, torch.Tensor], mean_image: torch.Tensor, strides: Mapping[int, int]
    ) -> None:
        self.mean_image, self.strides = mean_image, dict(strides)
        self._network = HierarchicalEncoder(len(weights["conv2.weight"]))
        self._network.load_state_dict(weights)
        self._network.requires_grad_(False).eval().to(mean_image.device)

    @torch.inference_mode()
    def embed(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the embeddings (n, rows, columns, D) of all patches of images (n, 3, h, w), by side.

        The images are uint8, or floats in [0, 1].
        """
        parts = []
        for part in images.split(EMBEDDED):
            scaled = part.to(self.mean_image.device).float()
            scaled = scaled / 255 if part.dtype == torch.uint8 else scaled
            parts.append(self._network.dense(scaled - self.mean_image, self.strides))
        return {side: torch.cat([part[side] for part in parts]) for side in self.strides}

    @torch.inference_mode()
    def embed_patch(self, image: torch.Tensor, top: int, left: int, side: int) -> torch.Tensor:
        """Return the embedding (D,) of one patch of an image (3, h, w) in [0, 1], by its corner in pixels."""
        here = slice(top, top + side), slice(left, left + side)
        patch = image.to(self.mean_image.device)[:, *here] - self.mean_image[:, *here]
        return self._network.dense(patch[None], {side: self.strides[side]})[side][0, 0, 0]

    def grid(self, side: int) -> tuple[int, int]:
        """Return how many rows and columns of patches an image has."""
        height, width = self.mean_image.shape[1:]
        stride = self.strides[side]
        return 1 + (height - side) // stride, 1 + (width - side) // stride

    def patches(self, side: int) -> int:
        """Return the number of patches of an image."""
        rows, columns = self.grid(side)
        return rows * columns

    @property
    def dimensions(self) -> int:
        """How many numbers an embedding has."""
        return self._network.conv2.out_channels

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the state dict."""
        return self._network.state_dict()


def mean_image(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean (3, h, w) in [0, 1] of images (n, 3, h, w) uint8."""
    return mean_of_sums(pixel_sums(pixels), len(pixels))


def pixel_sums(pixels: torch.Tensor) -> torch.Tensor:
    """Return the sum (3, h, w) int64 of images (n, 3, h, w) uint8: sums of parts add up to that of all."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.int64, device=pixels.device)
    for image in pixels:
        total += image
    return total


def mean_of_sums(sums: torch.Tensor, images: int) -> torch.Tensor:
    """Return the mean (3, h, w) in [0, 1] of so many images, from their `pixel_sums`."""
    return (sums.double() / (255 * images)).float()


def saved_weights(tensors: SavedTensors, dimensions: int | None) -> dict[str, torch.Tensor]:
    """Return an encoder's state dict from a model's tensors, of embeddings of so many dimensions if given.

    A `ModelFileError` says that they are of no such encoder.
    """
    bias = tensors.take("encoder.conv2.bias", None)
    if not len(bias) or (dimensions is not None and len(bias) != dimensions):
        raise ModelFileError(f"the model's encoder has {len(bias)} dimensions and not D, {dimensions}")
    shapes = encoder_shapes(len(bias))
    del shapes["conv2.bias"]
    return {"conv2.bias": bias} | {
        name: tensors.take(f"encoder.{name}", *shape) for name, shape in shapes.items()
    }


def read_pixels(
    batches: Iterable[torch.Tensor], least: int, *, whole: bool, shape: Sequence[int] = ()
) -> torch.Tensor:
    """Return all images as (n, 3, h, w) uint8; whole pictures in this shape, or in that of the first.

    A `ParameterError` says that one is smaller than `least` pixels.
    """
    pixels = []
    for batch in batches:
        if min(batch.shape[2:]) < least:
            raise ParameterError(
                f"images of {batch.shape[3]} x {batch.shape[2]} pixels are smaller than patches of {least}: "
                "use larger ones" + (", or K = 32" if least == LARGE else "")
            )
        shape = shape or batch.shape[2:]
        batch = in_shape(batch, shape) if whole else batch
        pixels.append(batch.mul(255).round_().clamp_(0, 255).to(torch.uint8))
    return torch.cat(pixels)


def in_shape(images: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return images (n, 3, h, w) in another shape."""
    if images.shape[2:] == tuple(shape):
        return images
    return F.interpolate(images, size=tuple(shape), mode="bilinear", antialias=True)


def require_size(fitted: tuple[int, ...], asked: tuple[int, ...]) -> None:
    """Raise a `DataError` for images of another size (h, w) than that of the mean image."""
    if fitted != asked:
        raise DataError(
            f"images of {asked[1]} x {asked[0]} pixels for a Patch SVDD that was fitted on {fitted[1]} x "
            f"{fitted[0]}: its mean image is of that size"
        )
