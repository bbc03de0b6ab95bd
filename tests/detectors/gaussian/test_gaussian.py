"""Gaussian against scikit-learn and sums written out, and its figures on real images."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.svm import OneClassSVM

from anomaly_lib import Backbone, Gaussian, Transform, load_detector, read_category
from anomaly_lib.detectors.gaussian.level_models import reduced, select_components
from anomaly_lib.detectors.gaussian.level_statistics import LevelStatistics, folds_of, on_grid, pool
from anomaly_lib.detectors.gaussian.levels import official_transform
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.evaluation.metrics import auroc, pixel_metrics
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.kernels.patches import smooth_maps
from anomaly_lib.networks.backbone import level_layers
from anomaly_lib.networks.names import native_size

SMALL = Transform(resize=64, square=True)
LEVELS = 5  # of test_resnet

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., Gaussian]


@pytest.fixture(scope="module")
def make(tiny_weights: str) -> Make:
    """Return a function that makes a new detector."""
    defaults: dict[str, Any] = {
        **{"backbone": "test_resnet", "weights": tiny_weights, "transform": SMALL},
        **{"device": "cpu", "precision": "fp32"},
    }
    return lambda *levels, **options: Gaussian(levels=levels, **{**defaults, **options})


@pytest.fixture(scope="module")
def normal() -> torch.Tensor:
    """Return 23 random pictures of one kind, (23, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(23, 3, 8, 8, generator=generator)
    return 0.25 + 0.5 * F.interpolate(coarse, size=64, mode="bilinear")


@pytest.fixture(scope="module")
def tested() -> torch.Tensor:
    """Return four pictures of another kind."""
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(6))


