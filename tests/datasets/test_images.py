"""Image files of every kind that people have: what comes out of them, and what is said of broken ones."""

import io
import re
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_lib.datasets import ImageFiles, read_picture
from anomaly_lib.datasets.formats import open_picture
from anomaly_lib.datasets.images import read_grey, upright_size
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError, ParameterError

ORIENTATION = 0x0112


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a picture and returns its path."""

    def save(image: Image.Image, name: str = "a.png", **options: object) -> Path:
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def ramp(height: int, width: int, channels: int) -> np.ndarray:
    values = np.arange(height * width * channels) * 7 % 256
    return values.reshape(height, width, channels).astype(np.uint8)


def pixels(path: Path) -> np.ndarray:
    picture = read_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def test_rgb_comes_out_as_it_went_in(saved: Callable[..., Path]) -> None:
    wanted = ramp(5, 9, 3)
    assert np.array_equal(pixels(saved(Image.fromarray(wanted))), wanted)


def test_grey_is_repeated_over_the_channels(saved: Callable[..., Path]) -> None:
    grey = ramp(4, 3, 1)[..., 0]
    assert np.array_equal(pixels(saved(Image.fromarray(grey))), np.stack([grey] * 3, axis=2))


def test_black_and_white_becomes_0_and_255(saved: Callable[..., Path]) -> None:
    image = Image.fromarray(np.eye(4, dtype=np.uint8) * 255).convert("1")
    assert np.array_equal(pixels(saved(image))[..., 0], np.eye(4) * 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(saved: Callable[..., Path], suffix: str) -> None:
    values = np.array([[0, 257, 128 * 257, 254 * 257, 65535]], dtype=np.uint16)
    out = pixels(saved(Image.fromarray(values), f"a.{suffix}"))
    assert out[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [254] * 3, [255] * 3]


def test_big_endian_sixteen_bit_tiff_is_scaled_too(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=">u2")
    tags = [(256, 4, 1, 4), (257, 4, 1, 1), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16)]
    tags += [(262, 3, 1, 1 << 16), (273, 4, 1, 8), (278, 4, 1, 1), (279, 4, 1, 8)]
    entries = b"".join(struct.pack(">HHII", *tag) for tag in tags)
    directory = struct.pack(">H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"MM\x00*" + struct.pack(">I", 16) + values.tobytes() + directory)
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_black(saved: Callable[..., Path]) -> None:
    rgba = np.full((1, 3, 4), 200, np.uint8)
    rgba[0, :, 3] = 255, 0, 128
    assert pixels(saved(Image.fromarray(rgba)))[0].tolist() == [[200] * 3, [0] * 3, [100] * 3]


def test_transparent_grey_is_black(saved: Callable[..., Path]) -> None:
    la = np.array([[[200, 255], [200, 0]]], np.uint8)
    assert pixels(saved(Image.fromarray(la, "LA")))[0].tolist() == [[200] * 3, [0] * 3]


def test_a_palette_gives_its_colours_and_its_transparent_entry_black(saved: Callable[..., Path]) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert pixels(saved(image))[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert pixels(saved(image, "b.png", transparency=1))[0].tolist() == [
        [10, 20, 30],
        [0, 0, 0],
        [70, 80, 90],
    ]


def test_cmyk_becomes_rgb(saved: Callable[..., Path]) -> None:
    out = pixels(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg"))
    assert out[0, 0, 0] > 240
    assert out[0, 0, 1:].max() < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(saved: Callable[..., Path], orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # white in the top left corner
    # How each orientation stores that picture.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), "a.jpg", exif=exif, quality=95)
    out = pixels(path)
    assert out.shape == upright.shape
    assert np.abs(out.astype(int) - upright).max() < 40
    assert upright_size(path) == (24, 16)


def test_a_mask_file_with_exif_rotation_is_turned_as_pictures_are(saved: Callable[..., Path]) -> None:
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(Image.fromarray(np.ascontiguousarray(np.rot90(upright))), exif=exif)
    mask = np.asarray(read_grey(path))
    assert np.array_equal(mask, upright)


def test_masks_of_one_bit_and_of_sixteen_keep_their_white(saved: Callable[..., Path]) -> None:
    truth = np.eye(4) * 255
    one_bit = saved(Image.fromarray(truth.astype(np.uint8)).convert("1"))
    sixteen = saved(Image.fromarray((truth * 257).astype(np.uint16)), "b.png")
    assert np.array_equal(np.asarray(read_grey(one_bit)), truth)
    assert np.array_equal(np.asarray(read_grey(sixteen)), truth)


def test_upright_size_is_the_size_of_the_picture_read(saved: Callable[..., Path]) -> None:
    path = saved(Image.new("RGB", (7, 3)))
    assert upright_size(path) == read_picture(path).size == (7, 3)


def broken_files() -> dict[str, bytes]:
    """Return files that are no image or half of one."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    files = {"text.png": b"this is no picture", "empty.png": b"", "html.jpg": b"<html>404</html>"}
    for suffix, format in (
        ("png", "PNG"),
        ("jpg", "JPEG"),
        ("bmp", "BMP"),
        ("tif", "TIFF"),
        ("webp", "WEBP"),
    ):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, format)
        whole = buffer.getvalue()
        files[f"half.{suffix}"] = whole[: len(whole) // 2]
        files[f"header.{suffix}"] = whole[:20]
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    damaged = bytearray(buffer.getvalue())
    damaged[len(damaged) // 2] ^= 0xFF
    files["flipped.png"] = bytes(damaged)
    short = b"IHDR" + bytes(4)
    files["short.png"] = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 4) + short + struct.pack(">I", zlib.crc32(short)) + bytes(40)
    )
    huge = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + huge
    files["bomb.png"] = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + bytes(40)
    )
    return files


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    with pytest.raises(DataError) as error:
        read_picture(path)
    assert str(path) in str(error.value)
    assert "replace or remove the file" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such image: .*gone\.png"):
        read_picture(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png"):
        read_picture(tmp_path / "folder.png")


SQUARE = Transform(resize=16, crop=12)
TAKEN_APART = ["a.png", Path("a.png"), b"a.png", 5, None]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(7):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((20, 20, 3), 30 * i, np.uint8)).save(paths[-1])
    return paths


