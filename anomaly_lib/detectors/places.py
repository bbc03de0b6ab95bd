"""Where a patch of a training image is."""

from typing import NamedTuple


class PatchPlace(NamedTuple):
    """A patch of a training image, and how far it is from the one that was asked about.

    Attributes
    ----------
    image
        The number of the training image, in the order of `fit`.
    row, column
        Upper left corner at the model's input, in pixels; less than 0 where the patch reaches over the edge.
    side
        Of the patch, likewise.
    distance
        In the embedding; 0 of the same patch.
    """

    image: int
    row: int
    column: int
    side: int
    distance: float
