"""Nearest neighbours by comparing every query with every row."""

import torch

# One product of this many queries by this many rows (16 MB in fp32) stays in a CPU's cache.
_QUERIES, _ROWS = 1024, 4096
# Rows whose mean is farther from zero than this many times their own extent are moved there, in a copy.
_FAR = 4


class ExhaustiveSearch:
    """Rows (m, d) and, optionally, their groups (m,): rows of a query's own group are no neighbours."""

    def __init__(self, bank: torch.Tensor, groups: torch.Tensor | None = None) -> None:
        self._rows, self._groups = bank.float(), groups
        self._center = self._rows.mean(dim=0)  # distances do not change, rounding errors shrink
        blocks = self._rows.split(_ROWS)
        self._norms = torch.cat([(block - self._center).square().sum(dim=1) for block in blocks])
        if self._center.norm() > _FAR * self._norms.max().sqrt():
            self._rows = self._rows - self._center

    def search(self, queries: torch.Tensor, k: int, groups: torch.Tensor | None) -> torch.Tensor:
        """Return the `k` nearest rows (n, k) of queries (n, d); -1 where there are fewer."""
        best = torch.full((len(queries), k), torch.inf, device=queries.device)
        rows = torch.full((len(queries), k), -1, device=queries.device)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            centered = queries[part].float() - self._center
            for start in range(0, len(self._rows), _ROWS):
                block = slice(start, start + _ROWS)
                # |q - b|^2 without what is the same for all rows: |q|^2, and the product with the centre
                distances = torch.addmm(self._norms[block], centered, self._rows[block].T, alpha=-2)
                if groups is not None and self._groups is not None:
                    distances.masked_fill_(groups[part, None] == self._groups[None, block], torch.inf)
                values, index = smallest(distances, min(k, distances.shape[1]))
                best[part], places = smallest(torch.cat([best[part], values], dim=1), k)
                rows[part] = torch.cat([rows[part], index + start], dim=1).gather(1, places)
        return rows.masked_fill_(best.isinf(), -1)


def smallest(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `k` smallest values (n, k) of each row, in ascending order, and where they are."""
    if k == 1:  # a minimum is several times faster than topk
        return values.min(dim=1, keepdim=True)
    return values.topk(k, dim=1, largest=False)
