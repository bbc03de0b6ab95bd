"""What the layers of a network give, brought into one form: maps (n, c, h, w).

Convolutional networks give maps already, some with the channels last; transformers give rows of tokens, with
class and register tokens before them. Nothing here guesses from the number of tokens alone: 32 x 128 pixels
and 64 x 64 pixels give the same number.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from anomaly_lib.errors import ParameterError

# Positions by which a map may be larger or smaller than the image over the stride: padding, or none of it.
BORDER = 2


def as_map(features: object, size: tuple[int, int], network: nn.Module) -> torch.Tensor:
    """Return what a layer gave as a map (n, c, h, w), float32.

    Parameters
    ----------
    features
        A map (n, c, h, w) or (n, h, w, c), or tokens (n, prefix + h * w, c).
    size
        Height and width of the images, in pixels.
    network
        The timm model that the layer is of.

    Raises
    ------
    ParameterError
        When the layer gave none of these, or not in the shape of the image; the message goes on after the
        layer's name.
    """
    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
        raise ParameterError("gives no feature map: name one before the pooling")
    if features.ndim == 3:
        return _from_tokens(features, size, network).float()
    return _channels_first(features, size, network).float()


def token_grids(network: nn.Module, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the grids (h, w) that the network's strides lay over images of `size`, cut off or padded."""
    stages = getattr(network, "feature_info", None) or ()
    for stride in dict.fromkeys(stage["reduction"] for stage in stages):
        yield size[0] // stride, size[1] // stride
        yield math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def _from_tokens(tokens: torch.Tensor, size: tuple[int, int], network: nn.Module) -> torch.Tensor:
    """Leave out the prefix, if there is one at this layer, and lay the other tokens on their grid."""
    if hasattr(network, "reroll"):  # Hiera
        raise ParameterError("gives its tokens in the order of windows, not of rows: use another backbone")
    number = tokens.shape[1]
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    for height, width in token_grids(network, size):
        for skipped in (prefix, 0):  # some networks add their class token in their last blocks
            if number == skipped + height * width:
                grid: torch.Tensor = tokens[:, skipped:].transpose(1, 2).unflatten(2, (height, width))
                return grid
    raise ParameterError(
        f"gives {number} tokens, which are no grid over images of {size[0]} x {size[1]}: name a block"
    )


def _channels_first(features: torch.Tensor, size: tuple[int, int], network: nn.Module) -> torch.Tensor:
    """Turn channels-last maps.

    A network says how the maps of its stages lie, but not all networks say it, and not all layers are
    stages: where only the other way has the shape of the image, it is the right one.
    """
    first = _has_shape(features.shape[2], features.shape[3], size)
    last = _has_shape(features.shape[1], features.shape[2], size)
    if not first and not last:
        raise ParameterError(
            f"gives {tuple(features.shape[1:])} for images of {size[0]} x {size[1]}, which is no feature "
            "map: name a block or a stage"
        )
    said_last = str(getattr(network, "output_fmt", "NCHW")) == "NHWC"
    if last and (said_last or not first):
        return features.permute(0, 3, 1, 2)
    return features


def _has_shape(height: int, width: int, size: tuple[int, int]) -> bool:
    """Return whether one stride, up to `BORDER`, leads from `size` to (height, width)."""
    low, high = _strides(size[0], height)
    low_across, high_across = _strides(size[1], width)
    return low <= high_across and low_across <= high


def _strides(pixels: int, positions: int) -> tuple[float, float]:
    """Return the smallest and the largest stride that make about so many positions of so many pixels."""
    inner = positions - BORDER
    return pixels / (positions + BORDER), pixels / inner if inner > 0 else math.inf
