"""From what a picture file holds to upright pictures of 8 bits.

- 8 bits and fewer: as they are.
- 16 bits: grey is divided by 257, so that 65,535 becomes 255; of colours Pillow gives the upper 8 bits. In
  TIFF files of 12 bits (BitsPerSample) 4,095 becomes 255.
- Whole numbers of 32 bits: as 16 bits, and refused where they do not lie in 0 to 65,535.
- Floating point: multiplied by 255, and refused where it does not lie in 0 to 1.
- What is transparent is black; a picture that is transparent everywhere is refused.

The rules look at the kind of file and never at how bright a picture is: a dark picture stays dark. Where one
of more than 8 bits comes out nearly black, as 12 bits stored in 16 do, a warning names its folder.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from anomaly_lib.errors import one_line

_ORIENTATION = 0x0112  # in EXIF and in TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = (5, 6, 7, 8)

# Tags of TIFF and what some of their values mean.
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _SAMPLES = 258, 259, 262, 284, 339
_UNCOMPRESSED, _WHITE_IS_ZERO, _SEPARATE, _SIGNED = 1, 0, 2, 2

_SIXTEENTH = 16  # of 255: where 12 bits stored in 16 end


def to_rgb(picture: Image.Image, path: Path) -> Image.Image:
    """Return the open `picture`, which is the file `path`, upright and in RGB.

    Raises
    ------
    ValueError
        When its values cannot be brought to 8 bits without guessing.
    """
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # a telephone's: a preview follows
        _warn(f"files in {path.parent} hold several pictures (pages): only the first of each is read")
    upright = _upright(picture)
    if picture.mode[0] in "IF" and _nearly_black_or_white(upright):
        _warn(
            f"pictures of more than 8 bits in {path.parent} come out nearly black or white, as when the 12 "
            "bits of a camera are stored in 16: scale them to the full range"
        )
    return _opaque(upright).convert("RGB")


def to_grey(picture: Image.Image) -> Image.Image:
    """Return the open `picture`, a mask, upright and in 8-bit grey; errors as in `to_rgb`."""
    return _opaque(_upright(picture)).convert("L")


def size_upright(picture: Image.Image) -> tuple[int, int]:
    """Return (width, height) of the open `picture` after EXIF rotation."""
    width, height = picture.size
    swapped = picture.getexif().get(_ORIENTATION) in _SIDES_SWAPPED
    if isinstance(picture, TiffImageFile) and picture.tag_v2.get(_ORIENTATION) in _SIDES_SWAPPED:
        swapped = False  # the size that Pillow gives is the upright one already
    return (height, width) if swapped else (width, height)


def _upright(picture: Image.Image) -> Image.Image:
    tags = picture.tag_v2 if isinstance(picture, TiffImageFile) else None
    if tags is not None:
        _check_tiff(picture.mode, tags)
    picture.load()  # turns TIFF files, and takes the orientation out of their EXIF
    turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    levels = _eight_bits(picture, tags) if picture.mode[0] in "IF" else picture
    return levels if turn is None else levels.transpose(turn)


def _check_tiff(mode: str, tags: ImageFileDirectory_v2) -> None:
    """Refuse the kinds of TIFF of which Pillow makes wrong pixels without a word."""
    bits, compression = tags.get(_BITS, (1,))[0], tags.get(_COMPRESSION, _UNCOMPRESSED)
    planes = tags.get(_PLANES) == _SEPARATE and compression == _UNCOMPRESSED
    if planes and not (bits == 8 and mode in ("RGB", "RGBA", "CMYK")):
        raise ValueError(f"a TIFF file of {bits} bits in separate planes: save it with interleaved colours")
    if bits == 8 and tags.get(_SAMPLES, (1,))[0] == _SIGNED:
        raise ValueError("a TIFF file of signed 8-bit numbers: save it with unsigned ones")
    if mode in ("I", "F") and tags.prefix == b"MM" and compression != _UNCOMPRESSED:
        raise ValueError(
            "a compressed TIFF file of big-endian numbers: save it uncompressed, or in 8 or 16 bits"
        )


def _eight_bits(picture: Image.Image, tags: ImageFileDirectory_v2 | None) -> Image.Image:
    """Return a picture of 12, 16 or 32 bits in 8; Pillow's own conversion would clip what is above 255."""
    full = 4095 if tags and tags.get(_BITS) == (12,) else 65_535
    levels = _float_levels(picture) if picture.mode == "F" else _whole_levels(picture, full)
    inverse = tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return ImageOps.invert(levels) if inverse else levels  # Pillow itself minds it up to 8 bits


def _whole_levels(picture: Image.Image, full: int) -> Image.Image:
    whole = picture.convert("I")
    values = np.asarray(whole)
    low, high = values.min(), values.max()
    if low < 0 or high > 65_535:
        raise ValueError(f"whole numbers from {low} to {high}, which are read from 0 to 65535: scale them")
    table = (np.arange(65_536) * (255 / full)).round().clip(0, 255).astype(int)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # the grey value that a PNG file declares so
        table[transparent] = 0
    return whole.point(table.tolist(), "L")


def _float_levels(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    low, high = values.min(), values.max()  # not finite when one of the values is not
    if not (low >= 0 and high <= 1):
        raise ValueError(f"floating point from {low:g} to {high:g}, which is read from 0 to 1: scale it")
    return Image.fromarray((values * np.float32(255)).round().astype(np.uint8))


def _nearly_black_or_white(levels: Image.Image) -> bool:
    values = np.asarray(levels)
    return bool(values.max() <= _SIXTEENTH or values.min() >= 255 - _SIXTEENTH)


def _opaque(picture: Image.Image) -> Image.Image:
    """Return `picture` on black where it is transparent."""
    if not picture.has_transparency_data:
        return picture
    layers = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    alpha = layers.getchannel("A")
    if alpha.getextrema() == (0, 0):
        raise ValueError("it is transparent everywhere: save it without transparency")
    black = Image.new("RGB", layers.size)
    black.paste(layers, mask=alpha)
    return black


def _warn(sentence: str) -> None:
    """Warn in words that are the same for all files of a folder, so that Python says it once a folder."""
    warnings.warn(one_line(sentence), stacklevel=2)
