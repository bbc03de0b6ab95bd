"""A greedy coreset that goes on: the rows that it would take in next, of further ones."""

import torch

from anomaly_lib.kernels.coreset import greedy_coreset
from anomaly_lib.kernels.neighbors import NeighborIndex

# Of the rows that seem least covered, this many times those wanted are looked at first.
_FIRST = 2


def coreset_extension(rows: torch.Tensor, size: int, coreset: NeighborIndex) -> torch.Tensor:
    """Return the indices (size,) int64 of a greedy k-center selection that begins with a coreset's coverage.

    Parameters
    ----------
    rows
        (n, d) float32.
    size
        Rows to select, 1 to n.
    coreset
        The rows selected before, of others, in the same dimensions.

    Notes
    -----
    The same selection as by `greedy_coreset` from the distances of all rows to the coreset, but few of these
    are searched for. The distance to any row of the coreset bounds the true one from above, and what lies
    below the radius of the last row selected is never selected: so the rows with the largest bounds are
    enough, if those of all others are smaller than that radius.
    """
    bounds = coreset.search_roughly(rows)[0][:, 0]
    number = _FIRST * size
    while True:
        order = bounds.argsort(descending=True, stable=True)
        likely = order[:number].sort().values  # in their order: of equal rows the first is selected
        distances = coreset.search(rows[likely])[0][:, 0]
        chosen = greedy_coreset(rows[likely], size, distances)
        others = order[number:]
        if not len(others) or bounds[others[0]] < _radius(rows[likely], chosen, distances):
            return likely[chosen]
        number *= 2


def _radius(rows: torch.Tensor, chosen: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of the last row chosen to the coreset and those chosen before."""
    last = chosen[-1]
    before = (rows[chosen[:-1]] - rows[last]).square().sum(dim=1)
    return torch.cat([before, distances[last, None]]).min()
