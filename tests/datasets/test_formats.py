"""The door for picture files: what is opened, and what is said of all else that may be called a picture."""

import importlib
import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib.datasets.formats import MOST_PIXELS, SUFFIXES
from anomaly_lib.datasets.images import read_grey, read_picture, upright_size
from anomaly_lib.errors import DataError

WAYS = (read_picture, read_grey, upright_size)
HEIF_START = struct.pack(">I", 24) + b"ftypheic" + bytes(12)


def said_of(path: Path) -> str:
    """Return the one sentence in which every way of reading refuses `path`."""
    sentences = []
    for way in WAYS:
        with pytest.raises(DataError) as error:
            way(path)
        sentences.append(str(error.value))
    assert len(set(sentences)) == 1
    assert sentences[0].isprintable()
    return sentences[0]


def png_start(width: int, height: int) -> bytes:
    """Return a PNG file that ends where its pixels would begin."""
    start = b"\x89PNG\r\n\x1a\n"
    for kind, data in (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", bytes(9)):
        start += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return start


@pytest.mark.parametrize("name", ["000.png", "000.tif", "000.jpg", "000.eps"])
def test_a_page_of_postscript_starts_no_program_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name, "EPS")

    def start(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "posix_spawn", start)
    assert "no picture in PNG, JPEG" in said_of(tmp_path / name)


@pytest.mark.parametrize("format", ["GIF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF"])
def test_a_format_that_is_not_listed_is_refused_under_the_name_of_one_that_is(
    tmp_path: Path, format: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format)
    said = said_of(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in said
    assert "PNG, JPEG, BMP, TIFF, WEBP" in said


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_listed_format_is_read_under_any_name(tmp_path: Path, format: str) -> None:
    for name in ("a.png", "a.jfif", "a.JPG", "a", "a.txt"):
        Image.new("RGB", (9, 8), (0, 0, 255)).save(tmp_path / name, format)
        assert np.asarray(read_picture(tmp_path / name))[4, 4, 2] > 240
        assert upright_size(tmp_path / name) == (9, 8)


def test_a_pipe_a_device_and_a_folder_are_refused_without_being_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert "pipe.png (it is not a regular file)" in said_of(tmp_path / "pipe.png")
    assert "folder.png (it is a folder)" in said_of(tmp_path / "folder.png")
    assert "not a regular file" in said_of(Path("/dev/zero"))


def test_links_that_lead_nowhere_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("gone.png")
    (tmp_path / "b.png").symlink_to("b.png")
    assert "is a link that leads nowhere" in said_of(tmp_path / "a.png")
    assert "symbolic links" in said_of(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a\nb.png", "a\udcff.png", "a\x1b[31m.png", "a\u2028b.png"])
def test_a_name_that_is_no_line_is_said_in_one(tmp_path: Path, name: str) -> None:
    assert "no such image" in said_of(tmp_path / name)
    (tmp_path / name).write_bytes(b"junk")
    assert said_of(tmp_path / name).encode()


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    assert "null byte" in said_of(tmp_path / "a\0.png")
    assert "too long" in said_of(tmp_path / f"{'a' * 300}.png")


@pytest.mark.parametrize("size", [(100_000, 100_000), (MOST_PIXELS + 1, 1), (2**31 - 1, 1)])
def test_what_has_too_many_pixels_is_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png_start(*size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as programs do that trust their files
    assert f"{size[0]} x {size[1]} pixels" in said_of(tmp_path / "a.png")


@pytest.mark.parametrize("error", [RuntimeError("a\nb"), KeyError(3), AttributeError("x"), OverflowError()])
def test_whatever_a_decoder_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    said = said_of(tmp_path / "a.png")
    assert "replace or remove the file" in said
    assert "()" not in said


def test_an_interrupt_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_picture(tmp_path / "a.png")


def test_a_photograph_of_a_telephone_names_the_package_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    (tmp_path / "a.jpg").write_bytes(HEIF_START)
    assert "pip install pillow-heif" in said_of(tmp_path / "a.jpg")
    assert {".heic", ".heif"} < SUFFIXES


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_of_a_telephone_is_read_upright(tmp_path: Path, orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :16] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(pixels)).save(file, exif=exif.tobytes())
    (tmp_path / "a.heic").write_bytes(file.getvalue())
    picture = read_picture(tmp_path / "a.heic")
    upright = pixels if orientation == 1 else np.rot90(pixels, -1)
    assert np.abs(np.asarray(picture).astype(int) - upright).max() < 40
    assert upright_size(tmp_path / "a.heic") == picture.size
    assert "HEIF" not in Image.OPEN  # nothing is registered for others


def test_half_a_photograph_of_a_telephone_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (tmp_path / "a.heic").write_bytes(HEIF_START)
    assert "replace or remove the file" in said_of(tmp_path / "a.heic")
