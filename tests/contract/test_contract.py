"""What every detector keeps to, whatever its method. A new one is a line in `MAKERS`."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_lib import Detector, Ensemble, Gaussian, PatchCore, PatchSVDD, Scores, Transform, load_detector
from anomaly_lib.detectors import NotFittedError
from anomaly_lib.errors import AnomalyError, DataError, ModelFileError, ParameterError

SMALL = Transform(resize=72, crop=64)


def patch_core(weights: str, **options: Any) -> Detector:
    return PatchCore("test_resnet", weights=weights, coreset=0.3, transform=SMALL, **options)


def ensemble(weights: str, **options: Any) -> Detector:
    options = {"backbone": "test_resnet", "weights": weights, "transform": SMALL, **options}
    members = (
        PatchCore(layers=["layer2"], coreset=0.2, **options),
        PatchCore(layers=["layer3"], sampler="random", coreset=50, **options),
    )
    return Ensemble(members)


def gaussian(weights: str, **options: Any) -> Detector:
    return Gaussian("test_resnet", weights=weights, transform=SMALL, **options)


def gaussian_all(weights: str, **options: Any) -> Detector:
    return Gaussian(
        "test_resnet", weights=weights, fold=None, position_means=False, transform=SMALL, **options
    )


def gaussian_sed(weights: str, **options: Any) -> Detector:
    options = {"distance": "sed", "level_maps": True, **options}
    return Gaussian("test_resnet", (2, 3), weights=weights, transform=SMALL, **options)


def gaussian_svm(weights: str, **options: Any) -> Detector:
    return Gaussian("test_resnet", weights=weights, distance="ocsvm", transform=SMALL, **options)


def patch_svdd(weights: str, **options: Any) -> Detector:
    return PatchSVDD(epochs=1, repeat=1, batch_size=4, transform=SMALL, **options)  # two steps


# Each takes the file with the weights of test_resnet, seed, device and precision.
MAKERS: dict[str, Callable[..., Detector]] = {
    "patch_core": patch_core,
    "ensemble": ensemble,
    "gaussian": gaussian,
    "gaussian on all images": gaussian_all,
    "gaussian, SED": gaussian_sed,
    "gaussian, one-class SVM": gaussian_svm,
    "patch_svdd": patch_svdd,
}

# Few images promise little: the detectors say so, which is not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., Detector]


class Batches:
    """A source of images that counts how often it is iterated over."""

    def __init__(self, images: torch.Tensor, batch_size: int) -> None:
        self.images, self.batch_size, self.iterations = images, batch_size, 0

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        self.iterations += 1
        yield from self.images.split(self.batch_size)


@pytest.fixture(scope="module", params=MAKERS)
def make(request: pytest.FixtureRequest, tiny_weights: str) -> Make:
    """Return a function that makes a new detector."""
    maker = MAKERS[request.param]
    return lambda **options: maker(tiny_weights, **{"device": "cpu", "precision": "fp32", **options})


@pytest.fixture(scope="module")
def fitted(make: Make, normal_images: torch.Tensor) -> Detector:
    """Return a fitted detector, not to be changed."""
    return make().fit(normal_images)


def assert_equal(one: Scores, other: Scores) -> None:
    assert np.array_equal(one.image, other.image)
    assert (one.maps is None) == (other.maps is None)
    if one.maps is not None and other.maps is not None:
        assert np.array_equal(one.maps, other.maps)


def assert_close(one: Scores, other: Scores, relative: float) -> None:
    """Compare with a tolerance relative to the largest score."""
    assert np.abs(one.image - other.image).max() <= relative * np.abs(other.image).max()
    if one.maps is not None and other.maps is not None:
        assert np.abs(one.maps - other.maps).max() <= relative * np.abs(other.maps).max()


# --- Fitting and scoring ---


def test_fit_returns_the_detector(make: Make, normal_images: torch.Tensor) -> None:
    detector = make()
    assert detector.fit(normal_images[:2]) is detector


def test_scores_are_float32_with_a_map_at_the_size_of_the_input(
    fitted: Detector, defective_images: torch.Tensor
) -> None:
    scores = fitted.score(defective_images)
    assert scores.image.shape == (3,)
    assert scores.image.dtype == np.float32
    assert np.isfinite(scores.image).all()
    if scores.maps is not None:
        assert scores.maps.shape == (3, 64, 64)
        assert scores.maps.dtype == np.float32
        assert np.isfinite(scores.maps).all()


def test_defects_score_higher_than_the_threshold_and_lie_where_they_are(
    fitted: Detector, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    good, bad = fitted.score(normal_images), fitted.score(defective_images)
    assert bad.image.min() > good.image.max()
    assert bad.image.min() >= fitted.threshold_
    if bad.maps is not None:
        for anomaly_map in bad.maps:
            y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
            assert 20 <= y < 44
            assert 12 <= x < 36


def test_the_threshold_is_known_after_fit_and_unmoved_by_scoring(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    detector = make().fit(normal_images)
    threshold = detector.threshold_
    assert isinstance(threshold, float)
    assert np.isfinite(threshold)
    assert (detector.score(normal_images).image < threshold).all()
    detector.score(defective_images)
    assert detector.threshold_ == threshold


def test_no_images_have_no_scores(fitted: Detector) -> None:
    scores = fitted.score(torch.zeros(0, 3, 64, 64))
    assert scores.image.shape == (0,)
    assert scores.image.dtype == np.float32
    assert scores.maps is None or scores.maps.shape == (0, 64, 64)


def test_the_same_seed_gives_the_same_scores_to_the_bit(
    make: Make, fitted: Detector, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    torch.manual_seed(12345)
    np.random.seed(54321)  # noqa: NPY002
    again = make().fit(normal_images)
    assert again.threshold_ == fitted.threshold_
    assert_equal(again.score(defective_images), fitted.score(defective_images))


def test_scoring_twice_gives_the_same(fitted: Detector, defective_images: torch.Tensor) -> None:
    assert_equal(fitted.score(defective_images), fitted.score(defective_images))


def test_a_second_fit_forgets_the_first(
    make: Make, fitted: Detector, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    refitted = make().fit(defective_images).fit(normal_images)
    assert refitted.threshold_ == fitted.threshold_
    assert_equal(refitted.score(defective_images), fitted.score(defective_images))


def test_the_images_are_left_as_they_are(make: Make, normal_images: torch.Tensor) -> None:
    images = normal_images.clone()
    make().fit(images).score(images)
    assert torch.equal(images, normal_images)


def test_a_source_is_as_good_as_a_tensor(
    make: Make, fitted: Detector, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    source = Batches(normal_images, 16)
    detector = make().fit(source)
    assert source.iterations >= 1
    assert detector.threshold_ == fitted.threshold_
    scores = detector.score(Batches(defective_images, 16))
    assert_equal(scores, fitted.score(defective_images))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_score_does_not_depend_on_the_batch(
    fitted: Detector, normal_images: torch.Tensor, defective_images: torch.Tensor, batch_size: int
) -> None:
    images = torch.cat([defective_images, normal_images])
    together = fitted.score(images)
    assert_close(fitted.score(Batches(images, batch_size)), together, 1e-5)
    first = fitted.score(images[:1])
    first_map = None if together.maps is None else together.maps[:1]
    assert_close(first, Scores(together.image[:1], first_map), 1e-5)


def test_a_score_in_bf16_hardly_depends_on_the_batch(
    make: Make, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    fast = make(precision="bf16").fit(normal_images)
    assert_close(fast.score(Batches(defective_images, 1)), fast.score(defective_images), 1e-2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_any_float_type_is_taken(
    fitted: Detector, defective_images: torch.Tensor, dtype: torch.dtype
) -> None:
    images = defective_images.to(dtype)
    assert_equal(fitted.score(images), fitted.score(images.float()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize(("precision", "relative"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_a_model_scores_the_same_on_another_device(
    make: Make,
    normal_images: torch.Tensor,
    defective_images: torch.Tensor,
    tmp_path: Path,
    precision: str,
    relative: float,
) -> None:
    detector = make(device="cuda", precision=precision).fit(normal_images)
    detector.save(tmp_path / "model")
    on_gpu = detector.score(defective_images)
    assert_close(load_detector(tmp_path / "model", device="cpu").score(defective_images), on_gpu, relative)


# --- Saving and loading ---


def test_a_loaded_model_scores_the_same_to_the_bit(
    fitted: Detector, defective_images: torch.Tensor, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "deep" / "model")
    loaded = load_detector(str(tmp_path / "deep" / "model"), device="cpu")
    assert type(loaded) is type(fitted)
    assert loaded.threshold_ == fitted.threshold_
    assert loaded.transform == fitted.transform
    assert_equal(loaded.score(defective_images), fitted.score(defective_images))


def test_a_loaded_model_can_be_saved_again(
    fitted: Detector, defective_images: torch.Tensor, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "one")
    load_detector(tmp_path / "one", device="cpu").save(tmp_path / "two")
    again = load_detector(tmp_path / "two", device="cpu")
    assert again.threshold_ == fitted.threshold_
    assert_equal(again.score(defective_images), fitted.score(defective_images))


def test_a_saved_model_is_json_and_safetensors_and_names_its_method(fitted: Detector, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert files == {"model.json", "model.safetensors"}
    document = json.loads((tmp_path / "model" / "model.json").read_text())
    assert document["method"] == fitted.method
    assert document["format"] >= 1
    assert document["versions"]["torch"]


def test_the_transform_of_the_fit_is_saved(make: Make, normal_images: torch.Tensor, tmp_path: Path) -> None:
    detector = make().with_transform(SMALL.override(100, 48))
    detector.fit(normal_images).save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert (loaded.transform.resize, loaded.transform.size) == (100, 48)


# --- Errors ---


def test_an_unfitted_detector_says_so(make: Make, normal_images: torch.Tensor, tmp_path: Path) -> None:
    for use in (lambda: make().score(normal_images), lambda: make().save(tmp_path / "model")):
        with pytest.raises(NotFittedError, match=r"call fit\(images\) first"):
            use()
    assert issubclass(NotFittedError, AnomalyError)
    assert list(tmp_path.iterdir()) == []


def test_a_fit_on_no_images_says_what_it_needs(make: Make) -> None:
    with pytest.raises(DataError, match="no images"):
        make().fit(torch.zeros(0, 3, 64, 64))


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 4, 64, 64), (3, 64, 64), (2, 64, 64, 3)])
def test_images_of_another_shape_are_refused_with_it(
    make: Make, fitted: Detector, shape: tuple[int, ...]
) -> None:
    for use in (make().fit, fitted.score):
        with pytest.raises(DataError, match=r"\(n, 3, height, width\)") as error:
            use(torch.zeros(shape))
        # A tensor of other than four dimensions may be named without what was split off as the batch.
        assert str(shape[1:]).strip("()") in str(error.value)


def test_integer_images_are_refused_with_the_remedy(make: Make, fitted: Detector) -> None:
    for use in (make().fit, fitted.score):
        with pytest.raises(DataError, match="divide 8-bit images by 255"):
            use(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize("wrong", [{"transform": []}, {"transform": {"resize": None}}, None])
def test_a_damaged_description_is_said_to_be_damaged(
    fitted: Detector, tmp_path: Path, wrong: dict[str, Any] | None
) -> None:
    fitted.save(tmp_path / "model")
    rewrite_description(
        tmp_path / "model", lambda saved: {"method": fitted.method} if wrong is None else saved | wrong
    )
    with pytest.raises(ModelFileError, match="is damaged"):
        load_detector(tmp_path / "model", device="cpu")


def rewrite_description(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file = folder / "model.json"
    description = json.loads(file.read_text())
    del description["checksum"]
    file.write_text(json.dumps(change(description)))


@pytest.fixture(scope="module")
def small_model(normal_images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a saved Patch SVDD, whose description may be rewritten."""
    model = PatchSVDD(epochs=0, S=(64, 32), threshold_images=0, transform=SMALL, device="cpu")
    folder = tmp_path_factory.mktemp("small") / "model"
    model.fit(normal_images[:1]).save(folder)
    return folder