def test_batches_are_floats_in_0_to_1_in_the_order_given(files: list[Path]) -> None:
    source = ImageFiles(files[::-1], SQUARE, batch_size=3)
    batches = list(source)
    assert len(source) == 7
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 12, 12), (3, 3, 12, 12), (1, 3, 12, 12)]
    assert all(batch.dtype == torch.float32 for batch in batches)
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == pytest.approx(
        [30 * i / 255 for i in reversed(range(7))]
    )


def test_a_source_can_be_iterated_over_again_and_by_two_at_once(files: list[Path]) -> None:
    source = ImageFiles(files, SQUARE, batch_size=2)
    once = torch.cat(list(source))
    assert torch.equal(once, torch.cat(list(source)))
    for left, right in zip(source, source, strict=True):
        assert torch.equal(left, right)


def test_names_may_be_texts(files: list[Path]) -> None:
    assert ImageFiles([str(file) for file in files], SQUARE).paths == tuple(files)
    assert ImageFiles((file for file in files), SQUARE).paths == tuple(files)


@pytest.mark.parametrize("paths", TAKEN_APART)
def test_one_file_or_folder_in_the_place_of_a_list_is_refused(paths: object) -> None:
    with pytest.raises(ParameterError, match="as a list of files"):
        ImageFiles(paths, SQUARE)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [5, None, b"a.png"])
def test_what_is_no_path_in_a_list_is_named(thing: object) -> None:
    with pytest.raises(ParameterError, match=re.escape(repr(thing))):
        ImageFiles([Path("a.png"), thing], SQUARE)  # type: ignore[list-item]


@pytest.mark.parametrize("size", [0, -1, 1.5, None, "8"])
def test_a_batch_of_less_than_one_image_is_refused(size: object) -> None:
    with pytest.raises(ParameterError, match=f"batch_size {size!r}"):
        ImageFiles([], SQUARE, size)  # type: ignore[arg-type]


def test_no_images_are_no_batches() -> None:
    assert list(ImageFiles([], SQUARE)) == []


def test_leaving_the_loop_early_leaves_no_work_behind(files: list[Path]) -> None:
    iterator = iter(ImageFiles(files, SQUARE, batch_size=1))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_a_broken_file_in_the_middle_stops_the_iteration_with_its_name(files: list[Path]) -> None:
    files[4].write_bytes(files[4].read_bytes()[:60])
    iterator = iter(ImageFiles(files, SQUARE, batch_size=2))
    next(iterator)
    with pytest.raises(DataError, match=r"4\.png"):
        list(iterator)


@pytest.mark.parametrize(("side", "error"), [(20, DataError), (2000, MemoryError)])
def test_a_small_picture_that_asks_for_all_memory_is_damaged(
    tmp_path: Path, side: int, error: type[Exception]
) -> None:
    """Counts in a damaged TIFF make the decoder ask for gigabytes; a large picture may just not fit."""
    Image.new("RGB", (side, side)).save(tmp_path / "x.png")

    def decode(picture: Image.Image) -> None:
        raise MemoryError

    with pytest.raises(error):
        open_picture(tmp_path / "x.png", decode)
