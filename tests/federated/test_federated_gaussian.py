"""Gaussian of several sites against the one of their pooled images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly_lib import Gaussian, Transform, load_detector
from anomaly_lib.errors import DataError, ModelFileError
from anomaly_lib.federated.gaussian import GaussianDirector, GaussianSite
from anomaly_lib.federated.turns import Turn

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., Gaussian]


@pytest.fixture(scope="module")
def make(tiny_weights: str) -> Make:
    """Return a function that makes a new detector."""
    defaults: dict[str, Any] = {
        **{"backbone": "test_resnet", "weights": tiny_weights, "transform": Transform(64, square=True)},
        **{"device": "cpu", "precision": "fp32"},
    }
    return lambda **options: Gaussian(**{**defaults, **options})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Return 31 random pictures, from dark to bright: a split in order is a skewed one."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(31, 3, 8, 8, generator=generator) + torch.arange(31)[:, None, None, None] / 31
    return 0.1 + 0.4 * F.interpolate(coarse, size=64, mode="bilinear")


@pytest.fixture(scope="module")
def tested() -> torch.Tensor:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(6))


def sites_of(make: Make, images: torch.Tensor, sizes: Sequence[int], **options: Any) -> list[GaussianSite]:
    firsts = np.cumsum([0, *sizes])
    return [
        GaussianSite(make(**options), part, Turn(int(first), len(part), len(images)))
        for first, part in zip(firsts, images.split(list(sizes)), strict=False)
    ]


def federated(make: Make, images: torch.Tensor, sizes: Sequence[int], **options: Any) -> Gaussian:
    sites = sites_of(make, images, sizes, **options)
    director = GaussianDirector(make(**options))
    for site in sites:
        director.add(site.share(), site.turn)
    merged = director.merged()
    for site in reversed(sites):  # whichever answers first
        director.add_calibration(site.calibration(merged), site.turn)
    return director.finish()


@pytest.mark.parametrize("sizes", [(31,), (10, 11, 10), (1, 29, 1), (2, 2, 3, 20, 4)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fold": None},
        {"distance": "sed"},
        {"distance": "l2", "position_means": False},
        {"reduction": "npca", "variance_threshold": 0.8},
        {"distance": "ocsvm"},
    ],
)
def test_the_merged_model_is_the_pooled_one(
    make: Make, images: torch.Tensor, tested: torch.Tensor, sizes: Sequence[int], options: dict[str, Any]
) -> None:
    pooled, merged = make(**options).fit(images), federated(make, images, sizes, **options)
    expected, found = pooled.score(tested), merged.score(tested)
    assert found.image == pytest.approx(expected.image, rel=1e-6)
    if expected.maps is not None:
        assert found.maps is not None
        assert np.abs(found.maps - expected.maps).max() <= 1e-5 * np.abs(expected.maps).max()
    assert list(merged.calibration_of_) == sorted(pooled.calibration_of_)
    order = pooled.calibration_of_.argsort()
    assert merged.calibration_ == pytest.approx(pooled.calibration_[order], rel=1e-6)
    assert merged.threshold_ == pytest.approx(pooled.threshold_, rel=1e-6)
    assert merged.images_ == len(images)


def test_no_features_of_single_images_leave_a_site(make: Make, images: torch.Tensor) -> None:
    (site,) = sites_of(make, images, [len(images)])
    for name, tensor in site.share().items():
        kind = name.split(".", 2)[2]
        assert kind.split(".")[-1] in ("count", "mean", "scatter", "cubic", "quartic", "position_sum")
        assert len(images) not in tensor.shape


def test_a_saved_model_learns_on_and_keeps_the_scores_of_the_sites(
    make: Make, images: torch.Tensor, tmp_path: Path
) -> None:
    merged = federated(make, images, (15, 16))
    merged.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    before = dict(zip(loaded.calibration_of_.tolist(), loaded.calibration_.tolist(), strict=True))
    loaded.update(images[:10])
    after = dict(zip(loaded.calibration_of_.tolist(), loaded.calibration_.tolist(), strict=True))
    assert {number: after[number] for number in before} == before
    assert len(after) == len(before) + 2


def damaged(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    name = next(name for name in tensors if name.endswith("mean") and tensors[name].ndim)
    tensor = tensors[name]
    changes: dict[str, dict[str, torch.Tensor]] = {
        "nan": {name: tensor * torch.nan},
        "shape": {name: tensor[:-1]},
        "type": {name: tensor.float()},
        "more": {"something": torch.zeros(3)},
    }
    if how == "less":
        return {key: value for key, value in tensors.items() if key != name}
    return tensors | changes[how]


@pytest.mark.parametrize("how", ["nan", "shape", "type", "more", "less"])
def test_what_is_no_such_message_is_refused(make: Make, images: torch.Tensor, how: str) -> None:
    (site,) = sites_of(make, images, [len(images)])
    turn, director = Turn(0, len(images), len(images)), GaussianDirector(make())
    with pytest.raises(ModelFileError):
        director.add(damaged(site.share(), how), turn)
    with pytest.raises(DataError, match="no site has sent"):
        director.merged()
    director.add(site.share(), turn)
    merged = director.merged()
    for part in ("model.", "held_out."):
        wrong = damaged({name: value for name, value in merged.items() if name.startswith(part)}, how)
        with pytest.raises(ModelFileError):
            site.calibration({**merged, **{f"{part}more": torch.zeros(3)}} if how == "more" else wrong)
    scores = site.calibration(merged)
    for wrong in (
        {"numbers": scores["numbers"]},
        {**scores, "scores": scores["scores"] * torch.nan},
        {**scores, "numbers": scores["numbers"] + len(images)},
        {**scores, "numbers": scores["numbers"] * 0},
    ):
        with pytest.raises(ModelFileError):
            director.add_calibration(wrong, turn)


def test_statistics_of_other_images_are_refused_and_leave_no_trace(make: Make, images: torch.Tensor) -> None:
    sites, director = sites_of(make, images, (20, 11)), GaussianDirector(make())
    director.add(sites[0].share(), sites[0].turn)
    for wrong in (Turn(20, 5, 25), Turn(20, 40, 60)):
        with pytest.raises(ModelFileError, match="images"):
            director.add(sites[1].share(), wrong)
    smaller = GaussianSite(make(), F.interpolate(images[20:], size=32), sites[1].turn)
    with pytest.raises(DataError, match="different sizes"):
        director.add(smaller.share(), sites[1].turn)
    assert director.images == 20
    director.add(sites[1].share(), sites[1].turn)
    expected = GaussianDirector(make())
    for site in sites:
        expected.add(site.share(), site.turn)
    for name, value in expected.merged().items():
        assert torch.equal(director.merged()[name], value)


def test_a_site_may_answer_in_another_process(make: Make, images: torch.Tensor) -> None:
    director = GaussianDirector(make())
    (site,) = sites_of(make, images, [len(images)])
    director.add(site.share(), site.turn)
    merged = director.merged()
    (other,) = sites_of(make, images, [len(images)])
    for name, value in site.calibration(merged).items():
        assert torch.equal(other.calibration(merged)[name], value)


@pytest.mark.parametrize("options", [{}, {"fold": None}, {"reduction": "npca", "variance_threshold": 0.8}])
def test_a_message_a_hundred_times_too_large_is_told(
    make: Make, images: torch.Tensor, options: dict[str, Any]
) -> None:
    (site,) = sites_of(make, images, [len(images)], **options)
    size = sum(tensor.nbytes for tensor in site.share().values())
    assert size < GaussianDirector(make(**options)).most_bytes(site.turn, (64, 64)) < 20 * size
