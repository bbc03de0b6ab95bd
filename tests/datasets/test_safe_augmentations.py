"""The switches of Gaussian-AD for MVTec AD."""

import pytest

from anomaly_lib import ALL_CATEGORIES
from anomaly_lib.datasets.safe_augmentations import safe_augmentations
from anomaly_lib.errors import ParameterError
from anomaly_lib.kernels.augment import AUGMENTATIONS


@pytest.mark.parametrize(
    ("categories", "forbidden"),
    [
        (("carpet",), set()),
        (("screw",), {"flip", "rotate45"}),
        (("transistor",), {"rotate90", "rotate45"}),
        (("grid",), {"background_edge"}),
        (("grid", "pill"), {"background_edge", "flip", "rotate45"}),
    ],
)
def test_what_would_make_a_defect_is_left_out(categories: tuple[str, ...], forbidden: set[str]) -> None:
    assert set(safe_augmentations(categories)) == set(AUGMENTATIONS) - forbidden


def test_every_category_is_known_and_others_are_not() -> None:
    assert all("noise" in safe_augmentations([name]) for name in ALL_CATEGORIES)
    with pytest.raises(ParameterError, match=r"good parts of 'lid' good: name `augmentations`"):
        safe_augmentations(["carpet", "lid"])
