"""Scores and labels as arrays that can be drawn."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating], NDArray[Any]]:
    """Return both as arrays, without a copy where they are arrays already.

    Raises
    ------
    ValueError
        If the shapes differ, there is no score, or a score is not finite.
    """
    values, marks = np.asarray(scores), np.asarray(labels)
    if values.shape != marks.shape:
        raise ValueError(f"Scores of shape {values.shape} do not go with labels of shape {marks.shape}.")
    if not values.size:
        raise ValueError("There are no scores to draw.")
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise ValueError("A score is not finite (NaN or infinity).")
    return values, marks
