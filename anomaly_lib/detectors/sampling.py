"""Which rows of a memory bank to keep: the samplers of the official PatchCore, and random ones."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels.coreset import greedy_coreset, start_at_all, start_at_some
from anomaly_lib.progress import Progress, silent

Sampler = Literal["identity", "greedy_coreset", "approx_greedy_coreset", "random"]


@dataclass(frozen=True)
class CoresetSize:
    """A share of the patches in (0, 1], or above 1 a whole number of rows."""

    def require(self, name: str, value: Any) -> None:
        """Raise `ParameterError` for any other value."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (0 < value <= 1 or (1 < value < 2**53 and float(value).is_integer())):
            raise ParameterError(
                f"{name} is {value!r}: give a share of the patches in (0, 1] or a number of rows"
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
