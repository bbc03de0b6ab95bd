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


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 60_000), (20_000_000, 1)])
def test_of_a_thin_picture_only_what_is_seen_is_resized(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = []
    resize = Image.Image.resize

    def measured(picture: Image.Image, size: tuple[int, int], *arguments: object) -> Image.Image:
        areas.append(size[0] * size[1])
        return resize(picture, size, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", measured)
    wide = size[0] > size[1]
    picture = Image.new("L", size, 200)
    picture.paste(100, (0, 0, size[0] // 2, size[1]) if wide else (0, 0, size[0], size[1] // 2))
    image = np.asarray(Transform(256, 224).image(picture.convert("RGB")))[0]
    mask = np.asarray(Transform(256, 224).mask(picture))
    assert areas == [224 * 224] * 2
    assert image.shape == mask.shape == (224, 224)
    line = image[0] if wide else image[:, 0]
    assert np.all(np.diff(line.astype(int)) >= 0)  # from the one half to the other
    assert line[0] < 110
    assert line[-1] > 190


@pytest.mark.parametrize("size", [(900, 3), (3, 900), (301, 517), (257, 255), (64, 64), (1, 1)])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (73, 60), (32, 32), (64, 1)])
def test_resizing_what_is_seen_equals_resizing_the_whole_but_for_rounding(
    size: tuple[int, int], resize: int, crop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, transform = random_picture(size, "RGB"), Transform(resize, crop)
    whole = transform.image(picture).int()
    monkeypatch.setattr("anomaly_lib.datasets.transforms._WHOLE_IMAGE", 0)
    assert (transform.image(picture).int() - whole).abs().max() <= 1


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
        ({"resize": 200, "crop": 224}, ("224", "200", "`resize`", "`imagesize`")),
        ({"resize": 1_000_000, "square": True}, ("resize 1000000", "16384")),
        ({"resize": 256, "crop": 1_000_000}, ("image size 1000000", "16384")),
        ({"resize": 256.0, "crop": 224}, ("resize 256.0", "whole number")),
        ({"resize": "256", "crop": 224}, ("resize '256'", "whole number")),
        ({"resize": True, "crop": True}, ("resize True", "whole number")),
        ({"resize": None, "square": True}, ("resize None", "whole number")),
        ({"resize": 0, "crop": 0}, ("0",)),
        ({"resize": -5, "square": True}, ("-5",)),
        ({"resize": 256, "multiple": 0}, ("multiple 0", "whole number")),
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
    with pytest.raises(ParameterError, match="`resize` 300 and `imagesize` 128"):
        square.override(300, 128)


@pytest.mark.parametrize("transform", [Transform(256, 224), Transform(256, square=True)])
@pytest.mark.parametrize("side", [0, -3, 1_000_000])
def test_override_ignores_no_size(transform: Transform, side: int) -> None:
    with pytest.raises(ParameterError, match=f"`resize` {side} must"):
        transform.override(side, None)
    with pytest.raises(ParameterError, match=f"`imagesize` {side} must"):
        transform.override(None, side)


def test_override_refuses_a_crop_larger_than_the_resize() -> None:
    with pytest.raises(ParameterError, match="224"):
        Transform(256, 224).override(128, 224)
