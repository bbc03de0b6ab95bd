"""The one door for picture files: which formats are opened, and what is said of the rest.

Pillow knows dozens of formats and opens some of them by starting other programs. Only those below are opened
here, whatever a file is called.
"""

import importlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from PIL import Image, UnidentifiedImageError

from anomaly_lib.errors import DataError, pass_on_lack_of_memory

T = TypeVar("T")

# What the files of pictures are called. What is in them decides how they are read.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif"})

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

# Pillow refuses what has more, and warns from half of it on. To read as many takes 1.4 to 3 GB for a moment.
MOST_PIXELS = 178_956_970

# To read a picture takes less than this, whatever its pixels are; and what a small one may take in all.
_MOST_BYTES_A_PIXEL, _SPARE = 32, 2**25


def open_picture(path: Path, use: Callable[[Image.Image], T]) -> T:
    """Return ``use(picture)`` of the picture in the file `path`, which is open and not decoded meanwhile.

    Raises
    ------
    DataError
        Whatever is wrong with the file: it is missing, no regular file, of none of the formats, damaged, of
        more than `MOST_PIXELS` pixels, or `use` finds what it cannot use and says so by a ValueError.
    """
    small = False
    try:
        _check_regular(path)
        with path.open("rb") as file, _picture(file) as picture:
            _check_size(*picture.size)
            small = picture.width * picture.height * _MOST_BYTES_A_PIXEL < _SPARE
            return use(picture)
    except FileNotFoundError:
        if path.is_symlink():
            raise DataError(f"the image {path} is a link that leads nowhere: mend or remove it") from None
        raise DataError(f"no such image: {path}") from None
    except Exception as error:  # a damaged file can make a decoder raise anything
        if not (small and _memory_is_left()):  # or a damaged file asks for more than there is
            pass_on_lack_of_memory(error)
        raise DataError(
            f"cannot read the image {path} ({_reason(error)}): replace or remove the file"
        ) from None


def _memory_is_left() -> bool:
    try:
        return bool(bytearray(_SPARE))
    except MemoryError:
        return False


def _check_regular(path: Path) -> None:
    """Refuse what would be waited for without end, such as a pipe, before it is opened."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")


def _picture(file: IO[bytes]) -> Image.Image:
    start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:] in _HEIF_BRANDS:
        return _heif_picture(file)
    # Given a file rather than its name, Pillow maps nothing into memory that may change meanwhile.
    return Image.open(file, formats=_FORMATS)


def _heif_picture(file: IO[bytes]) -> Image.Image:
    """Return a telephone's photograph, turned upright by the decoder."""
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise ValueError(
            "it is HEIF, which takes a package: install it by `pip install pillow-heif`, or save as JPEG"
        ) from None
    photograph = pillow_heif.open_heif(file)
    _check_size(*photograph.size)
    picture: Image.Image = photograph.to_pillow()
    return picture


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels, where 1 to {MOST_PIXELS} in all are read")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is no picture in {', '.join(_FORMATS)} or HEIF of a kind that is read, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
