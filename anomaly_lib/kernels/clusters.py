"""Nearest neighbours among rows of few dimensions: only in the clusters that could hold them.

The rows are brought into clusters, and those of a cluster into shells by their distance to its centre. By the
triangle inequality, a row in the shell of radii r to R around c is no nearer to a query q than
max(|q - c| - R, r - |q - c|). So a query is compared with the cluster that it falls into, and of all others
with the shells that could hold something nearer than what was found so far: a hundredth of the bank for Patch
SVDD's 64 dimensions.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch

from anomaly_lib.kernels.exhaustive import smallest

# Queries searched for at a time, and rows whose clusters are found at a time.
_QUERIES, _ROWS = 8192, 4096
# Clusters for a bank of m rows: this many times the square root of m, each in so many shells.
_CLUSTERS, _SHELLS = 0.5, 4
# The clusters are learned from so many rows for each, in so many passes.
_SAMPLE, _PASSES = 32, 3
# Rounding error of a squared distance from an fp32 product, as a share of the bank's squared extent.
_ROUNDING = 4e-6


class _Shell(NamedTuple):
    rows: slice
    inner: float
    outer: float


class ClusteredSearch:
    """Rows (m, d) and, optionally, their groups (m,): rows of a query's own group are no neighbours."""

    def __init__(self, bank: torch.Tensor, groups: torch.Tensor | None = None) -> None:
        self.mean = bank.float().mean(dim=0)  # distances do not change, rounding errors shrink
        bank = bank.float() - self.mean
        self.centers = _learn_centers(bank, math.ceil(_CLUSTERS * math.sqrt(len(bank))))
        squared, home = _nearest_center(bank, self.centers)
        by_radius = squared.argsort()
        self.order = by_radius[home[by_radius].argsort(stable=True)]  # cluster by cluster, from inside out
        home = home[self.order]
        self.rows = bank[self.order]
        del bank  # three copies at a time would be too many
        for start in range(0, len(home), _ROWS):
            self.rows[start : start + _ROWS] -= self.centers[home[start : start + _ROWS]]
        self.norms = self.rows.square().sum(dim=1)
        self.groups = None if groups is None else groups[self.order]
        sizes = torch.bincount(home, minlength=len(self.centers)).tolist()
        self.shells = _shells(sizes, self.norms)
        outer = [shells[-1].outer if shells else -math.inf for shells in self.shells]
        self.outer = torch.tensor(outer, device=self.mean.device)
        spread = self.centers.square().sum(dim=1).max()
        # Of a distance that is not squared: near 0, where it is largest
        self.rounding = math.sqrt(_ROUNDING * float(spread + self.norms.max()))

    def search(
        self, queries: torch.Tensor, k: int, groups: torch.Tensor | None, *, at_home: bool = False
    ) -> torch.Tensor:
        """Return the `k` nearest rows (n, k) of queries (n, d); -1 where there are fewer.

        `at_home`: of the cluster that the query falls into.
        """
        rows = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
        queries = queries.float() - self.mean
        _, home = _nearest_center(queries, self.centers)
        for part in home.argsort(stable=True).split(_QUERIES):  # neighbours together
            query_groups = None if groups is None or self.groups is None else groups[part]
            search = _Search(self, queries[part], query_groups, k)
            rows[part] = search.at_home(home[part]) if at_home else search.run(home[part])
        return rows


