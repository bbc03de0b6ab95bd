"""What becomes of more than 8 bits, of transparency and of pages: it follows from the kind of file."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib.datasets.images import read_grey, read_picture, upright_size
from anomaly_lib.errors import DataError

NEARLY_BLACK = "nearly black"


def read(path: Path) -> list[int]:
    """Return the red of the first row; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [int(value) for value in np.asarray(read_picture(path))[0, :, 0]]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_picture(path)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


def write_tiff(path: Path, data: bytes, width: int, order: str = "<", **tags: int) -> Path:
    """Write a TIFF file of one row and one strip; `tags` are numbers of 16 bits by their names here."""
    numbers = {
        "bits": 258,
        "compression": 259,
        "photometric": 262,
        "samples": 277,
        "planes": 284,
        "kind": 339,
    }
    entries = {256: (4, width), 257: (4, 1), 273: (4, 8), 278: (4, 1), 279: (4, len(data))}
    chosen = {"compression": 1, "photometric": 1, "samples": 1} | tags
    entries |= {numbers[name]: (3, value) for name, value in chosen.items()}
    directory = struct.pack(f"{order}H", len(entries))
    for tag, (kind, value) in sorted(entries.items()):
        written = struct.pack(f"{order}I" if kind == 4 else f"{order}Hxx", value)
        directory += struct.pack(f"{order}HHI", tag, kind, 1) + written
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    path.write_bytes(start + data + directory + bytes(4))
    return path


# --- More than 8 bits ---


def test_floating_point_is_scaled_from_0_to_1(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.2, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif") == [0, 51, 128, 255]


@pytest.mark.parametrize("value", [-0.01, 1.01, 255, np.nan, np.inf, -np.inf])
def test_floating_point_of_another_range_is_refused_with_the_range(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "a.tif")
    assert "read from 0 to 1" in refused(tmp_path / "a.tif")


def test_whole_numbers_of_32_bits_are_read_as_16(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65_535]], np.int32)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif") == [0, 1, 255]


@pytest.mark.parametrize("value", [-1, 65_536, 2**31 - 1])
def test_larger_whole_numbers_are_refused_with_the_range(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.array([[9, value]], np.int32)).save(tmp_path / "a.tif")
    said = refused(tmp_path / "a.tif")
    assert str(value) in said
    assert "read from 0 to 65535" in said


def test_twelve_bits_are_scaled_where_the_file_says_that_they_are_twelve(tmp_path: Path) -> None:
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x10])  # 0x000, 0x800, 0xFFF, 0x010
    assert read(write_tiff(tmp_path / "a.tif", packed, 4, bits=12)) == [0, 128, 255, 1]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_stored_in_sixteen_stay_dark_and_their_folder_is_named(
    tmp_path: Path, suffix: str
) -> None:
    Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)).save(tmp_path / f"a.{suffix}")
    with pytest.warns(UserWarning, match=NEARLY_BLACK) as warned:
        levels = np.asarray(read_picture(tmp_path / f"a.{suffix}"))
    assert levels[0, :, 0].tolist() == [0, 8, 16]
    assert str(tmp_path) in str(warned[0].message)


def test_a_folder_of_dark_pictures_is_named_once(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((2, 2), i, np.uint16)).save(tmp_path / f"{i}.png")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        for i in range(3):
            read_picture(tmp_path / f"{i}.png")
    assert len(warned) == 1


def test_dark_pictures_of_8_bits_and_dark_masks_are_nobodys_business(tmp_path: Path) -> None:
    Image.fromarray(np.full((1, 2), 3, np.uint8)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png") == [3, 3]
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(tmp_path / "b.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(read_grey(tmp_path / "b.png")).tolist() == [[0, 0]]


def test_white_is_zero_is_minded_in_16_bits_as_in_8(tmp_path: Path) -> None:
    sixteen = np.array([0, 257, 65_535], "<u2").tobytes()
    assert read(write_tiff(tmp_path / "a.tif", sixteen, 3, bits=16, photometric=0)) == [255, 254, 0]
    assert read(write_tiff(tmp_path / "b.tif", bytes([0, 1, 255]), 3, bits=8, photometric=0)) == [255, 254, 0]


def test_tiff_of_which_pillow_makes_other_pixels_is_refused(tmp_path: Path) -> None:
    signed = write_tiff(tmp_path / "signed.tif", bytes([0, 200]), 2, bits=8, kind=2)
    assert "signed" in refused(signed)
    planes = write_tiff(tmp_path / "planes.tif", bytes(4), 2, bits=16, planes=2)
    assert "separate planes" in refused(planes)
    big = write_tiff(tmp_path / "big.tif", bytes(8), 2, ">", bits=32, kind=3, compression=5)
    assert "big-endian" in refused(big)


def test_colours_of_16_bits_give_their_upper_8(tmp_path: Path) -> None:
    """Pillow writes none; this is the smallest PNG file of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0x1234, 0xFFFF, 0, 0xAB00, 0x00FF, 0x8000)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert np.asarray(read_picture(tmp_path / "a.png"))[0].tolist() == [[0x12, 0xFF, 0], [0xAB, 0, 0x80]]


# --- Transparency ---


def test_transparency_is_blended_as_pillow_blends_it(tmp_path: Path) -> None:
    """On black, for every value and every alpha."""
    value, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.stack([value, 255 - value, value, alpha], axis=2).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    black = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    wanted = np.asarray(Image.alpha_composite(black, Image.fromarray(rgba)).convert("RGB"))
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), wanted)


def test_the_transparent_grey_of_a_16_bit_picture_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[65_535, 40_000]], np.uint16))
    image.save(tmp_path / "a.png", transparency=65_535)
    assert read(tmp_path / "a.png") == [0, 156]


def test_a_mask_painted_on_a_transparent_layer_is_black_around_the_paint(tmp_path: Path) -> None:
    layer = np.full((1, 2, 4), 255, np.uint8)
    layer[0, 1, 3] = 0  # white, and transparent
    Image.fromarray(layer).save(tmp_path / "a.png")
    assert np.asarray(read_grey(tmp_path / "a.png")).tolist() == [[255, 0]]


def test_a_picture_that_is_transparent_everywhere_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 2), (200, 10, 10, 0)).save(tmp_path / "a.png")
    assert "transparent everywhere" in refused(tmp_path / "a.png")


# --- Pages and rotation ---


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_of_several_pages_the_first_is_read_and_their_folder_is_named(tmp_path: Path, format: str) -> None:
    first, second = Image.new("RGB", (9, 8), (250, 250, 250)), Image.new("RGB", (9, 8))
    path = tmp_path / f"a.{format.lower()}"
    first.save(path, format, save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match="several pictures") as warned:
        picture = read_picture(path)
    assert np.asarray(picture).min() > 240
    assert str(tmp_path) in str(warned[0].message)


def test_the_preview_in_a_photograph_of_a_telephone_is_no_page(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8), (250, 250, 250)).save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 8))]
    )
    assert min(read(tmp_path / "a.jpg")) > 240


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_every_format_is_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.zeros((6, 4, 3), np.uint8)
    stored[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    picture = np.asarray(read_picture(path))[..., 0]
    corner = {1: (0, 0), 2: (0, 3), 3: (5, 3), 4: (5, 0), 5: (0, 0), 6: (0, 5), 7: (3, 5), 8: (3, 0)}
    assert picture[corner[orientation]] == 255
    assert upright_size(path) == picture.shape[::-1]


def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.new("RGB", (4, 6)).save(tmp_path / "a.png", exif=exif)
    assert upright_size(tmp_path / "a.png") == read_picture(tmp_path / "a.png").size == (4, 6)
