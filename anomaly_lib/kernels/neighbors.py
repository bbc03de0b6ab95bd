"""Nearest neighbours in squared Euclidean distance, by searching all rows, on any device."""

import torch

# One product of this many queries by this many rows (16 MB in fp32) stays in a CPU's cache.
_QUERIES, _ROWS = 1024, 4096


def nearest(
    queries: torch.Tensor,
    bank: torch.Tensor,
    k: int = 1,
    *,
    query_groups: torch.Tensor | None = None,
    bank_groups: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `k` nearest rows of `bank` for each query.

    Parameters
    ----------
    queries, bank
        (n, d) and (m, d) on the same device, any float type.
    k
        Neighbours wanted, at most m.
    query_groups, bank_groups
        (n,) and (m,) integers: rows of the query's own group are no neighbours.

    Returns
    -------
    tuple
        Squared distances (n, k) float32 in ascending order, infinite where a query has too few neighbours,
        and their rows in `bank` (n, k) int64. The neighbours are found by matrix products, whose distances
        lose digits to cancellation, so those returned are computed again by subtraction. Among rows whose
        distances differ by less than some 1e-6 of the bank's squared extent, another than the nearest may be
        found.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"{k} neighbours were asked of a bank of {len(bank)} rows")
    center = bank.float().mean(dim=0)  # distances do not change, rounding errors shrink
    best = center.new_full((len(queries), k), torch.inf)
    rows = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    for start in range(0, len(bank), _ROWS):
        block = bank[start : start + _ROWS].float() - center
        norms, columns = block.square().sum(dim=1), block.T
        for part in _slices(len(queries), _QUERIES):
            # |q - b|^2 without |q|^2, which does not change the order
            products = torch.addmm(
                norms, queries[part].float() - center, columns, alpha=-2
            )  # (queries, rows)
            if query_groups is not None and bank_groups is not None:
                own = query_groups[part, None] == bank_groups[None, start : start + _ROWS]
                products.masked_fill_(own, torch.inf)
            values, index = _smallest(products, min(k, len(block)))
            best[part], kept = _smallest(torch.cat([best[part], values], dim=1), k)
            rows[part] = torch.cat([rows[part], index + start], dim=1).gather(1, kept)
    return _by_subtraction(queries, bank, best, rows)


def _slices(total: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, total, step)]


def _smallest(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    if k == 1:  # a minimum is several times faster than topk
        return values.min(dim=1, keepdim=True)
    return values.topk(k, dim=1, largest=False)


def _by_subtraction(
    queries: torch.Tensor, bank: torch.Tensor, found: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances to the `rows` found, exact and in ascending order; infinite ones stay so."""
    distances = found.clone()
    for part in _slices(len(queries), _QUERIES):
        for i in range(rows.shape[1]):  # one neighbour at a time, since (n, k, d) may be large
            distances[part, i] = (queries[part].float() - bank[rows[part, i]]).square_().sum(dim=1)
    distances = torch.where(found.isinf(), found, distances)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), rows.gather(1, order)