class _Search:
    """The search for the `k` nearest rows of some queries (n, d)."""

    def __init__(
        self, bank: ClusteredSearch, queries: torch.Tensor, groups: torch.Tensor | None, k: int
    ) -> None:
        self._bank, self._queries, self._groups, self._k = bank, queries, groups, k
        # Of the nearest so far, in ascending order
        self._squared = torch.full((len(queries), k), torch.inf, device=queries.device)
        self._rows = torch.full((len(queries), k), -1, device=queries.device)

    def at_home(self, home: torch.Tensor) -> torch.Tensor:
        """Return rows (n, k) of the cluster `home` (n,) of each query."""
        for cluster in home.unique().tolist():
            here = (home == cluster).nonzero().flatten()
            shells = self._bank.shells[cluster]
            if shells:
                whole = slice(shells[0].rows.start, shells[-1].rows.stop)
                self._compare(here, self._queries[here] - self._bank.centers[cluster], whole)
        return self._rows

    def run(self, home: torch.Tensor) -> torch.Tensor:
        """Return the rows (n, k): each query looks in its cluster `home` (n,) first, then where it must."""
        bank, everyone = self._bank, torch.arange(len(home), device=home.device)
        distances = torch.cdist(bank.centers, self._queries)  # (clusters, n)
        for cluster in home.unique().tolist():
            here = (home == cluster).nonzero().flatten()
            self._visit(cluster, here, distances[cluster, here])
        gaps = distances - bank.outer[:, None]
        gaps[home, everyone] = torch.inf
        near = gaps < self._reach(everyone)
        hopeful = near.any(dim=1).nonzero().flatten()
        for cluster in hopeful[gaps[hopeful].amin(dim=1).argsort()].tolist():
            here = near[cluster].nonzero().flatten()
            self._visit(cluster, here, distances[cluster, here])
        return self._rows

    def _reach(self, who: torch.Tensor) -> torch.Tensor:
        """Return the distance (a,), not squared, that a row must be within to be of interest."""
        return self._squared[who, -1].clamp(min=0).sqrt() + self._bank.rounding

    def _visit(self, cluster: int, who: torch.Tensor, distances: torch.Tensor) -> None:
        """Compare the queries `who` (a,), at `distances` (a,) of a cluster's centre, with the cluster."""
        queries = self._queries[who] - self._bank.centers[cluster]
        for shell in self._bank.shells[cluster]:
            reach = self._reach(who)
            near = (distances - shell.outer < reach) & (shell.inner - distances < reach)
            index = near.nonzero().flatten()
            if len(index):
                self._compare(who[index], queries[index], shell.rows)

    def _compare(self, who: torch.Tensor, queries: torch.Tensor, rows: slice) -> None:
        """Compare queries (a, d), relative to the centre of a cluster, with rows of it."""
        bank = self._bank
        squared = torch.addmm(bank.norms[rows], queries, bank.rows[rows].T, alpha=-2)  # (a, rows)
        squared += queries.square().sum(dim=1, keepdim=True)
        if self._groups is not None and bank.groups is not None:
            squared.masked_fill_(self._groups[who, None] == bank.groups[rows], torch.inf)
        better = (squared.amin(dim=1) < self._squared[who, -1]).nonzero().flatten()
        if len(better):
            self._take(who[better], squared[better], bank.order[rows])

    def _take(self, who: torch.Tensor, squared: torch.Tensor, rows: torch.Tensor) -> None:
        """Keep the nearest of those known and of `rows` (b,), at `squared` distances (a, b)."""
        values, index = smallest(squared, min(self._k, len(rows)))
        values, places = smallest(torch.cat([self._squared[who], values], dim=1), self._k)
        self._squared[who] = values
        self._rows[who] = torch.cat([self._rows[who], rows[index]], dim=1).gather(1, places)


def _nearest_center(rows: torch.Tensor, centers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared distance (n,) of rows (n, d) to the nearest centre, and which (n,) it is."""
    squared = torch.empty(len(rows), device=rows.device)
    home = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        squared[part], home[part] = torch.cdist(rows[part], centers).min(dim=1)
    return squared.square_(), home


def _learn_centers(rows: torch.Tensor, clusters: int) -> torch.Tensor:
    """Return at most so many cluster centres (c, d), by Lloyd's algorithm on some of the rows."""
    sample = rows[:: max(1, len(rows) // (_SAMPLE * clusters))]
    centers = sample[:: math.ceil(len(sample) / clusters)].clone()
    for _ in range(_PASSES):
        _, home = _nearest_center(sample, centers)
        sizes = torch.bincount(home, minlength=len(centers))
        sums = torch.zeros_like(centers).index_add_(0, home, sample)
        centers = (sums / sizes[:, None])[sizes > 0]
    return centers


def _shells(sizes: list[int], norms: torch.Tensor) -> list[list[_Shell]]:
    """Return the shells of each cluster; the clusters' rows lie one after the other, from inside out."""
    radii, clusters, first = norms.sqrt(), [], 0
    for size in sizes:
        edges = sorted({first + size * i // _SHELLS for i in range(_SHELLS + 1)})
        clusters.append(
            [
                _Shell(slice(start, stop), float(radii[start]), float(radii[stop - 1]))
                for start, stop in pairwise(edges)
            ]
        )
        first += size
    return clusters
