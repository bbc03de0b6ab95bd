"""Greedy coreset selection (k-center) on a random projection, as PatchCore subsamples its memory bank.

Roth et al., CVPR 2022, algorithm 1; Sener and Savarese, ICLR 2018. The selection is the textbook's, row by
row the farthest from those already selected, but distances are brought up to date for hundreds of selections
at a time.
"""

import numpy as np
import torch

from anomaly_lib.progress import Progress, silent

# Rows considered for selection between two updates of all distances.
_CANDIDATES = 1024
# Rows brought up to date at a time: the product with a few hundred selected rows stays in a CPU's cache.
_BLOCK = 4096


def random_projection(inputs: int, outputs: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random linear map (inputs, outputs) that keeps the order of distances approximately.

    Drawn as the official code's ``nn.Linear(inputs, outputs, bias=False)`` is: uniform within
    1 / sqrt(inputs). Nothing is projected, and nothing drawn, when the two are equal.
    """
    if inputs == outputs:
        return torch.eye(inputs)
    bound = inputs**-0.5
    return torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)


def start_at_all(rows: torch.Tensor) -> torch.Tensor:
    """Return the initial squared distances (n,) of the official ``greedy_coreset``.

    The first row selected is the one with the largest root sum of squared distances to all rows. The official
    code forms the n x n matrix for that; the sum has a closed form.
    """
    centered = (rows - rows.mean(dim=0)).double()
    norms = centered.square().sum(dim=1)
    return (len(rows) * norms + norms.sum()).float()


def start_at_some(rows: torch.Tensor, generator: torch.Generator, points: int = 10) -> torch.Tensor:
    """Return the initial squared distances (n,) of the official ``approx_greedy_coreset``.

    The square of the mean distance to a few random rows; as in the official code it also caps the distances
    to the first selected rows.
    """
    starting_points = torch.randperm(len(rows), generator=generator)[:points].to(rows.device)
    blocks = rows.split(_BLOCK)
    return torch.cat([torch.cdist(block, rows[starting_points]).mean(dim=1) for block in blocks]).square()


def greedy_coreset(
    rows: torch.Tensor, size: int, start: torch.Tensor, progress: Progress = silent
) -> torch.Tensor:
    """Return the indices (size,) int64 of a greedy k-center selection, in the order of selection.

    Parameters
    ----------
    rows
        (n, d) float32.
    size
        Rows to select, 1 to n.
    start
        (n,) squared distances before the first selection, from `start_at_all` or `start_at_some`.

    Notes
    -----
    Exact: a row's stored distance can only be larger than its true distance to the selection. So the rows
    with the largest stored distances are taken as candidates, and the selection goes on among them, with
    their own small distance matrix, while the farthest candidate is at least as far as the largest stored
    distance outside. Then all rows are brought up to date with one matrix product. No row is selected twice,
    not even among duplicates. Distances are those of fp32 matrix products: good to some 1e-6 of the squared
    extent of all rows.

    Examples
    --------
    >>> rows = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    >>> greedy_coreset(rows, 3, start_at_all(rows))  # 10 is far from all, 0 from 10, 2 from both
    tensor([3, 0, 2])
    """
    if not 1 <= size <= len(rows):
        raise ValueError(f"a coreset of {size} rows was asked of {len(rows)} rows")
    center = rows.mean(dim=0)  # distances do not change, rounding errors in the products shrink
    norms = torch.cat([(block - center).square().sum(dim=1) for block in rows.split(_BLOCK)])
    distances = start.clone().float()
    selected: list[torch.Tensor] = []
    done = 0
    progress("coreset", 0, size)
    while done < size:
        chosen = _select_among_farthest(rows, distances, size - done)
        selected.append(chosen)
        done += len(chosen)
        if done < size:
            _update(distances, rows, center, norms, chosen)
        progress("coreset", done, size)
    return torch.cat(selected)


def _select_among_farthest(rows: torch.Tensor, distances: torch.Tensor, wanted: int) -> torch.Tensor:
    """Return the next selections, at least one and at most `wanted`, that need no update in between."""
    stored, candidates = distances.topk(min(_CANDIDATES + 1, len(rows)))
    outside = float(stored[-1]) if len(rows) > _CANDIDATES else -torch.inf
    candidates = candidates[:_CANDIDATES]
    points = rows[candidates]
    points = points - points.mean(dim=0)
    between = torch.cdist(points, points).square_().cpu().numpy()
    current = stored[:_CANDIDATES].cpu().numpy().copy()
    picks: list[int] = []
    while len(picks) < min(wanted, len(candidates)):
        pick = int(current.argmax())
        if picks and current[pick] < outside:
            break
        picks.append(pick)
        np.minimum(current, between[pick], out=current)
        current[pick] = -1  # never selected again
    return candidates[picks]


def _update(
    distances: torch.Tensor,
    rows: torch.Tensor,
    center: torch.Tensor,
    norms: torch.Tensor,
    chosen: torch.Tensor,
) -> None:
    """Lower the stored `distances` (n,) in place to the distances to the rows newly `chosen`."""
    columns = (rows[chosen] - center).T.contiguous()  # (d, chosen)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        products = torch.addmm(norms[chosen], rows[block] - center, columns, alpha=-2)  # (block, chosen)
        to_chosen = (products.amin(dim=1) + norms[block]).clamp_(min=0)
        torch.minimum(distances[block], to_chosen, out=distances[block])
    distances[chosen] = -1