@pytest.fixture(scope="module")
def features(tiny_weights: str) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Return the function from images to the feature maps of all levels, float64."""
    backbone = Backbone("test_resnet", level_layers("test_resnet"), weights=tiny_weights)
    return lambda images: [maps.double() for maps in backbone(images)]


def rows_of(maps: list[torch.Tensor]) -> list[np.ndarray]:
    return [level.mean(dim=(2, 3)).numpy() for level in maps]


def fitted_on(images: torch.Tensor, fold: int | None) -> np.ndarray:
    splits = list(KFold(5, shuffle=True, random_state=0).split(images))
    return np.arange(len(images)) if fold is None else splits[fold][0]


# --- Levels ---


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("tf_efficientnet_lite0", ("bn1", *(f"blocks.{i}" for i in range(7)), "bn2")),
        ("efficientnet-b4", ("bn1", *(f"blocks.{i}" for i in range(7)), "bn2")),
        ("tf_efficientnetv2_s", ("bn1", *(f"blocks.{i}" for i in range(6)), "bn2")),
        ("resnet18", ("maxpool", "layer1", "layer2", "layer3", "layer4")),
        ("wide_resnet50_2", ("maxpool", "layer1", "layer2", "layer3", "layer4")),
        ("convnext_atto", ("stages.0", "stages.1", "stages.2", "stages.3")),
        ("mobilenetv3_small_100", ("bn1", "blocks.0", "blocks.1", "blocks.3", "blocks.5")),
    ],
)
def test_levels_are_numbered_as_the_authors_do_and_otherwise_as_timm_does(
    name: str, layers: tuple[str, ...]
) -> None:
    assert level_layers(name) == layers


@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet-b0", 224), ("efficientnet-b4", 380), ("efficientnet-b7", 600)]
)
def test_the_input_is_of_the_size_that_the_network_was_made_for(name: str, size: int) -> None:
    assert native_size(name) == size
    official = official_transform(name)
    assert (official.size, official.square, official.interpolation) == (size, True, "bilinear")
    assert official.override(None, 96).size == 96
    own = Gaussian(name, device="cpu").transform
    assert (own.resize, own.whole) == (size, True)
    assert own.shape(1000, 500) == (own.size, 2 * own.size)


@pytest.mark.parametrize("name", ["convnext_atto", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_every_network_with_a_feature_pyramid_will_do(name: str, normal: torch.Tensor) -> None:
    torch.manual_seed(0)
    images = F.interpolate(normal[:4], size=224)
    detector = Gaussian(name, weights="random", device="cpu", precision="fp32").fit(images)
    scores = detector.score(images[:2])
    assert len(scores.parts) == len(level_layers(name))
    assert scores.maps is not None
    assert scores.maps.shape == (2, 224, 224)
    assert np.isfinite(scores.image).all()


def test_the_network_runs_once_a_batch_for_all_levels(make: Make, normal: torch.Tensor) -> None:
    calls = []

    class Counting(Backbone):
        def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
            calls.append(len(images))
            return super().__call__(images)

    detector = make(fold=None)
    detector._load_network = lambda: Counting(  # type: ignore[method-assign]
        detector.backbone, level_layers(detector.backbone), weights=detector.weights
    )
    detector.fit(normal)
    assert sum(calls) == len(normal)
    detector.score(normal)
    assert sum(calls) == 2 * len(normal)


# --- Image scores ---


@pytest.mark.parametrize("fold", [0, 3, None])
def test_mahalanobis_is_that_of_scikit_learn(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, features: Any, fold: int | None
) -> None:
    scores = make(fold=fold).fit(normal).score(tested)
    chosen = fitted_on(normal, fold)
    expected = [
        np.sqrt(LedoitWolf().fit(seen[chosen]).mahalanobis(asked))
        for seen, asked in zip(rows_of(features(normal)), rows_of(features(tested)), strict=True)
    ]
    assert list(scores.parts) == [f"level_{level}" for level in range(LEVELS)]
    for part, level in zip(scores.parts.values(), expected, strict=True):
        np.testing.assert_allclose(part.image, level, rtol=1e-4)
    np.testing.assert_allclose(scores.image, np.mean(expected, axis=0), rtol=1e-4)


def test_l2_and_sed_are_root_mean_squares(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, features: Any
) -> None:
    chosen = fitted_on(normal, 0)
    for level, (seen, asked) in enumerate(
        zip(rows_of(features(normal)), rows_of(features(tested)), strict=True)
    ):
        away = asked - seen[chosen].mean(axis=0)
        spread = seen[chosen].std(axis=0, ddof=1)
        spread[spread < 1e-12] = np.inf  # features that never vary do not count
        for distance, unit in (("l2", 1.0), ("sed", spread)):
            scores = make(level, distance=distance).fit(normal).score(tested)
            np.testing.assert_allclose(scores.image, np.sqrt(((away / unit) ** 2).mean(axis=1)), rtol=1e-4)


def test_the_one_class_svm_is_that_of_scikit_learn(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, features: Any
) -> None:
    detector = make(distance="ocsvm").fit(normal)
    chosen = fitted_on(normal, 0)
    scores = detector.score(torch.cat([tested, normal]))
    assert scores.maps is None
    both = rows_of(features(torch.cat([tested, normal])))
    for seen, asked, part in zip(rows_of(features(normal)), both, scores.parts.values(), strict=True):
        machine = OneClassSVM(kernel="rbf", gamma="scale").fit(seen[chosen])
        expected = -machine.decision_function(asked)
        np.testing.assert_allclose(part.image, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("reduction", ["pca", "npca"])
@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("distance", ["mahalanobis", "ocsvm"])
def test_reductions_are_those_of_the_authors(
    make: Make,
    normal: torch.Tensor,
    tested: torch.Tensor,
    features: Any,
    reduction: str,
    share: float,
    distance: str,
) -> None:
    level = 2
    detector = make(level, reduction=reduction, variance_threshold=share, distance=distance).fit(normal)
    seen, asked = (rows_of(features(images))[level] for images in (normal, tested))
    seen = seen[fitted_on(normal, 0)]
    pca = PCA().fit(seen)
    last = int((pca.explained_variance_ratio_.cumsum() > share).argmax())
    # The authors keep the component without variance that centring leaves; it points anywhere.
    kept = pca.components_[: last + 1] if reduction == "pca" else pca.components_[last - 1 : -1]
    seen, asked = (seen - pca.mean_) @ kept.T, (asked - pca.mean_) @ kept.T
    if distance == "ocsvm":
        expected = -OneClassSVM(kernel="rbf", gamma="scale").fit(seen).decision_function(asked)
    else:
        expected = np.sqrt(LedoitWolf().fit(seen).mahalanobis(asked))
    np.testing.assert_allclose(detector.score(tested).image, expected, rtol=1e-3, atol=1e-4)
    assert detector.models_[0].dimensions == len(kept)


def test_the_first_component_stays_even_when_it_explains_enough() -> None:
    directions = torch.eye(3, dtype=torch.float64)
    variances = torch.tensor([9.0, 0.5, 0.5], dtype=torch.float64)
    assert len(select_components(variances, directions, "pca", 0.8)) == 1
    assert len(select_components(variances, directions, "npca", 0.8)) == 3
    assert len(select_components(variances, directions, "pca", 1 - 1e-12)) == 3
    assert reduced(directions, variances, directions[:0]) is directions


# --- Statistics ---


def test_halves_merged_fit_the_same_model(make: Make, normal: torch.Tensor, tested: torch.Tensor) -> None:
    detector = make()
    first, second = detector.collect(normal[:10]), detector.collect(normal[10:])
    chosen = torch.cat([torch.from_numpy(folds_of(10, 0)), torch.from_numpy(folds_of(13, 0))]) != 0
    first.merge(second)
    merged = first.levels()
    oracle = [LevelStatistics(rows=False, positions=True) for _ in range(LEVELS)]
    for level, maps in zip(oracle, detector.network(normal), strict=True):
        level.add(maps, pool(maps), chosen.nonzero().flatten())
    for level, (seen, expected) in enumerate(zip(merged, oracle, strict=True)):
        assert seen.images == expected.images == int(chosen.sum())
        assert seen.pooled.shrinkage == pytest.approx(expected.pooled.shrinkage, rel=1e-10)
        difference = seen.pooled.covariance - expected.pooled.covariance
        assert difference.norm() <= 1e-10 * expected.pooled.covariance.norm()
        if level in detector.fit_statistics(first).map_models_:
            difference = seen.spread_about_position_means() - expected.spread_about_position_means()
            assert difference.norm() <= 1e-9 * expected.positions.covariance.norm()
    assert len(detector.calibration_) == 2 + 3
    assert np.isfinite(detector.score(tested).image).all()


def test_images_of_other_sizes_are_not_merged(make: Make, normal: torch.Tensor) -> None:
    detector = make()
    seen = detector.collect(normal)
    with pytest.raises(DataError, match="different sizes"):
        seen.merge(detector.collect(F.interpolate(normal, size=96)))


def test_the_folds_are_the_authors_and_cover_all_images() -> None:
    for number, (_, held_out) in enumerate(KFold(5, shuffle=True, random_state=0).split(np.zeros(23))):
        assert (folds_of(23, 0)[held_out] == number).all()
    assert sorted(folds_of(4, 0)) == [0, 1, 2, 3]
    assert list(folds_of(2, 0)) == [-1, -1]
    assert list(folds_of(2, None)) == [0, 1]


def test_memory_does_not_grow_with_the_images(make: Make, normal: torch.Tensor) -> None:
    detector = make()
    few, many = detector.collect(normal[:5]), detector.collect(normal.repeat(4, 1, 1, 1))
    for one, other in zip(few.levels(), many.levels(), strict=True):
        assert one.rows.numel() == other.rows.numel() == 0
        assert one.position_sum.shape == other.position_sum.shape


# --- Maps ---


@pytest.mark.parametrize("own", [True, False])
def test_maps_are_mahalanobis_distances_of_positions(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, features: Any, own: bool
) -> None:
    detector = make(2, 3, position_means=own, level_maps=True, fold=None).fit(normal)
    scores = detector.score(tested)
    expected = []
    for level in (2, 3):
        seen, asked = (on_grid(features(images)[level]).permute(0, 2, 3, 1) for images in (normal, tested))
        mean = seen.mean(dim=0) if own else seen.mean(dim=(0, 1, 2))
        centred = (seen - mean).flatten(0, 2)
        covariance = centred.T @ centred / len(centred)
        if own:
            covariance *= len(normal) / (len(normal) - 1)
        shrinkage = LedoitWolf().fit(seen.flatten(0, 2).numpy()).shrinkage_
        target = torch.eye(len(covariance)).double() * covariance.trace() / len(covariance)
        precision = torch.linalg.inv((1 - shrinkage) * covariance + shrinkage * target)
        away = asked - mean
        distances = ((away @ precision) * away).sum(dim=3).sqrt()
        expected.append(smooth_maps(distances, (64, 64)))
        part = scores.parts[f"level_{level}"]
        np.testing.assert_allclose(part.maps, expected[-1], rtol=1e-3)
    np.testing.assert_allclose(scores.maps, torch.stack(expected).mean(dim=0), rtol=1e-3)


def test_maps_are_of_strides_4_to_16_or_of_the_levels_asked_for(make: Make, normal: torch.Tensor) -> None:
    few = normal[:4]
    assert list(make().fit(few).map_models_) == [0, 1, 2, 3]
    assert list(make(4).fit(few).map_models_) == [4]  # nothing better was given
    assert list(make(map_levels=(2, 1)).fit(few).map_models_) == [1, 2]
    assert make(distance="ocsvm").fit(few).map_models_ == {}
    with pytest.raises(ParameterError, match="map_levels are 1: they must be among the levels, 2, 3"):
        make(2, 3, map_levels=(1,))


@pytest.mark.parametrize("options", [{"distance": "l2"}, {"distance": "sed"}, {"reduction": "npca"}])
def test_maps_of_every_distance_find_the_defect(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor, options: dict[str, str]
) -> None:
    share = {"variance_threshold": 0.9} if "reduction" in options else {}
    detector = make(1, 2, **options, **share).fit(normal_images)
    for anomaly_map in detector.score(defective_images).maps:
        y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        assert 20 <= y < 44
        assert 12 <= x < 36


def test_images_of_another_size_than_those_fitted_on_have_maps(make: Make, normal: torch.Tensor) -> None:
    fitted = make(2).fit(normal)
    detector = fitted.with_transform(fitted.transform.override(None, 96))
    maps = detector.score(F.interpolate(normal[:2], size=96, mode="bilinear")).maps
    assert maps.shape == (2, 96, 96)
    assert np.isfinite(maps).all()


# --- Thresholds ---


def test_the_held_out_fold_sets_the_threshold(make: Make, normal: torch.Tensor, features: Any) -> None:
    detector = make(2, fold=1, false_alarm_rate=0.3).fit(normal)
    rows, chosen = rows_of(features(normal))[2], fitted_on(normal, 1)
    held_out = np.setdiff1d(np.arange(len(normal)), chosen)
    expected = np.sqrt(LedoitWolf().fit(rows[chosen]).mahalanobis(rows[held_out]))
    np.testing.assert_allclose(np.sort(detector.calibration_), np.sort(expected), rtol=1e-4)
    assert detector.threshold_ == conformal_threshold(detector.calibration_, 0.3)


def test_on_all_images_each_fold_is_scored_by_the_others(
    make: Make, normal: torch.Tensor, features: Any
) -> None:
    detector = make(2, fold=None).fit(normal)
    rows = rows_of(features(normal))[2]
    expected = np.empty(len(normal))
    for seen, held_out in KFold(5, shuffle=True, random_state=0).split(rows):
        expected[held_out] = np.sqrt(LedoitWolf().fit(rows[seen]).mahalanobis(rows[held_out]))
    np.testing.assert_allclose(detector.calibration_, expected, rtol=1e-4)
    assert detector.calibration_of_.tolist() == list(range(len(normal)))


def test_sigma_thresholds_are_quantiles_of_the_chi_distribution(make: Make, normal: torch.Tensor) -> None:
    detector = make().fit(normal)
    thresholds = detector.sigma_thresholds()
    assert thresholds.shape == (LEVELS, 8)
    for model, row in zip(detector.models_, thresholds, strict=True):
        for sigma, threshold in zip(range(1, 6), row, strict=False):
            probability = scipy.stats.norm.cdf(sigma) - scipy.stats.norm.cdf(-sigma)
            assert threshold == pytest.approx(scipy.stats.chi(model.dimensions).ppf(probability), rel=1e-6)
        assert (np.diff(row) > 0).all()
    with pytest.raises(ParameterError, match="mahalanobis only"):
        make(distance="l2").fit(normal).sigma_thresholds()


# --- Augmentation ---


def test_augmented_fits_are_seeded_and_differ_from_plain_ones(make: Make, normal: torch.Tensor) -> None:
    options: dict[str, Any] = {"augment": ("flip", "noise"), "augment_passes": 2}
    plain = make(2).fit(normal)
    one, again, other = (make(2, seed=seed, **options).fit(normal) for seed in (0, 0, 1))
    assert torch.equal(one.models_[0].tensors()["mean"], again.models_[0].tensors()["mean"])
    assert not torch.equal(one.models_[0].tensors()["mean"], other.models_[0].tensors()["mean"])
    assert not torch.equal(one.models_[0].tensors()["mean"], plain.models_[0].tensors()["mean"])
    assert len(one.calibration_) == len(plain.calibration_)


# --- Numerics ---


def test_a_nan_pixel_is_named(make: Make, normal: torch.Tensor) -> None:
    images = normal.clone()
    images[3, 1, 5, 5] = torch.nan
    with pytest.raises(DataError, match="pixels that are NaN or infinite"):
        make().fit(images)
    fitted = make().fit(normal)
    with pytest.raises(DataError, match="pixels that are NaN or infinite"):
        fitted.score(images)


@pytest.mark.parametrize("distance", ["mahalanobis", "l2", "sed", "ocsvm"])
def test_one_image_or_the_same_image_again_is_refused(
    make: Make, normal: torch.Tensor, distance: str
) -> None:
    with pytest.raises(DataError, match="at least two images"):
        make(distance=distance).fit(normal[:1])
    with pytest.raises(DataError, match="all the same"):
        make(distance=distance).fit(normal[:1].repeat(6, 1, 1, 1))


@pytest.mark.parametrize("distance", ["mahalanobis", "l2", "sed", "ocsvm"])
@pytest.mark.parametrize("images", [2, 3, 6])
@pytest.mark.filterwarnings("ignore:no threshold")
def test_fewer_images_than_dimensions_have_finite_scores(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, distance: str, images: int
) -> None:
    for fold in (0, None):
        detector = make(distance=distance, fold=fold).fit(normal[:images])
        scores = detector.score(tested)
        assert np.isfinite(scores.image).all()
        assert scores.maps is None or np.isfinite(scores.maps).all()
        assert np.isfinite(detector.threshold_) == (images > 2)


def test_two_images_are_too_few_for_a_threshold(make: Make, normal: torch.Tensor) -> None:
    for fold in (0, None):
        with pytest.warns(UserWarning, match="no threshold: it takes at least three normal images"):
            assert np.isnan(make(fold=fold).fit(normal[:2]).threshold_)


def test_constant_features_have_finite_scores(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, features: Any
) -> None:
    for distance in ("mahalanobis", "l2", "sed", "ocsvm"):
        detector = make(1, distance=distance)
        seen = detector.collect(normal)
        (level,) = seen.levels()
        level.pooled._settle()
        level.pooled._scatter[:, :3] = level.pooled._scatter[:3] = 0
        scores = detector.fit_statistics(seen).score(tested).image
        assert np.isfinite(scores).all()
        assert (scores < 1e6).all()


# --- Files and errors ---


@pytest.mark.parametrize(
    "options",
    [{"distance": "ocsvm"}, {"distance": "sed"}, {"reduction": "npca", "variance_threshold": 0.9}],
)
def test_every_kind_of_model_is_saved_to_the_bit_without_pickle(
    make: Make, normal: torch.Tensor, tested: torch.Tensor, options: dict[str, Any], tmp_path: Path
) -> None:
    fitted = make(**options).fit(normal)
    fitted.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    one, other = fitted.score(tested), loaded.score(tested)
    assert np.array_equal(one.image, other.image)
    assert (one.maps is None) == (other.maps is None)
    assert {file.suffix for file in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


def test_a_model_of_other_weights_is_refused(make: Make, normal: torch.Tensor, tmp_path: Path) -> None:
    make(2).fit(normal).save(tmp_path)
    document = json.loads((tmp_path / "model.json").read_text())
    document["backbone"]["fingerprint"] = "0"
    del document["checksum"]
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match="fitted with other weights"):
        load_detector(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (5,)}, "levels are 5 of test_resnet: use 0 to 4"),
        ({"levels": (-1,)}, "levels is -1: it must not be negative"),
        ({"backbone": "no_such_net"}, "unknown backbone 'no_such_net'"),
        ({"distance": "l1"}, "distance is 'l1': use one of mahalanobis, l2, sed, ocsvm"),
        ({"reduction": "pca"}, "variance_threshold goes with reduction"),
        ({"variance_threshold": 0.9}, "variance_threshold goes with reduction"),
        ({"reduction": "npca", "variance_threshold": 1.0}, "variance_threshold is 1.0"),
        ({"distance": "ocsvm", "map_levels": (3, 4)}, "distance ocsvm makes no maps"),
        ({"distance": "ocsvm", "level_maps": True}, "distance ocsvm makes no maps"),
        ({"fold": 5}, "fold is 5: use one of 0, 1, 2, 3, 4"),
        ({"augment": ("spin",)}, "augment is 'spin': use one of flip"),
        ({"augment": ("flip",), "augment_passes": 0}, "augment_passes is 0: it must be at least 1"),
        ({"false_alarm_rate": 0.0}, "false_alarm_rate is 0.0"),
    ],
)
def test_values_without_sense_are_refused_before_any_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Gaussian(**{"backbone": "test_resnet", "device": "cpu", **options})


# --- Real images ---


@pytest.mark.usefixtures("all_cores")
@pytest.mark.parametrize(
    ("fold", "by_level"),
    [
        (0, [0.818, 0.720, 0.956, 0.962, 0.994, 0.999, 1.000, 1.000]),
        (None, [0.821, 0.725, 0.960, 0.962, 0.994, 0.999, 1.000, 1.000]),
    ],
)
def test_aurocs_on_bottle(shared_data: Path, fold: int | None, by_level: list[float]) -> None:
    bottle = read_category(shared_data / "mvtec_ad", "bottle")
    detector = Gaussian(levels=range(8), fold=fold, device="cpu", precision="fp32")
    detector.fit(bottle.train_images(detector.transform))
    scores = detector.score(bottle.test_images(detector.transform))
    found = [auroc(part.image, bottle.labels) for part in scores.parts.values()]
    np.testing.assert_allclose(found, by_level, atol=1.5e-3)
    assert auroc(scores.image, bottle.labels) == pytest.approx(0.998, abs=1.5e-3)
    assert (scores.image >= detector.threshold_)[bottle.labels].mean() > 0.95
    pixels = pixel_metrics(scores.maps, bottle.masks(detector.transform))
    assert pixels.full_pixel_auroc > 0.985
    assert pixels.aupro > 0.95


@pytest.mark.parametrize("images", [2, 3])
@pytest.mark.parametrize("own_means", [True, False])
def test_a_model_of_hardly_any_images_is_read_again(
    tiny_weights: str, normal_images: torch.Tensor, tmp_path: Path, images: int, own_means: bool
) -> None:
    model = Gaussian(
        "test_resnet",
        weights=tiny_weights,
        fold=None,
        position_means=own_means,
        transform=Transform(64, square=True),
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(normal_images[:images]).save(tmp_path / "m")
    again = load_detector(tmp_path / "m", device="cpu").score(normal_images)
    assert np.array_equal(again.image, model.score(normal_images).image)
