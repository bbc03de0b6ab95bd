"""The rows that a greedy coreset would have in place of those of an image, had it not seen that image.

A coreset is spread over what it was selected from. Without the rows of an image it has a gap there, in which
patches of other images lie that were covered by those rows: a selection without the image would have covered
them by some of themselves. To leave the rows out alone therefore makes the image look stranger than it is.
"""

import torch

from anomaly_lib.kernels.coreset import greedy_coreset
from anomaly_lib.kernels.neighbors import NeighborIndex


def replacement_rows(
    patches: torch.Tensor,
    image_of: torch.Tensor,
    bank: torch.Tensor,
    bank_image_of: torch.Tensor,
    further: NeighborIndex | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the patches that take the place of each image's rows, and of which image's.

    For each image these are as many as it has rows in the bank, selected greedily among the patches of other
    images whose nearest row is one of these, beginning with their distances to the rows of other images.

    Parameters
    ----------
    patches
        (n, d), on the projection on which the coreset was selected.
    image_of
        (n,) the image of each patch.
    bank, bank_image_of
        (m, d) and (m,), the coreset and the images of its rows.
    further
        Rows of the coreset that are of none of these images.

    Returns
    -------
    tuple
        The numbers of the patches (r,) int64, and the images (r,) that they replace rows of.
    """
    index = NeighborIndex(bank, bank_image_of)
    to_nearest, rows = (found[:, 0] for found in index.search(patches))
    nearest = bank_image_of[rows]
    orphans = (nearest != image_of).nonzero().flatten()
    if further is not None:  # the distance to any of these rows is enough to leave most patches out
        bounds = further.search_roughly(patches[orphans])[0][:, 0]
        orphans = orphans[to_nearest[orphans] < bounds]
    distances = index.search(patches[orphans], groups=nearest[orphans])[0][:, 0]  # to rows of other images
    if further is not None and len(orphans):
        covered = further.search(patches[orphans])[0][:, 0]
        uncovered = to_nearest[orphans] < covered
        orphans, distances = orphans[uncovered], distances.minimum(covered)[uncovered]
    order = nearest[orphans].argsort(stable=True)
    orphans, distances = orphans[order], distances[order]
    images, numbers = nearest[orphans].unique_consecutive(return_counts=True)
    parts = numbers.tolist()
    chosen, instead_of = [orphans[:0]], [image_of[:0]]
    for image, of_image, apart in zip(images, orphans.split(parts), distances.split(parts), strict=True):
        size = min(int((bank_image_of == image).sum()), len(of_image))
        chosen.append(of_image[greedy_coreset(patches[of_image], size, apart)])
        instead_of.append(image.expand(size))
    return torch.cat(chosen), torch.cat(instead_of)
