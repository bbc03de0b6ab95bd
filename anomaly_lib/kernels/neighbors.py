"""Nearest neighbours in squared Euclidean distance: exact, on any device."""

import math

import torch

from anomaly_lib.kernels.clusters import ClusteredSearch
from anomaly_lib.kernels.exhaustive import ExhaustiveSearch

# In more dimensions than this, or fewer rows, clusters leave out too little to pay.
_FEW_DIMENSIONS, _FEW_ROWS = 128, 32_768
# To look at the nearest cluster alone pays from fewer rows on.
_FEW_ROWS_AT_HOME = 4096
# With fewer queries than this many times the square root of the bank's rows, preparing does not pay.
_FEW_QUERIES = 8
_BLOCK = 1024


class NeighborIndex:
    """A memory bank, prepared for many searches.

    On a CPU, of many rows in up to 128 dimensions, a query is compared with some of them only, and no
    neighbour is missed: see `anomaly_lib.kernels.clusters`. Else, comparing with all rows takes less time
    than to choose.

    Parameters
    ----------
    bank
        (m, d), any float type. It is kept, and up to 128 dimensions an fp32 copy of it as well.
    groups
        (m,) integers: rows of a query's own group are no neighbours.
    queries
        How many are to be expected, over all searches; few are not worth the preparation.

    Examples
    --------
    >>> index = NeighborIndex(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
    >>> index.search(torch.tensor([[3.0, 3.0]]), k=2)  # squared distances, and rows of the bank
    (tensor([[ 1., 18.]]), tensor([[1, 0]]))
    """

    def __init__(
        self, bank: torch.Tensor, groups: torch.Tensor | None = None, *, queries: float = math.inf
    ) -> None:
        self.bank = bank
        clustered = (
            bank.device.type == "cpu"
            and bank.shape[1] <= _FEW_DIMENSIONS
            and len(bank) >= _FEW_ROWS_AT_HOME
            and queries >= _FEW_QUERIES * math.sqrt(len(bank))
        )
        self._clusters = ClusteredSearch(bank, groups) if clustered else None
        self._search: ClusteredSearch | ExhaustiveSearch
        if self._clusters is None or len(bank) < _FEW_ROWS:
            self._search = ExhaustiveSearch(bank, groups)
        else:
            self._search = self._clusters

    def search(
        self, queries: torch.Tensor, k: int = 1, groups: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the `k` nearest rows of the bank for each query.

        Parameters
        ----------
        queries
            (n, d) on the bank's device, any float type.
        k
            Neighbours wanted, at most m.
        groups
            (n,) integers, when the bank has groups too.

        Returns
        -------
        tuple
            Squared distances (n, k) float32 in ascending order, infinite where a query has too few
            neighbours, and their rows in the bank (n, k) int64. The neighbours are found by matrix products,
            whose distances lose digits to cancellation, so those returned are computed again by subtraction.
            Among rows whose distances differ by less than some 1e-6 of the bank's squared extent, another
            than the nearest may be found.
        """
        self._check(k)
        return _by_subtraction(queries, self.bank, self._search.search(queries, k, groups))

    def search_roughly(
        self, queries: torch.Tensor, k: int = 1, groups: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `k` rows that are near, if not always the nearest, several times faster than `search`."""
        self._check(k)
        if self._clusters is None:
            return self.search(queries, k, groups)
        rows = self._clusters.search(queries, k, groups, at_home=True)
        return _by_subtraction(queries, self.bank, rows)

    def _check(self, k: int) -> None:
        if not 1 <= k <= len(self.bank):
            raise ValueError(f"{k} neighbours were asked of a bank of {len(self.bank)} rows")


def _by_subtraction(
    queries: torch.Tensor, bank: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances to the `rows` found, exact and in ascending order, and the rows likewise.

    Where a row is missing (-1), the distance is infinite and the row 0.
    """
    missing = rows < 0
    rows = rows.masked_fill(missing, 0)
    distances = torch.empty(rows.shape, device=queries.device)
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        for i in range(rows.shape[1]):  # one neighbour at a time, since (n, k, d) may be large
            distances[part, i] = (queries[part].float() - bank[rows[part, i]]).square_().sum(dim=1)
    distances.masked_fill_(missing, torch.inf)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), rows.gather(1, order)
