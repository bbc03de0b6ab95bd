"""Which rows of a memory bank to keep: the samplers of the official PatchCore, and random ones."""

from typing import Literal, get_args

import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels.coreset import greedy_coreset, start_at_all, start_at_some
from anomaly_lib.progress import Progress, silent

Sampler = Literal["identity", "greedy_coreset", "approx_greedy_coreset", "random"]


def check_sampling(sampler: str, coreset: float) -> None:
    """Raise `ParameterError` when there is no such sampler, or `coreset` is neither a share nor a number."""
    if sampler not in get_args(Sampler):
        raise ParameterError(f"sampler is {sampler!r}: use one of {', '.join(get_args(Sampler))}")
    if not 0 < coreset <= 1 and not (coreset > 1 and float(coreset).is_integer()):
        raise ParameterError(
            f"coreset is {coreset}: give a share of the patches in (0, 1] or a number of rows"
        )


def select_rows(
    rows: torch.Tensor,
    size: int,
    sampler: Sampler,
    generator: torch.Generator,
    progress: Progress = silent,
) -> torch.Tensor:
    """Return the indices of the `size` rows of (n, d) that `sampler` keeps; of all for ``identity``."""
    if sampler == "identity":
        return torch.arange(len(rows), device=rows.device)
    if sampler == "random":
        return torch.randperm(len(rows), generator=generator)[:size].to(rows.device)
    start = start_at_all(rows) if sampler == "greedy_coreset" else start_at_some(rows, generator)
    return greedy_coreset(rows, size, start, progress)
