"""Patch SVDD as a detector: maps as in the official code, its numbers on real images, and its errors."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_lib import Detector, PatchSVDD, Scores, Transform, read_category
from anomaly_lib.detectors.patch_svdd.detector import OFFICIAL_TRANSFORM
from anomaly_lib.detectors.patch_svdd.patch_banks import PatchBanks, Sampling
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.evaluation.metrics import auroc
from anomaly_lib.progress import silent

SQUARE = Transform(resize=72, square=True)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Return five images (5, 3, 72, 80) whose values are those of 8 bits."""
    drawn = torch.randint(0, 256, (5, 3, 9, 10), generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(drawn.float(), scale_factor=8, mode="bilinear")
    return large.round() / 255


def model(encoder_file: Path, **options: object) -> PatchSVDD:
    return PatchSVDD(weights=encoder_file, device="cpu", transform=SQUARE, **options)


def distribute(scores: np.ndarray, size: tuple[int, int], side: int, stride: int) -> np.ndarray:
    """Spread scores (h, w) as the official ``distribute_score`` does."""
    mask, count = np.zeros(size), np.zeros(size)
    for i, j in np.ndindex(scores.shape):
        window = np.s_[i * stride : i * stride + side, j * stride : j * stride + side]
        mask[window] += scores[i, j]
        count[window] += 1
    return mask / np.maximum(count, 1)


def plain_maps(
    detector: PatchSVDD, train: torch.Tensor, image: torch.Tensor, strides: Mapping[int, int]
) -> dict[int, np.ndarray]:
    """Compute the maps of one image (3, h, w) patch by patch, with all distances, in float64."""
    mean = train.double().mean(dim=0)
    network = detector.patch_banks_.encoder._network.double()
    maps = {}
    for side, stride in strides.items():
        embed = network if side == 64 else lambda patches: network.enc(patches).flatten(1)

        def patches(one: torch.Tensor, side: int = side, stride: int = stride) -> torch.Tensor:
            cut = (one.double() - mean).unfold(1, side, stride).unfold(2, side, stride)
            return cut.permute(1, 2, 0, 3, 4)  # (rows, columns, 3, side, side)

        bank = torch.cat([embed(patches(one).flatten(0, 1)) for one in train])
        grid = patches(image)
        asked = embed(grid.flatten(0, 1))
        distances = (asked[:, None] - bank).norm(dim=2).amin(dim=1).unflatten(0, grid.shape[:2])
        maps[side] = distribute(distances.numpy(), tuple(image.shape[1:]), side, stride)
    network.float()
    return maps


@pytest.mark.slow
def test_maps_and_scores_are_those_of_patch_by_patch_code(encoder_file: Path, images: torch.Tensor) -> None:
    detector = model(encoder_file, S=(8, 4), threshold_images=0).fit(images[:3])
    scores = detector.score(images[3:])
    assert list(scores.parts) == ["K64", "K32", "sum"]
    for i in range(2):
        maps = plain_maps(detector, images[:3], images[3 + i], {64: 8, 32: 4})
        expected = {"K64": maps[64], "K32": maps[32], "sum": maps[64] + maps[32]}
        expected["product"] = maps[64] * maps[32]
        for name, part in {**scores.parts, "product": scores}.items():
            assert part.maps.shape == (2, 72, 80)
            assert np.abs(part.maps[i] - expected[name]).max() < 1e-5 * expected[name].max(), name
            assert part.image[i] == part.maps[i].max()


def test_with_patches_of_32_alone_their_map_is_the_score(encoder_file: Path, images: torch.Tensor) -> None:
    both = model(encoder_file, threshold_images=0).fit(images[:3]).score(images[3:])
    alone = model(encoder_file, K=32, threshold_images=0).fit(images[:3])
    scores = alone.score(images[3:])
    assert list(scores.parts) == ["K32"]
    assert np.array_equal(scores.maps, scores.parts["K32"].maps)
    assert np.allclose(scores.maps, both.parts["K32"].maps, rtol=1e-5)
    assert list(alone.patch_banks_.banks) == [32]


def test_pixels_beyond_the_last_patch_have_the_nearest_score(
    encoder_file: Path, images: torch.Tensor
) -> None:
    scores = model(encoder_file, S=(16, 16), threshold_images=0).fit(images[:3]).score(images[3:])
    assert (scores.maps[:, 64:] == scores.maps[:, 63:64]).all()
    assert (scores.maps > 0).all()


def test_an_image_among_the_training_images_scores_nothing(encoder_file: Path, images: torch.Tensor) -> None:
    detector = model(encoder_file, threshold_images=0).fit(images)
    scale = detector.score(images.flip(3)).image.max()
    assert detector.score(images).image.max() < 1e-6 * scale


def test_the_threshold_is_from_images_against_the_patches_of_others(
    encoder_file: Path, images: torch.Tensor
) -> None:
    detector = model(encoder_file).fit(images)
    for i in range(len(images)):
        others = torch.cat([images[:i], images[i + 1 :]])
        without = model(encoder_file, threshold_images=0).fit(others)
        pixels = (others * 255).round().to(torch.uint8)
        encoder, everything = detector.patch_banks_.encoder, Sampling("identity", 1.0, seed=0)
        without.patch_banks_ = PatchBanks.filled(encoder, pixels, everything, silent)
        assert without.score(images[i : i + 1]).image[0] == pytest.approx(detector.calibration_[i], rel=1e-4)
    assert detector.threshold_ == pytest.approx(detector.calibration_.max(), rel=1e-6)
    for number in range(1, len(images) + 2):
        few = model(encoder_file, threshold_images=number).fit(images)
        assert len(few.calibration_) == min(number, len(images))
    assert math.isnan(model(encoder_file, threshold_images=0).fit(images).threshold_)


def test_one_image_is_too_few_for_a_threshold(encoder_file: Path, images: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match="at least two normal images"):
        detector = model(encoder_file).fit(images[:1])
    assert math.isnan(detector.threshold_)


@pytest.mark.parametrize("options", [{}, {"sampler": "random", "coreset": 60}])
def test_the_nearest_patches_are_found_where_they_lie(
    encoder_file: Path, images: torch.Tensor, options: dict[str, object]
) -> None:
    detector = model(encoder_file, S=(4, 4), threshold_images=0, **options).fit(images[:3])
    found = detector.nearest_patches(images[4], 29, 36, side=32, k=3)  # the scored patch is at (12, 20)
    assert [place.distance for place in found] == sorted(place.distance for place in found)
    mean = images[:3].mean(dim=0)

    def embedded(image: torch.Tensor, row: int, column: int) -> torch.Tensor:
        patch = (image - mean)[:, row : row + 32, column : column + 32]
        return detector.patch_banks_.encoder._network.enc(patch[None]).flatten()

    asked = embedded(images[4], 12, 20)
    for place in found:
        there = embedded(images[place.image], place.row, place.column)
        assert float((there - asked).norm()) == pytest.approx(place.distance, rel=1e-4)
    if not options:
        own = detector.nearest_patches(images[1], 48, 40, side=64, k=1)[0]
        assert own[:3] == (1, 8, 8)  # the last row of patches
        assert own.distance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("sampler", ["greedy_coreset", "approx_greedy_coreset", "random"])
def test_a_coreset_keeps_some_of_the_patches(encoder_file: Path, images: torch.Tensor, sampler: str) -> None:
    whole = model(encoder_file, threshold_images=0).fit(images[:4])
    small = model(encoder_file, sampler=sampler, coreset=0.25).fit(images[:4])
    for side in (64, 32):
        everything, kept = whole.patch_banks_.banks[side], small.patch_banks_.banks[side]
        assert len(kept) == max(1, len(everything) // 4)
        assert (kept[:, None] == everything).all(dim=2).any(dim=1).all()
    assert not np.isnan(small.calibration_).any()
    assert np.isfinite(small.threshold_)
    assert (small.score(images[4:]).image >= whole.score(images[4:]).image).all()
    of_rows = model(encoder_file, sampler=sampler, coreset=7).fit(images[:4])
    assert {side: len(bank) for side, bank in of_rows.patch_banks_.banks.items()} == {64: 7, 32: 7}


def test_the_default_geometry_is_the_original_ones_size_of_whole_pictures() -> None:
    assert Transform(resize=256, crop=None, square=True, interpolation="bicubic") == OFFICIAL_TRANSFORM
    assert PatchSVDD().transform == Transform(resize=256, interpolation="bicubic")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"K": 48}, "K is 48"),
        ({"S": (16, 3)}, "S is 3 for patches of 32 pixels"),
        ({"S": (66, 4)}, "S is 66 for patches of 64 pixels"),
        ({"D": 0}, "D is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan: it must be finite and positive"),
        ({"lr": math.inf}, "lr is inf"),
        ({"lambda_value": math.nan}, "lambda_value is nan: it must be finite and not negative"),
        ({"lambda_value": -1.0}, "lambda_value is -1.0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"sampler": "some"}, "sampler is 'some'"),
        ({"coreset": 0.0}, "coreset is 0.0"),
        ({"false_alarm_rate": 1.0}, "false_alarm_rate is 1.0"),
    ],
)
def test_values_that_make_no_sense_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        PatchSVDD(**options)


