"""The score that each image would have against a memory bank without its own patches."""

from typing import NamedTuple

import torch

from anomaly_lib.kernels.neighbors import NeighborIndex

# Patches of each image that are searched at a time, the most promising first.
_AT_A_TIME = 16
_BLOCK = 4096


class WorstPatches(NamedTuple):
    """The worst patch of each of n images: its mean distance, its row and its nearest row of the bank."""

    distance: torch.Tensor  # (n,) infinite where the bank has too few patches of other images
    row: torch.Tensor  # (n,) among all patches
    neighbour: torch.Tensor  # (n,) in the bank


def leave_one_out(
    features: torch.Tensor,
    rough: torch.Tensor,
    image_of: torch.Tensor,
    index: NeighborIndex,
    rough_index: NeighborIndex,
    k: int = 1,
    further: torch.Tensor | None = None,
) -> WorstPatches:
    """Return for each image the patch that is farthest from the bank's patches of all other images.

    Parameters
    ----------
    features
        (n * p, d) patches of n images, image after image, p each.
    rough
        (n * p, e) the same on few dimensions, in which distances are roughly kept.
    image_of
        (n * p,) the number of each patch's image.
    index, rough_index
        The memory bank (m, d), and likewise on few dimensions (m, e), in groups by image.
    k
        Neighbours whose mean squared distance counts.
    further
        (n * p, e) squared distances to rows that are not in the bank and count as well.

    Notes
    -----
    Exact, but few patches are searched for in the whole bank. The distance to any k rows of other images
    bounds a patch's distance from above, and rows found on a few dimensions bound it closely. So patches are
    searched in the order of their bounds, until the worst one found is no less than the next bound.
    """
    near = rough_index.search_roughly(rough, k, image_of)
    images = len(image_of.unique_consecutive())
    if further is None:
        further = features.new_empty(len(features), 0, dtype=torch.float32)
    bounds = _mean_of(_exact(features, index.bank, *near), further, k).reshape(images, -1)  # (n, p)
    first_row = torch.arange(images, device=features.device) * bounds.shape[1]
    bounds, order = bounds.sort(dim=1, descending=True)
    worst = torch.full((images,), -torch.inf, device=features.device)
    row, neighbour = torch.zeros_like(first_row), torch.zeros_like(first_row)
    for start in range(0, bounds.shape[1], _AT_A_TIME):
        pending = (bounds[:, start] > worst).nonzero().flatten()
        if not len(pending):
            break
        rows = first_row[pending, None] + order[pending, start : start + _AT_A_TIME]  # (pending, few)
        numbers = rows.flatten()
        distances, neighbours = index.search(features[numbers], k, image_of[numbers])
        means = _mean_of(distances, further[numbers], k)
        distance, which = means.reshape(rows.shape).max(dim=1, keepdim=True)
        better = distance[:, 0] > worst[pending]
        improved = pending[better]
        worst[improved] = distance[better, 0]
        row[improved] = rows.gather(1, which)[better, 0]
        neighbour[improved] = neighbours[:, 0].reshape(rows.shape).gather(1, which)[better, 0]
    return WorstPatches(worst, row, neighbour)


def _mean_of(distances: torch.Tensor, further: torch.Tensor, k: int) -> torch.Tensor:
    """Return the mean (n,) of the k smallest of both, (n, k) and (n, e)."""
    return torch.cat([distances, further], dim=1).topk(k, dim=1, largest=False).values.mean(dim=1)


def _exact(
    features: torch.Tensor, bank: torch.Tensor, distances: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    """Return the squared distances (n, k) of features (n, d) to the bank's `rows` (n, k) found for them."""
    exact = torch.empty(rows.shape, device=features.device)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK, None].float()
        neighbours = bank[rows[start : start + _BLOCK]].float()  # (block, k, d)
        exact[start : start + _BLOCK] = (block - neighbours).square().sum(dim=2)
    return torch.where(distances.isinf(), torch.inf, exact)
