"""From a picture to a network's input: torchvision's official pipeline to the bit, and what may be asked."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as official

from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import ParameterError

SIZES = [(256, 256), (900, 900), (448, 300), (301, 517), (64, 64), (257, 255), (1, 1), (3, 50)]


def random_picture(size: tuple[int, int], mode: str) -> Image.Image:
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (73, 60), (32, 32), (33, 32)])
def test_images_equal_the_official_pipeline_to_the_bit(size: tuple[int, int], resize: int, crop: int) -> None:
    picture = random_picture(size, "RGB")
    steps = [official.Resize(resize), official.CenterCrop(crop), official.ToTensor()]
    wanted = official.Compose(steps)(picture)
    ours = Transform(resize, crop).image(picture)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours.float() / 255, wanted)


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_the_official_ones_at_one_half_and_above(size: tuple[int, int]) -> None:
    picture = random_picture(size, "L")
    steps = [official.Resize(256), official.CenterCrop(224), official.ToTensor()]
    wanted = official.Compose(steps)(picture)[0] >= 0.5
    ours = Transform(256, 224).mask(picture)
    assert ours.shape == (224, 224)
    assert ours.dtype == torch.bool
    assert torch.equal(ours, wanted)


def test_a_mask_is_positive_from_128_on() -> None:
    picture = Image.fromarray(np.array([[127, 128]], np.uint8).repeat(2, axis=0))
    assert Transform(2, 2).mask(picture).tolist() == [[False, True]] * 2


def test_square_gives_up_the_aspect_ratio_and_bicubic_differs_from_bilinear() -> None:
    picture = random_picture((90, 40), "RGB")
    square = Transform(64, square=True, interpolation="bicubic")
    wanted = official.Resize((64, 64), official.InterpolationMode.BICUBIC)(picture)
    assert square.size == 64
    assert torch.equal(square.image(picture), official.PILToTensor()(wanted))
    assert not torch.equal(square.image(picture), Transform(64, square=True).image(picture))


def test_a_mask_is_resized_bilinearly_even_where_images_are_bicubic() -> None:
    picture = random_picture((90, 40), "L")
    bicubic, bilinear = Transform(33, square=True, interpolation="bicubic"), Transform(33, square=True)
    assert torch.equal(bicubic.mask(picture), bilinear.mask(picture))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"resize": 200, "crop": 224}, ("224", "200", "--resize", "--imagesize")),
        ({"resize": 0, "crop": 0}, ("0",)),
        ({"resize": -5, "square": True}, ("-5",)),
        ({"resize": 256}, ("crop", "square")),
        ({"resize": 256, "crop": 224, "interpolation": "nearest"}, ("nearest", "bilinear", "bicubic")),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(arguments: dict[str, object], named: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError) as error:
        Transform(**arguments)  # type: ignore[arg-type]
    assert all(word in str(error.value) for word in named)


@pytest.mark.parametrize(
    ("resize", "size", "wanted"),
    [
        (None, None, (256, 224)),
        (None, 320, (366, 320)),  # the share of the image that is seen stays
        (300, None, (300, 224)),
        (200, None, (200, 200)),  # a crop of 224 would reach outside
        (512, 448, (512, 448)),
    ],
)
def test_override_keeps_what_was_not_asked_for(
    resize: int | None, size: int | None, wanted: tuple[int, int]
) -> None:
    changed = Transform(256, 224).override(resize, size)
    assert (changed.resize, changed.crop) == wanted


def test_override_of_a_square_transform_stays_square() -> None:
    square = Transform(256, square=True, interpolation="bicubic")
    assert square.override(None, None) == square
    assert square.override(128, None) == Transform(128, square=True, interpolation="bicubic")
    assert square.override(128, 128) == Transform(128, square=True, interpolation="bicubic")
    with pytest.raises(ParameterError, match="--resize 300 and --imagesize 128"):
        square.override(300, 128)


def test_override_refuses_a_crop_larger_than_the_resize() -> None:
    with pytest.raises(ParameterError, match="224"):
        Transform(256, 224).override(128, 224)
