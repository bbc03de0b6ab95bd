"""One picture in, one answer out: whatever the picture came as, and in its own pixels."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_lib import ImageFiles, PatchCore, Transform, read_category, read_picture
from anomaly_lib.errors import DataError
from anomaly_lib.predict import Answer, answers

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture(scope="module")
def detector(small_data: Path, tiny_weights: str) -> PatchCore:
    transform = Transform(72, 64)
    disc = read_category(small_data, "disc")
    model = PatchCore("test_resnet", weights=tiny_weights, coreset=50, transform=transform, device="cpu")
    return model.fit(disc.train_images(transform))


@pytest.fixture(scope="module")
def spot(small_data: Path) -> Path:
    return small_data / "disc" / "test" / "spot" / "000.png"


def test_a_picture_has_the_score_of_its_file(detector: PatchCore, spot: Path) -> None:
    scores = detector.score(ImageFiles([spot], detector.transform))
    answer = detector.predict(spot)
    assert isinstance(answer, Answer)
    assert answer.score == scores.image[0]
    assert answer.path == spot
    assert answer.label == detector.verdicts(scores)[0] == "anomalous"
    assert answer.share_of_threshold == pytest.approx(answer.score / detector.threshold_)
    assert answer.share_of_threshold >= 1
    assert answer.p_value == pytest.approx(1 / 6)  # of five calibration scores none is as high
    assert np.array_equal(answer.input_map, scores.maps[0])


def test_whatever_a_picture_comes_as_it_has_the_same_score(detector: PatchCore, spot: Path) -> None:
    picture = read_picture(spot)
    turned = Image.fromarray(np.asarray(picture.transpose(Image.Transpose.ROTATE_90)))
    turned.getexif()[0x0112] = 6  # to be turned clockwise when it is shown
    kinds = [str(spot), spot, np.asarray(picture), picture, picture.convert("RGBA"), turned]
    scores = [answer.score for answer in detector.predict(kinds)]
    assert scores == [scores[0]] * len(kinds)


def test_grey_pictures_of_any_kind_have_the_same_score(detector: PatchCore) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 100), np.uint8)
    kinds = [grey, grey[..., None], grey.astype(np.uint16) * 257, np.stack([grey] * 3, axis=2), grey[:, ::1]]
    scores = [answer.score for answer in detector.predict(kinds)]
    assert scores == [scores[0]] * len(kinds)


def test_several_are_answered_in_their_order_whatever_their_shapes(
    detector: PatchCore, small_data: Path
) -> None:
    files = sorted((small_data / "disc" / "test").rglob("*.png"))
    arrays = [np.asarray(read_picture(file)) for file in files]
    wide = np.concatenate([arrays[0], arrays[0]], axis=1)
    given = [*files, wide, *arrays]
    found = detector.predict(given)
    assert [answer.score for answer in found] == [detector.predict(one).score for one in given]
    assert [answer.path for answer in found] == [*files, *[None] * (len(arrays) + 1)]


def test_no_pictures_have_no_answers(detector: PatchCore) -> None:
    assert detector.predict([]) == []


def test_the_map_lies_on_the_picture(detector: PatchCore, spot: Path, small_data: Path) -> None:
    mask = np.asarray(Image.open(small_data / "disc/ground_truth/spot/000_mask.png")) > 0
    picture = read_picture(spot)
    large = picture.resize((288, 288))
    for answer, scale in ((detector.predict(spot), 1), (detector.predict(large), 4)):
        assert answer.size == (72 * scale, 72 * scale)
        assert answer.map.shape == (72 * scale, 72 * scale)
        assert answer.map.dtype == np.float32
        seen = np.isfinite(answer.map)
        assert seen[4 * scale : 68 * scale, 4 * scale : 68 * scale].all()
        assert seen.sum() == (64 * scale) ** 2
        row, column = np.unravel_index(np.nanargmax(answer.map), answer.map.shape)
        rows, columns = np.nonzero(mask)
        assert rows.min() - 4 <= row / scale <= rows.max() + 4
        assert columns.min() - 4 <= column / scale <= columns.max() + 4
        assert np.array_equal(answer.mask, answer.map >= detector.threshold_)
        assert answer.mask.any()
        assert answer.seen_share == pytest.approx((64 / 72) ** 2)


def test_a_map_of_the_pictures_size_is_that_of_the_model(detector: PatchCore, spot: Path) -> None:
    answer = detector.predict(spot)
    assert np.allclose(answer.map[4:68, 4:68], answer.input_map)


def test_what_the_crop_leaves_out_is_said(detector: PatchCore, caplog: pytest.LogCaptureFixture) -> None:
    detector.predict([np.zeros((72, 144, 3), np.uint8)] * 3)
    assert caplog.messages == [
        "the model's crop leaves out up to 60% of a picture: what lies there is not judged"
    ]


def test_a_model_without_a_threshold_says_so(detector: PatchCore, spot: Path) -> None:
    without = detector.with_transform(detector.transform)
    without.threshold_, without.calibration_ = math.nan, np.zeros(0, np.float32)
    answer = without.predict(spot)
    assert answer.label == "no threshold"
    assert math.isnan(answer.p_value)
    assert math.isnan(answer.share_of_threshold)
    assert not answer.mask.any()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((8, 8, 3), np.uint16),
        np.array([["a"]]),
    ],
)
def test_an_array_that_is_no_picture_is_refused(detector: PatchCore, array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"is no picture: give \(h, w, 3\) uint8"):
        detector.predict(array)


def test_a_tensor_belongs_to_score(detector: PatchCore) -> None:
    with pytest.raises(DataError, match=r"score\(images\)"):
        detector.predict(torch.zeros(1, 3, 64, 64))
    with pytest.raises(DataError, match="not Tensor"):
        detector.predict([torch.zeros(3, 64, 64)])


def test_one_that_cannot_be_read_is_an_error_in_its_place(
    detector: PatchCore, spot: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    given = [spot, tmp_path / "bad.png", tmp_path / "none.png", spot]
    kinds = [type(one) for one in answers(detector, given)]
    assert kinds == [Answer, DataError, DataError, Answer]
    with pytest.raises(DataError, match=r"bad\.png"):
        detector.predict(given)


def test_answers_are_not_held_on_to(detector: PatchCore, spot: Path) -> None:
    def pictures(taken: list[int]) -> object:
        for number in range(200):
            taken.append(number)
            yield spot

    taken: list[int] = []
    endless = answers(detector, pictures(taken))
    next(iter(endless))
    assert len(taken) < 30
