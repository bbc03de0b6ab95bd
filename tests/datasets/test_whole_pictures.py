"""Whole pictures in their own shape: what a model sees, what it is fitted on, and what it is asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anomaly_lib import Detector, Gaussian, PatchCore, PatchSVDD, Transform, load_detector
from anomaly_lib.datasets import Category
from anomaly_lib.datasets.images import ImageFiles
from anomaly_lib.datasets.mvtec import LabelledImage
from anomaly_lib.datasets.transforms import Geometry
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.runs.run import predictions_of

WHOLE = Transform(64)
SHAPES = ((96, 64), (64, 96), (64, 64), (192, 64))  # (width, height)


def part(folder: Path, name: str, size: tuple[int, int], defect: str = "") -> Path:
    """Write a picture of stripes; a defect is a black square in its upper left corner."""
    folder.mkdir(exist_ok=True, parents=True)
    picture = Image.new("RGB", size, (90, 140, 180))
    draw = ImageDraw.Draw(picture)
    for column in range(0, size[0], 8):
        draw.line((column, 0, column, size[1]), (60 + len(name), 100, 120))
    if defect:
        draw.rectangle((2, 2, 25, 25), (0, 0, 0))
    picture.save(folder / f"{name}.png")
    return folder / f"{name}.png"


@pytest.fixture
def mixed(tmp_path: Path) -> Category:
    """A category of pictures of four shapes, with a defect in the corner of each shape."""
    train = tuple(part(tmp_path / "good", f"{i}{'_' * i}", SHAPES[i % 4]) for i in range(12))
    test = []
    for number, size in enumerate(SHAPES):
        test.append(LabelledImage(part(tmp_path / "test", f"g{number}", size), "good", None))
        mask = Image.new("L", size)
        mask.paste(255, (2, 2, 26, 26))
        mask.save(tmp_path / f"{number}_mask.png")
        file = part(tmp_path / "test", f"d{number}", size, "hole")
        test.append(LabelledImage(file, "hole", tmp_path / f"{number}_mask.png"))
    return Category("mixed", train, tuple(test))


def patch_core(weights: str) -> Detector:
    return PatchCore("test_resnet", weights=weights, transform=WHOLE, device="cpu", precision="fp32")


def gaussian(weights: str) -> Detector:
    return Gaussian(
        "test_resnet", weights=weights, fold=None, transform=WHOLE, device="cpu", precision="fp32"
    )


def patch_svdd(weights: str) -> Detector:
    return PatchSVDD(K=32, epochs=1, repeat=2, transform=WHOLE, device="cpu", precision="fp32")


METHODS = pytest.mark.parametrize("make", [patch_core, gaussian, patch_svdd])


@pytest.mark.parametrize(
    ("size", "shape"),
    [((64, 64), (64, 64)), ((640, 256), (64, 160)), ((256, 640), (160, 64)), ((1, 16), (1024, 64))],
)
def test_the_shorter_side_is_resized_and_the_other_follows(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    assert WHOLE.shape(*size) == shape
    assert WHOLE.image(Image.new("RGB", size)).shape == (3, *shape)
    assert WHOLE.seen(*size) == (0, 0, *size)


def test_both_sides_are_multiples_of_what_the_network_wants() -> None:
    assert Transform(100, multiple=14).shape(300, 200) == (98, 154)
    assert PatchCore("vit_small_patch14_dinov2", weights="random").transform.multiple == 14
    assert PatchCore().transform == Transform(256)


def test_a_picture_that_is_all_length_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 1)).save(tmp_path / "line.png")
    with pytest.raises(DataError, match=r"line\.png: a picture of 20000 x 1 pixels is more than 16 times"):
        list(ImageFiles([tmp_path / "line.png"], WHOLE))


def test_whole_pictures_have_no_image_size() -> None:
    with pytest.raises(ParameterError, match="`imagesize` 48"):
        WHOLE.override(None, 48)
    assert Transform(72, 64).asked(Geometry(64, whole=True)) == WHOLE


def test_a_batch_has_pictures_of_one_shape_and_all_come_in_order(mixed: Category) -> None:
    batches = list(mixed.train_images(WHOLE))
    assert sum(map(len, batches)) == 12
    pictures = [picture for batch in batches for picture in batch]
    assert [tuple(picture.shape[1:]) for picture in pictures] == [SHAPES[i % 4][::-1] for i in range(12)]


@METHODS
def test_pictures_of_several_shapes_are_fitted_scored_saved_and_answered(
    make: Callable[[str], Detector], mixed: Category, tiny_weights: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    detector = make(tiny_weights).fit(mixed.train_images(WHOLE))
    assert len(detector.calibration_) == 12
    scores = detector.score(mixed.test_images(WHOLE))
    maps = scores.maps
    assert maps is not None
    assert maps.shape == (8, 64, 96)  # all in the shape of the first
    assert mixed.masks(WHOLE).shape == maps.shape
    predictions = predictions_of(scores, mixed, WHOLE, detector.threshold_)
    assert predictions.pixelwise_pred.shape == predictions.masks.shape
    detector.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.score(mixed.test_images(WHOLE)).image, scores.image)
    if not isinstance(detector, PatchSVDD):  # whose encoder was hardly trained
        assert scores.image[1::2].min() > scores.image[::2].max()
    for image, score in zip(mixed.test, scores.image, strict=True):
        answer = loaded.predict(image.path)
        with Image.open(image.path) as picture:
            assert answer.map is not None
            assert answer.map.shape == (picture.height, picture.width)
        assert answer.seen_share == 1
        assert answer.score == pytest.approx(score, rel=1e-4)


def test_the_map_of_a_whole_picture_points_at_the_defect(mixed: Category, tiny_weights: str) -> None:
    detector = patch_core(tiny_weights).fit(mixed.train_images(WHOLE))
    for image in mixed.test[1::2]:
        pixels = detector.predict(image.path).map
        row, column = np.unravel_index(pixels.argmax(), pixels.shape)
        assert max(row, column) < 32


def test_images_of_another_size_are_refused_and_those_of_another_shape_are_not(
    tiny_weights: str, tmp_path: Path
) -> None:
    images = torch.rand(6, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    patch_core(tiny_weights).fit(images).save(tmp_path / "model")
    detector = load_detector(tmp_path / "model", device="cpu")
    detector.score(torch.rand(1, 3, 160, 64))
    with pytest.raises(DataError, match="128 x 128 pixels for a model that was fitted on 96 x 64"):
        detector.score(torch.rand(1, 3, 128, 128))


def test_a_model_of_crops_takes_no_whole_picture(tiny_weights: str) -> None:
    detector = PatchCore("test_resnet", weights=tiny_weights, transform=Transform(72, 64), device="cpu")
    detector.fit(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(DataError, match="160 x 64 pixels for a model that was fitted on 64 x 64"):
        detector.score(torch.rand(1, 3, 64, 160))
