"""Which changes leave good parts good: the switches of Gaussian-AD for the categories of MVTec AD."""

from collections.abc import Sequence

from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels.augment import AUGMENTATIONS

# Text and directions must not be mirrored, some parts lie one way up, and where the border of the picture
# comes into it, a shift or a turn makes a defect of it.
_UNSAFE = {
    "bottle": {"rotate45"},
    "cable": {"rotate45"},
    "capsule": {"flip", "rotate45"},
    "carpet": set(),
    "grid": {"background_edge"},
    "hazelnut": set(),
    "leather": set(),
    "metal_nut": {"flip", "rotate45"},
    "pill": {"flip", "rotate45"},
    "screw": {"flip", "rotate45"},
    "tile": set(),
    "toothbrush": {"rotate45"},
    "transistor": {"rotate90", "rotate45"},
    "wood": {"rotate45"},
    "zipper": {"rotate45"},
}


def safe_augmentations(categories: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of augmentation, some of `AUGMENTATIONS`, that all the categories allow.

    Raises
    ------
    ParameterError
        When one is not a category of MVTec AD, so that nobody knows.

    Examples
    --------
    >>> safe_augmentations(["screw"])
    ('rotate90', 'background_edge', 'noise')
    """
    unknown = [name for name in categories if name not in _UNSAFE]
    if unknown:
        raise ParameterError(
            f"it is not known what leaves good parts of {unknown[0]!r} good: name `augmentations`, as in "
            "flip,noise"
        )
    return tuple(kind for kind in AUGMENTATIONS if not any(kind in _UNSAFE[name] for name in categories))
