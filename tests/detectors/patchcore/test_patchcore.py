"""PatchCore against its definition in plain loops, and against the official code's numbers on real images."""

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from anomaly_lib import PatchCore, Transform, load_detector, read_category
from anomaly_lib.datasets import ImageFiles
from anomaly_lib.detectors import TensorImages, persistence
from anomaly_lib.detectors.patchcore import calibration as module
from anomaly_lib.errors import DataError, ModelFileError, ParameterError, WeightsError
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.kernels.patches import embed_patches, smooth_maps
from anomaly_lib.networks.backbone import Backbone

SMALL = Transform(resize=72, crop=64)
DIM = 96

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., PatchCore]


@pytest.fixture(scope="module")
def make(tiny_weights: str) -> Make:
    """Return a function that makes a new detector."""
    defaults: dict[str, Any] = {
        **{"backbone": "test_resnet", "weights": tiny_weights, "target_embed_dimension": DIM, "coreset": 0.2},
        **{"transform": SMALL, "device": "cpu", "precision": "fp32"},
    }
    return lambda **options: PatchCore(**{**defaults, **options})


@pytest.fixture(scope="module")
def embed(tiny_weights: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from images (n, 3, h, w) to patch features (n, h, w, d)."""
    backbone = Backbone("test_resnet", weights=tiny_weights)
    return lambda images: embed_patches(backbone(images), 3, 1024, DIM).clone()


@pytest.fixture(scope="module")
def normal_features(embed: Callable[..., torch.Tensor], normal_images: torch.Tensor) -> torch.Tensor:
    return embed(normal_images)


def distances(queries: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Return all squared distances in float64."""
    return (queries.double()[:, None] - bank.double()[None]).square().sum(dim=2)


def images_of_rows(model: PatchCore, features: torch.Tensor) -> torch.Tensor:
    """Return the training image of each row of the memory bank; every row is a training patch, none twice."""
    flat = features.flatten(0, 2)
    table = distances(model.memory_bank_.rows, flat)
    assert float(table.min(dim=1).values.max()) < 1e-8
    patch = table.argmin(dim=1)
    assert len(patch.unique()) == len(patch)
    return patch // features.shape[1:3].numel()


def equation_7(patch: torch.Tensor, nearest_row: torch.Tensor, bank: torch.Tensor, b: int) -> float:
    """Return 1 - exp d(patch, m*) / sum of exp d(patch, m) over the b rows nearest to m*, itself included."""
    neighbours = distances(nearest_row[None], bank)[0].argsort()[:b]
    to_neighbours = distances(patch[None], bank[neighbours])[0].sqrt()
    to_nearest = distances(patch[None], nearest_row[None])[0, 0].sqrt()
    return float(1 - to_nearest.exp() / to_neighbours.exp().sum())


def slow_image_score(patches: torch.Tensor, bank: torch.Tensor, k: int = 1, b: int = 0) -> float:
    """Score one image's patches (p, d) by the definition."""
    ordered, rows = distances(patches, bank).sort(dim=1)
    means = ordered[:, :k].mean(dim=1)
    worst = int(means.argmax())
    score = float(means[worst])
    return score * equation_7(patches[worst], bank[rows[worst, 0]], bank, b) if b else score


def slow_replacements(model: PatchCore, features: torch.Tensor, image: int) -> torch.Tensor:
    """Return the rows (r, d) that take the place of an image's rows in a greedy coreset, one by one."""
    bank = model.memory_bank_
    patches = features.flatten(0, 2)
    image_of = images_of_rows(model, features)
    table = distances(patches @ bank.projection, bank.projected)
    own = image_of[table.argmin(dim=1)] == image
    own &= torch.arange(len(patches)) // features.shape[1:3].numel() != image
    orphans = own.nonzero().flatten()
    apart = table[orphans][:, image_of != image].amin(dim=1)
    chosen: list[int] = []
    for _ in range(min(int((image_of == image).sum()), len(orphans))):
        chosen.append(int(apart.argmax()))
        new = patches[orphans[chosen[-1:]]] @ bank.projection
        apart = apart.minimum(distances(patches[orphans] @ bank.projection, new)[:, 0])
        apart[chosen] = -1
    return patches[orphans[chosen]]


def slow_calibration(model: PatchCore, features: torch.Tensor, image: int, k: int = 1, b: int = 0) -> float:
    """Return the score of a training image as if the bank had been filled without it."""
    others = model.memory_bank_.rows[images_of_rows(model, features) != image]
    bank = others
    if model.sampler in ("greedy_coreset", "approx_greedy_coreset"):
        bank = torch.cat([others, slow_replacements(model, features, image)])
    patches = features[image].flatten(0, 1)
    means = distances(patches, bank).sort(dim=1).values[:, :k].mean(dim=1)
    worst = patches[int(means.argmax())]
    nearest = others[int(distances(worst[None], others).argmin())]
    return float(means.max()) * (equation_7(worst, nearest, others, b) if b else 1)


# --- Where rows are from ---


@pytest.mark.parametrize("patchsize", [3, 2])
def test_the_nearest_patches_are_found_where_they_lie(
    make: Make, normal_images: torch.Tensor, patchsize: int
) -> None:
    model = make(sampler="identity", patchsize=patchsize).fit(normal_images)
    features = model.embed(model.features_of_batch(normal_images).maps)
    height, width = features.shape[1:3]
    stride = 64 / height
    for image, row, column in ((0, 0, 0), (3, 1, width - 1), (5, height - 1, 2)):
        middle = (int((row + 0.5) * stride), int((column + 0.5) * stride))
        own, other = model.nearest_patches(normal_images[image], *middle, k=2)
        assert own.image == image
        assert own.distance == pytest.approx(0, abs=1e-4)
        assert own.side == round(patchsize * stride)
        assert own.row + own.side / 2 == pytest.approx((row + 0.5) * stride, abs=1)
        assert own.column + own.side / 2 == pytest.approx((column + 0.5) * stride, abs=1)
        table = distances(features[image, row, column][None], features.flatten(0, 2))[0]
        table[(image * height + row) * width + column] = torch.inf
        assert other.distance == pytest.approx(float(table.min()), rel=1e-4)


def test_a_bank_from_elsewhere_does_not_say_where_its_rows_are_from(
    make: Make, normal_images: torch.Tensor
) -> None:
    model = make().fit(normal_images)
    bank = model.memory_bank_
    model.of_bank(bank.of_rows(bank.rows, torch.Generator().manual_seed(0)))
    with pytest.raises(DataError, match="does not say where"):
        model.nearest_patches(normal_images[0], 0, 0)


# --- Scores ---


@pytest.mark.parametrize(("k", "b"), [(1, 0), (3, 0), (1, 2), (1, 9), (2, 3)])
def test_an_image_scores_its_worst_patch(
    make: Make,
    normal_images: torch.Tensor,
    defective_images: torch.Tensor,
    embed: Callable[..., torch.Tensor],
    k: int,
    b: int,
) -> None:
    model = make(num_nn=k, reweight=b).fit(normal_images)
    wanted = [
        slow_image_score(patches.flatten(0, 1), model.memory_bank_.rows, k, b)
        for patches in embed(defective_images)
    ]
    assert model.score(defective_images).image == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("k", [1, 3])
def test_a_map_is_the_smoothed_patch_scores(
    make: Make,
    normal_images: torch.Tensor,
    defective_images: torch.Tensor,
    embed: Callable[..., torch.Tensor],
    k: int,
) -> None:
    model = make(num_nn=k, reweight=2).fit(normal_images)
    features = embed(defective_images)
    table = distances(features.flatten(0, 2), model.memory_bank_.rows).sort(dim=1).values[:, :k].mean(dim=1)
    wanted = smooth_maps(table.float().reshape(features.shape[:3]), (64, 64)).numpy()
    maps = model.score(defective_images).maps
    assert maps is not None
    assert np.allclose(maps, wanted, rtol=1e-3, atol=1e-4 * wanted.max())


def test_images_of_the_memory_bank_score_zero(make: Make, normal_images: torch.Tensor) -> None:
    scores = make(sampler="identity").fit(normal_images).score(normal_images)
    assert scores.image.max() < 1e-6


# --- The threshold ---


@pytest.mark.parametrize(("k", "b", "rate"), [(1, 0, 0.01), (1, 0, 0.3), (2, 0, 0.2), (1, 4, 0.2)])
@pytest.mark.parametrize("sampler", ["identity", "approx_greedy_coreset"])
def test_the_threshold_is_conformal_over_scores_that_leave_one_image_out(
    make: Make,
    normal_images: torch.Tensor,
    normal_features: torch.Tensor,
    sampler: str,
    k: int,
    b: int,
    rate: float,
) -> None:
    model = make(sampler=sampler, num_nn=k, reweight=b, false_alarm_rate=rate).fit(normal_images)
    wanted = [slow_calibration(model, normal_features, i, k, b) for i in range(len(normal_features))]
    assert model.calibration_ == pytest.approx(wanted, rel=1e-4)
    assert model.threshold_ == pytest.approx(conformal_threshold(wanted, rate), rel=1e-4)


def test_one_image_gives_a_warning_and_no_threshold(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="at least two normal images"):
        model = make().fit(normal_images[:1])
    assert math.isnan(model.threshold_)
    model.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert math.isnan(loaded.threshold_)
    assert np.array_equal(loaded.score(defective_images).image, model.score(defective_images).image)


def test_equal_training_images_give_a_threshold_just_above_zero(
    make: Make, normal_images: torch.Tensor
) -> None:
    with pytest.warns(UserWarning, match="all the same"):
        model = make(sampler="identity").fit(normal_images[:1].repeat(4, 1, 1, 1))
    assert 0 < model.threshold_ < 1e-6


def test_too_few_images_for_the_rate_are_warned_of(make: Make, normal_images: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match="6 normal images are too few"):
        make(false_alarm_rate=0.01).fit(normal_images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(false_alarm_rate=0.2).fit(normal_images)


# --- The memory bank ---

PATCHES = 6 * 8 * 8


@pytest.mark.parametrize("sampler", ["approx_greedy_coreset", "greedy_coreset", "random"])
@pytest.mark.parametrize(
    ("coreset", "rows"), [(0.1, 38), (1.0, PATCHES), (25, 25), (0.0001, 1), (10_000, PATCHES)]
)
def test_the_bank_holds_the_share_or_the_number_asked_for(
    make: Make,
    normal_images: torch.Tensor,
    normal_features: torch.Tensor,
    sampler: str,
    coreset: float,
    rows: int,
) -> None:
    model = make(sampler=sampler, coreset=coreset).fit(normal_images)
    assert model.memory_bank_.rows.shape == (rows, DIM)
    assert model.memory_bank_.rows.dtype == torch.float32
    images_of_rows(model, normal_features)  # training patches, none twice


def test_identity_keeps_every_patch_in_order(
    make: Make, normal_images: torch.Tensor, normal_features: torch.Tensor
) -> None:
    model = make(sampler="identity", coreset=0.1).fit(normal_images)
    assert torch.allclose(model.memory_bank_.rows, normal_features.flatten(0, 2), atol=1e-6)


def test_a_coreset_covers_better_than_chance(
    make: Make, normal_images: torch.Tensor, normal_features: torch.Tensor
) -> None:
    def radius(sampler: str) -> float:
        bank = make(sampler=sampler, coreset=40).fit(normal_images).memory_bank_.rows
        return float(distances(normal_features.flatten(0, 2), bank).amin(dim=1).max())

    chance = radius("random")
    assert radius("greedy_coreset") < 0.9 * chance
    assert radius("approx_greedy_coreset") < 0.9 * chance


def test_another_seed_makes_another_bank(make: Make, normal_images: torch.Tensor) -> None:
    for sampler in ("random", "approx_greedy_coreset", "greedy_coreset"):
        one, other = (make(sampler=sampler, coreset=30, seed=seed).fit(normal_images) for seed in (0, 1))
        assert not torch.equal(one.memory_bank_.rows, other.memory_bank_.rows)


def test_dimensions_up_to_the_projections_need_none(make: Make, normal_images: torch.Tensor) -> None:
    for dim in (128, 64, 1):
        model = make(target_embed_dimension=dim, coreset=20).fit(normal_images)
        assert model.memory_bank_.rows.shape == (20, dim)


@pytest.mark.parametrize("patchsize", [1, 2, 5])
def test_every_patch_size_gives_maps_of_the_same_size(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor, patchsize: int
) -> None:
    scores = make(patchsize=patchsize, coreset=30).fit(normal_images).score(defective_images)
    assert scores.maps is not None
    assert scores.maps.shape == (3, 64, 64)


def test_a_typical_distance_is_the_median_one_in_the_bank(make: Make, normal_images: torch.Tensor) -> None:
    model = make(coreset=50).fit(normal_images)
    table = distances(model.memory_bank_.rows, model.memory_bank_.rows).fill_diagonal_(math.inf)
    assert model.memory_bank_.typical_distance() == pytest.approx(float(table.amin(dim=1).median()), rel=1e-4)


# --- Many images: the bank is thinned out in portions, and the threshold is from some of the images ---


@pytest.mark.parametrize("sampler", ["approx_greedy_coreset", "greedy_coreset", "random", "identity"])
@pytest.mark.parametrize(
    ("coreset", "rows"), [(0.1, 36), (50, 50), pytest.param(1.0, PATCHES, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_bank_filled_in_portions_is_of_training_patches_of_every_portion(
    make: Make,
    normal_images: torch.Tensor,
    normal_features: torch.Tensor,
    sampler: str,
    coreset: float,
    rows: int,
    batch_size: int,
) -> None:
    model = make(sampler=sampler, coreset=coreset, buffer=2 * 64)
    model.fit(TensorImages(normal_images, batch_size))
    if sampler == "identity":
        rows = PATCHES
    # A share is rounded down in each portion: of 2 + 2 + 2 or of 4 + 2 images.
    expected = {36: 37 if batch_size == 4 else 36}.get(rows, rows)
    assert model.memory_bank_.rows.shape == (expected, DIM)
    image_of = images_of_rows(model, normal_features)
    assert {int(image) // 4 for image in image_of} == {0, 1}
    wanted = [slow_calibration(model, normal_features, i) for i in range(len(normal_features))]
    assert model.calibration_ == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
@pytest.mark.parametrize(("most", "some"), [(6, [0, 1, 2, 3, 4, 5]), (4, [0, 2, 4]), (2, [0, 3]), (1, [0])])
def test_the_threshold_of_many_images_is_from_some_evenly_spread(
    make: Make,
    normal_images: torch.Tensor,
    normal_features: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    some: list[int],
    batch_size: int,
) -> None:
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", most)
    model = make(sampler="identity").fit(TensorImages(normal_images, batch_size))
    image_of = images_of_rows(model, normal_features)
    wanted = [
        slow_image_score(normal_features[i].flatten(0, 1), model.memory_bank_.rows[image_of != i])
        for i in some
    ]
    assert model.calibration_ == pytest.approx(wanted, rel=1e-4)


# --- Parameters ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampler", "best"),
        ("coreset", 0),
        ("coreset", -0.1),
        ("coreset", 1.5),
        ("coreset", math.nan),
        ("coreset", math.inf),
        ("patchsize", 0),
        ("pretrain_embed_dimension", 0),
        ("target_embed_dimension", -1),
        ("num_nn", 0),
        ("reweight", 1),
        ("reweight", -2),
        ("false_alarm_rate", 0),
        ("false_alarm_rate", 1),
        ("false_alarm_rate", math.nan),
        ("precision", "fp8"),
        ("device", "gpu"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(make: Make, name: str, value: object) -> None:
    with pytest.raises(ParameterError) as error:
        make(**{name: value})
    assert name in str(error.value)
    assert str(value) in str(error.value)


def test_unknown_backbones_and_layers_are_named_at_fit(make: Make, normal_images: torch.Tensor) -> None:
    with pytest.raises(ParameterError, match="resnet1x"):
        make(backbone="resnet1x").fit(normal_images)
    with pytest.raises(ParameterError, match=r"blocks\.99"):
        make(layers=["blocks.99"]).fit(normal_images)


def test_more_neighbours_than_rows_are_refused(make: Make, normal_images: torch.Tensor) -> None:
    with pytest.raises(ParameterError, match=r"9 neighbours .* 8 rows"):
        make(num_nn=9, coreset=8).fit(normal_images)


# --- On disk ---


@pytest.fixture
def saved(make: Make, normal_images: torch.Tensor, tiny_weights: str, tmp_path: Path) -> Path:
    """Return the folder of a model whose weights are a file beside it."""
    shutil.copy(tiny_weights, tmp_path / "tiny.pth")
    make(weights=str(tmp_path / "tiny.pth"), coreset=20).fit(normal_images).save(tmp_path / "model")
    return tmp_path / "model"


def said_of(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelFileError) as error:
        load_detector(folder, device="cpu", **options)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_all_parameters_come_back(make: Make, normal_images: torch.Tensor, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "pretrain_embed_dimension": 200,
        "target_embed_dimension": 50,
        "patchsize": 2,
        "sampler": "greedy_coreset",
        "coreset": 0.15,
        "num_nn": 2,
        "reweight": 3,
        "false_alarm_rate": 0.2,
        "official_batch_norm": True,
        "seed": 7,
        "precision": "fp32",
        "layers": ["layer1", "layer3"],
    }
    model = make(**options).fit(normal_images)
    model.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert {name: getattr(loaded, name) for name in options} == options | {"layers": ("layer1", "layer3")}
    assert torch.equal(loaded.memory_bank_.rows, model.memory_bank_.rows)


def test_the_weights_may_have_moved(saved: Path, defective_images: torch.Tensor, tmp_path: Path) -> None:
    before = load_detector(saved, device="cpu").score(defective_images)
    (tmp_path / "tiny.pth").rename(tmp_path / "elsewhere.pth")
    with pytest.raises(WeightsError, match=r"tiny\.pth"):
        load_detector(saved, device="cpu")
    moved = load_detector(saved, device="cpu", weights=str(tmp_path / "elsewhere.pth"))
    assert np.array_equal(moved.score(defective_images).image, before.image)


def test_other_weights_than_at_fit_are_refused(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    said = said_of(saved, weights=str(tmp_path / "other.pth"))
    assert "other weights" in said
    assert "tiny.pth" in said
    assert "`weights`" in said


def test_weights_may_be_given_as_a_path(
    make: Make, normal_images: torch.Tensor, tiny_weights: str, tmp_path: Path
) -> None:
    make(weights=Path(tiny_weights), coreset=20).fit(normal_images).save(tmp_path / "model")
    assert load_detector(tmp_path / "model", device="cpu").threshold_ > 0


def test_weights_in_a_relative_file_are_found_from_elsewhere(
    make: Make,
    normal_images: torch.Tensor,
    tiny_weights: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(tiny_weights, tmp_path)
    monkeypatch.chdir(tmp_path)
    make(weights="tiny.pth", coreset=20).fit(normal_images).save(tmp_path / "model")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert load_detector(tmp_path / "model", device="cpu").threshold_ > 0


def change(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "model.json").read_text())
    kept = {
        name: value for name, value in {**document, "checksum": ..., **changes}.items() if value is not ...
    }
    (folder / "model.json").write_text(json.dumps(kept))


def test_damaged_models_are_named(saved: Path) -> None:
    change(saved, threshold=...)
    assert "threshold" in said_of(saved)
    change(saved, threshold=1.0, parameters={"no_such": 1})
    assert "damaged" in said_of(saved)
    change(saved, parameters=...)
    assert "damaged" in said_of(saved)
    change(saved, method="padim")
    assert "unknown method 'padim'" in said_of(saved)


def test_a_model_without_its_memory_bank_is_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert "damaged" in said_of(saved)


def test_an_interrupted_save_leaves_no_half_model(
    make: Make, saved: Path, normal_images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    model = make(coreset=20).fit(normal_images)
    before = (saved / "model.json").read_bytes()
    monkeypatch.setattr(persistence, "write_model", interrupted)
    for folder in (saved, saved.parent / "new"):
        with pytest.raises(KeyboardInterrupt):
            model.save(folder)
    assert (saved / "model.json").read_bytes() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model", "tiny.pth"]


# --- The official code's numbers on real images ---


@pytest.fixture(scope="module")
def official(shared_data: Path) -> PatchCore:
    model = load_detector(shared_data / "official_patchcore_bottle", device="cpu")
    assert isinstance(model, PatchCore)
    return model


def test_the_official_model_is_read_with_its_parameters(official: PatchCore) -> None:
    assert official.backbone == "tf_efficientnet_lite0"
    assert official.layers == ("blocks.2", "blocks.4")
    assert official.transform == Transform(256, 224)
    assert official.precision == "fp32"
    assert official.memory_bank_.rows.shape == (1638, 1024)
    assert math.isnan(official.threshold_)


@pytest.mark.usefixtures("all_cores")
def test_the_official_models_scores_are_the_official_codes(official: PatchCore, shared_data: Path) -> None:
    category = read_category(shared_data / "mvtec_ad", "bottle")
    with np.load(shared_data / "official_patchcore_bottle" / "expected_scores.npz") as expected:
        wanted = {name: expected[name] for name in expected.files}
    names = ["/".join(image.path.parts[-4:]) for image in category.test]
    assert names == wanted["fnames"].tolist()
    some = list(range(0, len(category.test), 8))  # 0 and 40 among them
    scores = official.score(ImageFiles([category.test[i].path for i in some], official.transform))
    assert np.allclose(scores.image, wanted["image_scores"][some], rtol=1e-3)
    assert scores.maps is not None
    for i in (0, 40):
        ours, theirs = scores.maps[some.index(i)], wanted[f"score_map_{i}"]
        assert np.abs(ours - theirs).max() <= 1e-3 * theirs.max()


def test_an_official_model_saved_as_ours_scores_the_same(
    official: PatchCore, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "mvtec_ad" / "bottle" / "test" / "broken_large").iterdir())[:2]
    images = ImageFiles(files, official.transform)
    official.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.score(images).image, official.score(images).image)
