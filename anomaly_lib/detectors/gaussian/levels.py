"""Which levels of a network a Gaussian looks at."""

from collections.abc import Sequence

from anomaly_lib.datasets.transforms import Geometry, Transform
from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.backbone import level_layers
from anomaly_lib.networks.names import native_size, side_multiple


def require_levels(levels: Sequence[int], map_levels: Sequence[int], backbone: str) -> None:
    """Raise `ParameterError` where the backbone has no such levels, or maps are to be made of others."""
    available = len(level_layers(backbone))
    if max(levels) >= available:
        raise ParameterError(f"levels are {_listed(levels)} of {backbone}: use 0 to {available - 1}")
    if not set(map_levels) <= set(levels):
        raise ParameterError(
            f"map_levels are {_listed(map_levels)}: they must be among the levels, {_listed(levels)}"
        )


def whole_transform(backbone: str) -> Transform:
    """Return the geometry of whole pictures, in the size that the network was made for."""
    return official_transform(backbone).asked(Geometry(whole=True), side_multiple(backbone))


def official_transform(backbone: str) -> Transform:
    """Return the geometry of Gaussian's images by default: the square that the network was made for."""
    return Transform(native_size(backbone), square=True)


def localising_levels(
    levels: Sequence[int], map_levels: Sequence[int], strides: Sequence[float]
) -> list[bool]:
    """Return which of the levels make maps: `map_levels`, by default those at strides 4 to 16, or else all.

    Finer ones see little, and the coarser ones, however good with whole images, smear what they see.
    """
    if map_levels:
        return [level in map_levels for level in levels]
    localising = [3 < stride < 20 for stride in strides]  # the sides may not divide evenly
    return localising if any(localising) else [True] * len(strides)


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels))