def test_images_smaller_than_a_patch_are_refused_with_the_remedy(encoder_file: Path) -> None:
    with pytest.raises(ParameterError, match="smaller than patches of 64: use larger ones, or K = 32"):
        model(encoder_file).fit(torch.zeros(2, 3, 48, 80))


def test_images_of_another_size_than_the_mean_image_are_refused(
    encoder_file: Path, images: torch.Tensor
) -> None:
    detector = model(encoder_file, threshold_images=0).fit(images)
    with pytest.raises(DataError, match="64 x 72 pixels for a model that was fitted on 80 x 72"):
        detector.score(images[..., :64])


def test_a_saved_model_holds_its_encoder(encoder_file: Path, images: torch.Tensor, tmp_path: Path) -> None:
    model(encoder_file, K=32, S=(16, 8)).fit(images).save(tmp_path / "model")
    loaded = PatchSVDD.load(tmp_path / "model", device="cpu")
    assert (loaded.K, loaded.S, loaded.patch_banks_.banks[32].shape[1]) == (32, (16, 8), 6)
    with pytest.raises(ParameterError, match="omit `weights`"):
        PatchSVDD.load(tmp_path / "model", weights=str(encoder_file))


def test_a_look_is_taken_every_so_many_epochs(normal_images: torch.Tensor) -> None:
    seen: list[tuple[int, list[str], Scores | None]] = []

    def watch(epoch: int, losses: Mapping[str, float], detector: Detector | None) -> dict[str, float]:
        seen.append((epoch, list(losses), detector.score(normal_images[:1]) if detector else None))
        return {}

    def fitted(**options: object) -> PatchSVDD:
        detector = PatchSVDD(
            K=32, S=(16, 16), D=4, epochs=5, repeat=1, batch_size=6, device="cpu", transform=SQUARE, **options
        )
        return detector.fit(normal_images, watch=watch)

    watched = fitted(look_every=2)
    assert [(epoch, scores is not None) for epoch, _, scores in seen] == [
        (1, False), (2, True), (3, False), (4, True), (5, False)
    ]  # fmt: skip
    assert seen[0][1] == ["loss", "position_32", "svdd_32"]
    unwatched = fitted()
    assert np.array_equal(unwatched.score(normal_images).maps, watched.score(normal_images).maps)


@pytest.mark.usefixtures("all_cores")
def test_the_official_encoder_has_its_published_numbers_on_real_images(shared_data: Path) -> None:
    """The numbers of the official code are in the README of the data."""
    category = read_category(shared_data / "mvtec_ad", "bottle")
    detector = PatchSVDD(
        weights=shared_data / "patch_svdd" / "bottle_enchier.pkl", threshold_images=0, device="cpu"
    )
    detector.fit(category.train_images(detector.transform))
    assert len(detector.patch_banks_.banks[32]) == 679_041
    scores = detector.score(category.test_images(detector.transform))
    masks = category.masks(detector.transform)
    expected = {
        "K64": (0.96032, 0.95662),
        "K32": (0.98095, 0.97860),
        "sum": (0.97937, 0.97708),
        "product": (0.97460, 0.97844),
    }
    for name, part in {**scores.parts, "product": scores}.items():
        found = (auroc(part.image, category.labels), auroc(part.maps, masks))
        assert found == pytest.approx(expected[name], abs=1e-3), name
