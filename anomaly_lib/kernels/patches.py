"""From feature maps to patch features, and from patch scores to anomaly maps.

Both are fixed linear maps. Patch features follow the official PatchCore code (Roth et al., CVPR 2022,
section 3.1): neighbourhoods of each position, adaptive average pooling to a common dimension per layer,
deeper layers resized to the grid of the first, and pooling over the layers to the final dimension.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F


def embed_patches(
    maps: Sequence[torch.Tensor], patchsize: int = 3, pretrain_dim: int = 1024, target_dim: int = 1024
) -> torch.Tensor:
    """Return the patch features (n, h, w, target_dim) of feature maps (n, c, h, w), one map a layer.

    The grid is the first layer's. Equal to the official unfold, resize and two adaptive means up to rounding,
    but the means are taken before the resize and in one step, so that the c * patchsize^2 values of a patch
    are never resized, nor stored for more than one image.

    Examples
    --------
    >>> layers = torch.zeros(2, 24, 28, 28), torch.zeros(2, 40, 14, 14)
    >>> embed_patches(layers, pretrain_dim=64, target_dim=32).shape
    torch.Size([2, 28, 28, 32])
    """
    height, width = _grid(maps[0], patchsize)
    features = maps[0].new_zeros(len(maps[0]), height, width, target_dim)
    for layer, layer_map in enumerate(maps):
        values = layer_map.shape[1] * patchsize**2
        first, last, index, weight = _pooling(layer, len(maps), values, pretrain_dim, target_dim)
        index, weight = index.to(layer_map.device), weight.to(layer_map)
        grid = _grid(layer_map, patchsize)
        for image, image_features in zip(layer_map, features, strict=True):
            unfolded = F.unfold(image[None], patchsize, padding=(patchsize - 1) // 2)[
                0
            ]  # (c * p * p, gh * gw)
            pooled = F.embedding_bag(index, unfolded, per_sample_weights=weight, mode="sum")
            pooled = pooled.unflatten(1, grid)  # (last - first, gh, gw)
            if grid != (height, width):
                pooled = F.interpolate(
                    pooled[None], size=(height, width), mode="bilinear", align_corners=False
                )[0]
            image_features[..., first:last] += pooled.permute(1, 2, 0)
    return features


def smooth_maps(patch_scores: torch.Tensor, size: tuple[int, int], sigma: float = 4.0) -> torch.Tensor:
    """Return anomaly maps (n, *size) of patch scores (n, h, w).

    Bilinear upsampling followed by a Gaussian of `sigma` output pixels, as the official PatchCore does with
    ``F.interpolate`` and ``scipy.ndimage.gaussian_filter``. Both are linear and separable, so that two small
    matrix products do it.

    Examples
    --------
    >>> smooth_maps(torch.tensor([[[0.0, 1.0]]]), size=(1, 4), sigma=0.5)
    tensor([[[0.0269, 0.2767, 0.7233, 0.9731]]])
    """
    rows = _upsampling(patch_scores.shape[1], size[0], sigma).to(patch_scores)
    columns = _upsampling(patch_scores.shape[2], size[1], sigma).to(patch_scores)
    return rows @ patch_scores @ columns.T


def spread_scores(scores: torch.Tensor, size: tuple[int, int], side: int, stride: int) -> torch.Tensor:
    """Return maps (n, *size): each pixel's mean score over the patches that cover it, of scores (n, h, w).

    Patches are `side` pixels wide and `stride` (at most `side`) apart, the first in the corner: equation 7 of
    Yi and Yoon, ACCV 2020, the official Patch SVDD's ``distribute_scores``. The mean is linear and separable,
    so that two small matrix products do it. Pixels beyond the last patch take the nearest covered score.

    Examples
    --------
    >>> spread_scores(torch.tensor([[[1.0, 2.0]]]), size=(1, 6), side=4, stride=2)
    tensor([[[1.0000, 1.0000, 1.5000, 1.5000, 2.0000, 2.0000]]])
    """
    rows = _covering(scores.shape[1], size[0], side, stride).to(scores)
    columns = _covering(scores.shape[2], size[1], side, stride).to(scores)
    return rows @ scores @ columns.T


def _grid(layer_map: torch.Tensor, patchsize: int) -> tuple[int, int]:
    """Return how many patches fit vertically and horizontally."""
    loss = patchsize - 1 - 2 * ((patchsize - 1) // 2)  # even sizes lose a row and a column
    return layer_map.shape[2] - loss, layer_map.shape[3] - loss


@lru_cache(maxsize=64)
def _pooling(
    layer: int, layers: int, values: int, pretrain_dim: int, target_dim: int
) -> tuple[int, int, torch.Tensor, torch.Tensor]:
    """Return what one layer's values contribute to the final features, both adaptive means in one.

    The layer fills the dimensions `first` to `last`; row j of `index` and `weight` (last - first, window)
    says which of its values, and with which weights, make up dimension ``first + j``.
    """
    to_layer = _mean_matrix(values, pretrain_dim)
    to_target = _mean_matrix(layers * pretrain_dim, target_dim)
    share = to_target[:, layer * pretrain_dim : (layer + 1) * pretrain_dim]
    weights = share @ to_layer  # (target_dim, values), a few neighbouring non-zeros a row
    filled = weights.any(dim=1).nonzero().flatten()
    first, last = int(filled[0]), int(filled[-1]) + 1
    window = int((weights > 0).sum(dim=1).max())
    weight, index = weights[first:last].topk(window, dim=1)
    return first, last, index, weight


def _mean_matrix(inputs: int, outputs: int) -> torch.Tensor:
    """Return adaptive average pooling from `inputs` to `outputs` values as a matrix (outputs, inputs)."""
    matrix = torch.zeros(outputs, inputs)
    for row, values in enumerate(matrix):
        first, last = row * inputs // outputs, -(-(row + 1) * inputs // outputs)
        values[first:last] = 1 / (last - first)
    return matrix


@lru_cache(maxsize=64)
def _upsampling(inputs: int, outputs: int, sigma: float) -> torch.Tensor:
    """Return linear upsampling followed by a Gaussian as a matrix (outputs, inputs)."""
    linear = F.interpolate(torch.eye(inputs)[None], size=outputs, mode="linear", align_corners=False)[0].T
    smooth = scipy.ndimage.gaussian_filter1d(np.eye(outputs), sigma, axis=0)  # its reflecting border included
    return torch.from_numpy(smooth).float() @ linear


def _covering(patches: int, pixels: int, side: int, stride: int) -> torch.Tensor:
    """Return the weights (pixels, patches) of the patches that cover each pixel of a line."""
    first = torch.arange(patches) * stride
    pixel = torch.arange(pixels).clamp(max=int(first[-1]) + side - 1)[:, None]
    covered = ((first <= pixel) & (pixel < first + side)).float()
    return covered / covered.sum(dim=1, keepdim=True)
