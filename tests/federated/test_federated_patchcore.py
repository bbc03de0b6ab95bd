"""PatchCore of several sites: the bound that is promised, and the pooled model beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly_lib import PatchCore, Transform, load_detector, read_category
from anomaly_lib.errors import ModelFileError
from anomaly_lib.evaluation.measures import measure
from anomaly_lib.federated.patchcore import PatchCoreDirector, PatchCoreSite
from anomaly_lib.federated.shards import round_robin
from anomaly_lib.federated.turns import Turn
from anomaly_lib.runs.run import predictions_of

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., PatchCore]


@pytest.fixture(scope="module")
def make(tiny_weights: str) -> Make:
    """Return a function that makes a new detector."""
    defaults: dict[str, Any] = {
        **{"backbone": "test_resnet", "weights": tiny_weights, "transform": Transform(64, square=True)},
        **{"device": "cpu", "precision": "fp32", "target_embed_dimension": 96, "coreset": 0.1},
    }
    return lambda **options: PatchCore(**{**defaults, **options})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Return 24 random pictures, from dark to bright: a split in order is a skewed one."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(24, 3, 8, 8, generator=generator) + torch.arange(24)[:, None, None, None] / 24
    return 0.1 + 0.4 * F.interpolate(coarse, size=64, mode="bilinear")


def turns_of(sizes: Sequence[int]) -> list[Turn]:
    firsts = np.cumsum([0, *sizes])
    return [Turn(int(first), size, sum(sizes)) for first, size in zip(firsts, sizes, strict=False)]


def federated(
    make: Make, images: torch.Tensor, sizes: Sequence[int], **options: Any
) -> tuple[PatchCore, PatchCoreDirector]:
    turns = turns_of(sizes)
    parts = images.split(list(sizes))
    sites = [PatchCoreSite(make(**options), part, turn) for part, turn in zip(parts, turns, strict=True)]
    director = PatchCoreDirector(make(**options))
    for site, turn in zip(sites, turns, strict=True):
        director.add(site.share(), turn)
    merged = director.merged()
    for site, turn in reversed(list(zip(sites, turns, strict=True))):  # whichever answers first
        director.add_calibration(site.calibration(merged), turn)
    return director.finish(), director


@pytest.mark.parametrize("sizes", [(24,), (8, 8, 8), (1, 22, 1), (2, 3, 5, 14)])
@pytest.mark.parametrize("options", [{}, {"coreset": 40}, {"sampler": "greedy_coreset", "coreset": 0.3}])
def test_every_patch_lies_within_the_bound(
    make: Make, images: torch.Tensor, sizes: Sequence[int], options: dict[str, Any]
) -> None:
    merged, director = federated(make, images, sizes, **options)
    bank = merged.memory_bank_
    patches = merged.embed(merged.features_of_batch(images).maps).flatten(0, 2) @ bank.projection
    radius = float(torch.cdist(patches.double(), bank.projected.double()).amin(dim=1).max())
    assert radius <= director.covering_radius * 1.001
    assert director.covering_radius <= 4 * radius
    share = options.get("coreset", 0.1)
    assert len(bank) == (share if share > 1 else int(share * len(patches)))
    assert set(bank.image_of.tolist()) <= set(range(24))
    assert merged.images_ == 24
    assert list(merged.calibration_of_) == list(range(24))
    assert np.isfinite(merged.threshold_)


@pytest.mark.parametrize("sizes", [(24,), (7, 7, 10)])
def test_where_all_patches_are_kept_it_is_the_pooled_model(
    make: Make, images: torch.Tensor, sizes: Sequence[int]
) -> None:
    pooled = make(sampler="identity").fit(images)
    merged, director = federated(make, images, sizes, sampler="identity")
    assert director.covering_radius == pytest.approx(0, abs=1e-3)
    assert torch.equal(merged.memory_bank_.places, pooled.memory_bank_.places)
    assert torch.allclose(merged.memory_bank_.rows, pooled.memory_bank_.rows, atol=1e-5)
    assert merged.calibration_ == pytest.approx(pooled.calibration_, rel=1e-4)
    assert merged.threshold_ == pytest.approx(pooled.threshold_, rel=1e-4)


def test_the_threshold_is_near_the_pooled_one(make: Make, images: torch.Tensor) -> None:
    pooled = make().fit(images)
    merged, _ = federated(make, images, (8, 8, 8))
    assert np.median(merged.calibration_) == pytest.approx(np.median(pooled.calibration_), rel=0.25)


def test_it_is_saved_and_learns_on(make: Make, images: torch.Tensor, tmp_path: Path) -> None:
    merged, _ = federated(make, images, (12, 12))
    merged.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.score(images[:3]).image, merged.score(images[:3]).image)
    loaded.update(images[:2])
    assert loaded.images_ == 26


@pytest.mark.parametrize(
    "change",
    [
        {"rows": lambda rows: rows * torch.nan},
        {"rows": lambda rows: rows[:, :-1]},
        {"rows": lambda rows: rows.double()},
        {"rows": lambda rows: rows[:0], "places": lambda places: places[:0]},
        {"places": lambda places: places + 8},
        {"places": lambda places: places[:-1]},
        {"places": lambda places: -places},
        {"radius": lambda radius: -radius},
        {"patches": lambda patches: patches * 0},
        {"patches": lambda patches: patches.float()},
    ],
)
def test_what_is_no_such_message_is_refused(
    make: Make, images: torch.Tensor, change: dict[str, Callable[[torch.Tensor], torch.Tensor]]
) -> None:
    turn = Turn(0, 8, 16)
    coreset = PatchCoreSite(make(), images[:8], turn).share()
    wrong = {name: change[name](tensor) if name in change else tensor for name, tensor in coreset.items()}
    director = PatchCoreDirector(make())
    with pytest.raises(ModelFileError):
        director.add(wrong, turn)
    director.add(coreset, turn)  # nothing is left of the wrong one
    assert len(director.merged()["model.memory_bank"]) == int(0.1 * int(coreset["patches"]))


def test_a_bank_of_another_model_is_refused_by_a_site(make: Make, images: torch.Tensor) -> None:
    turn = Turn(0, 8, 8)
    site = PatchCoreSite(make(), images[:8], turn)
    director = PatchCoreDirector(make())
    director.add(site.share(), turn)
    merged = director.merged()
    for name in [name for name, tensor in merged.items() if tensor.ndim]:
        with pytest.raises(ModelFileError):
            site.calibration({**merged, name: merged[name][:-1]})


def test_a_site_may_answer_in_another_process(make: Make, images: torch.Tensor) -> None:
    turn, director = Turn(0, 24, 24), PatchCoreDirector(make())
    site = PatchCoreSite(make(), images, turn)
    director.add(site.share(), turn)
    merged = director.merged()
    answer = PatchCoreSite(make(), images, turn).calibration(merged)
    for name, value in site.calibration(merged).items():
        assert torch.equal(answer[name], value)


@pytest.mark.parametrize("options", [{}, {"coreset": 40}, {"sampler": "identity"}])
def test_a_message_a_hundred_times_too_large_is_told(
    make: Make, images: torch.Tensor, options: dict[str, Any]
) -> None:
    turn = Turn(0, 24, 24)
    size = sum(tensor.nbytes for tensor in PatchCoreSite(make(**options), images, turn).share().values())
    assert size < PatchCoreDirector(make(**options)).most_bytes(turn, (64, 64)) < 20 * size


@pytest.mark.usefixtures("all_cores")
def test_three_sites_are_as_good_as_their_pooled_images_on_real_parts(shared_data: Path) -> None:
    bottle = read_category(shared_data / "mvtec_ad", "bottle")
    shards = round_robin(bottle, 3)
    turns = turns_of([len(shard.train) for shard in shards])
    director = PatchCoreDirector(PatchCore(transform=Transform(144, 128)))
    sites = [
        PatchCoreSite(PatchCore(transform=Transform(144, 128)), shard.train_images(Transform(144, 128)), turn)
        for shard, turn in zip(shards, turns, strict=True)
    ]
    for site, turn in zip(sites, turns, strict=True):
        director.add(site.share(), turn)
    answer = director.merged()
    for site, turn in zip(sites, turns, strict=True):
        director.add_calibration(site.calibration(answer), turn)
    merged = director.finish()
    pooled = PatchCore(transform=merged.transform).fit(bottle.train_images(merged.transform))
    rows = []
    for detector in (merged, pooled):
        scores = detector.score(bottle.test_images(detector.transform))
        rows.append(measure(predictions_of(scores, bottle, detector.transform, detector.threshold_)).row)
    assert rows[0]["instance_auroc"] == pytest.approx(rows[1]["instance_auroc"], abs=0.005)
    assert rows[0]["full_pixel_auroc"] == pytest.approx(rows[1]["full_pixel_auroc"], abs=0.01)
    assert merged.threshold_ == pytest.approx(pooled.threshold_, rel=0.1)