@pytest.mark.parametrize(
    "changes", [{"S": [16]}, {"S": ["a", "b"]}, {"S": None}, {"device": "cpu"}, {"checkpoints": 3}, {"D": ""}]
)
def test_a_damaged_parameter_is_said_to_be_damaged(small_model: Path, changes: dict[str, Any]) -> None:
    before = (small_model / "model.json").read_text()
    rewrite_description(small_model, lambda saved: saved | {"parameters": saved["parameters"] | changes})
    with pytest.raises(ModelFileError, match="is damaged"):
        load_detector(small_model, device="cpu")
    (small_model / "model.json").write_text(before)
    load_detector(small_model, device="cpu")


def test_an_error_that_says_what_is_wrong_is_told_as_it_is(small_model: Path) -> None:
    """Though a `ParameterError` is a `ValueError`."""
    with pytest.raises(ParameterError, match="omit `weights`"):
        load_detector(small_model, device="cpu", weights="any")


# --- Progress ---


def test_progress_counts_images_from_zero_to_the_total(
    make: Make, normal_images: torch.Tensor, recorder: Any
) -> None:
    source = Batches(normal_images, 4)  # 4 and 2
    detector = make().fit(source, recorder)
    fit_calls = list(recorder.calls)
    assert fit_calls
    recorder.calls.clear()
    detector.score(source, recorder)
    for calls in (fit_calls, recorder.calls):
        assert calls[0][1] == 0
        assert calls[-1][1] == calls[-1][2]
        for (stage, done, total), (next_stage, next_done, _) in itertools.pairwise(calls):
            assert 0 <= done <= total
            if stage == next_stage and next_done != 0:
                assert next_done >= done
            else:  # a stage ends complete before another begins
                assert done == total
                assert next_done == 0
    assert all(total == 6 for _, _, total in recorder.calls)
