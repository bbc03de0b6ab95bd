"""The image score's weight of the paper's equation 7, which the official code leaves out."""

import torch

from anomaly_lib.kernels.neighbors import NeighborIndex


def image_weights(
    patches: torch.Tensor,
    rows: torch.Tensor,
    index: NeighborIndex,
    neighbours: int,
    images: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the weights (n,) of equation 7 for the worst `patches` (n, d) and their nearest `rows` (n,).

    With m* the nearest row and N_b(m*) the b = `neighbours` rows nearest to it, itself among them: one minus
    the share of exp |patch - m*| in the sum of exp |patch - m| over N_b(m*). Plain (not squared) distances.
    Rows of the patches' own `images` (n,) do not count.
    """
    bank = index.bank
    nearest_rows = bank[rows]
    squared, around = index.search(nearest_rows, min(neighbours, len(bank)), images)
    distances = (patches[:, None] - bank[around]).norm(dim=2)  # (n, b)
    distances.masked_fill_(squared.isinf(), -torch.inf)  # fewer than b rows are of other images
    to_nearest = (patches - nearest_rows).norm(dim=1)
    return 1 - torch.exp(to_nearest - distances.logsumexp(dim=1))
