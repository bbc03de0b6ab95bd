"""Attack the reading of pictures with damaged files, in a process of its own: NUMBER and FOLDER.

Prints one JSON object a line: before an attack its number, and at the end what was found. Each attack writes
one file and reads it in every way. Its outcome is a picture or a `DataError` of one line that can be printed;
no program is started, nothing is opened for writing, and memory is bounded.
"""

import importlib.util
import io
import json
import os
import resource
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from anomaly_lib.datasets.images import read_grey, read_picture, upright_size
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError

MEMORY = 1 << 30  # bytes above what the process has when it begins
SUFFIXES = ("png", "jpg", "bmp", "tif", "webp", "heic")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PROGRAMS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "pty.spawn"}

_ORIENTATION = 0x0112
_NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1)

Mutation = Callable[[np.random.Generator, bytes], bytes]


def seeds() -> dict[str, bytes]:
    """Return small whole pictures in every format that is read, and in every way of storing pixels."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (13, 19, 4), dtype=np.uint8))
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    sixteen = Image.fromarray(rng.integers(0, 65_536, (13, 19)).astype(np.uint16))
    big = Image.frombytes("I;16B", sixteen.size, np.asarray(sixteen).byteswap().tobytes())
    numbers = Image.fromarray(np.asarray(sixteen).astype(np.int32))
    floats = Image.fromarray(np.asarray(sixteen).astype(np.float32) / 65_535)
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    plain = {"1": grey.convert("1"), "l": grey, "p": rgb.quantize(16), "rgb": rgb}
    tiff = {"i16": sixteen, "i16b": big, "i": numbers, "f": floats, "cmyk": rgb.convert("CMYK"), "rgba": rgba}
    found = {f"png {name}": saved(image, "PNG") for name, image in (plain | {"rgba": rgba}).items()}
    found |= {f"bmp {name}": saved(image, "BMP") for name, image in (plain | {"rgba": rgba}).items()}
    found |= {f"tiff {name}": saved(image, "TIFF") for name, image in (plain | tiff).items()}
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[compression] = saved(rgb, "TIFF", compression=compression)
    found["tiff i16 lzw"] = saved(sixteen, "TIFF", compression="tiff_lzw")
    found["tiff group4"] = saved(plain["1"], "TIFF", compression="group4")
    found["tiff pages"] = saved(rgb, "TIFF", save_all=True, append_images=[rgb])
    found["png la"] = saved(rgba.convert("LA"), "PNG")
    found["png i16"] = saved(sixteen, "PNG")
    found["png transparent"] = saved(plain["p"], "PNG", transparency=3)
    found["jpeg cmyk"] = saved(tiff["cmyk"], "JPEG")
    found["jpeg grey"] = saved(grey, "JPEG")
    found["jpeg progressive"] = saved(rgb, "JPEG", progressive=True)
    found["mpo"] = saved(rgb, "MPO", save_all=True, append_images=[rgb])
    found["webp lossless"] = saved(rgba, "WEBP", lossless=True)
    found["webp moving"] = saved(rgb, "WEBP", save_all=True, append_images=[grey.convert("RGB")])
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        found[f"{format} turned"] = saved(rgb, format, exif=exif)
    return found | telephone_photographs(rgb)


def telephone_photographs(rgb: Image.Image) -> dict[str, bytes]:
    """Return a HEIF file, where there is the package that reads it."""
    if importlib.util.find_spec("pillow_heif") is None:
        return {}
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(rgb).save(file)
    return {"heif": file.getvalue()}


def strangers() -> dict[str, bytes]:
    """Return files that Pillow would open and that are none of the formats: one of them runs a program."""
    rgb = Image.new("RGB", (19, 13), (10, 200, 30))
    found = {
        format: saved(rgb, format) for format in ("EPS", "GIF", "PPM", "TGA", "PCX", "ICO", "PDF", "SGI")
    }
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file closefile\n%%EOF\n"
    found["program"] = page
    found["text"] = b"no picture at all\r\n"
    found["empty"] = b""
    found["page"] = b"<!doctype html><title>404</title>"
    found["telephone"] = struct.pack(">I", 24) + b"ftypheic" + bytes(60)
    found["avif"] = struct.pack(">I", 24) + b"ftypavif" + bytes(60)
    return found


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """Return the file that `image` makes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# --- Damage ---


def flip(rng: np.random.Generator, data: bytes) -> bytes:
    """Return `data` with some bits turned over."""
    damaged = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 9)):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwrite(rng: np.random.Generator, data: bytes) -> bytes:
    """Return `data` with a telling number in it, of one, two or four bytes of either order."""
    size = int(rng.choice([1, 2, 4]))
    number = int(rng.choice(_NUMBERS)) % (1 << 8 * size)
    place = int(rng.integers(min(len(data), 200) if rng.random() < 0.7 else len(data)))
    written = number.to_bytes(size, "big" if rng.random() < 0.5 else "little")
    return data[:place] + written + data[place + size :]


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    """Return the beginning of `data`."""
    return data[: rng.integers(len(data))]


def remove(rng: np.random.Generator, data: bytes) -> bytes:
    """Return `data` without a part of it."""
    first, last = sorted(int(place) for place in rng.integers(len(data), size=2))
    return data[:first] + data[last:]


def repeat(rng: np.random.Generator, data: bytes) -> bytes:
    """Return `data` with a part of it twice."""
    first, last = sorted(int(place) for place in rng.integers(len(data), size=2))
    return data[:last] + data[first:]


def insert(rng: np.random.Generator, data: bytes) -> bytes:
    """Return `data` with noise in it."""
    place = int(rng.integers(len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 40))) + data[place:]


MUTATIONS: tuple[Mutation, ...] = (flip, flip, overwrite, overwrite, overwrite, cut, remove, repeat, insert)


def with_checksums(data: bytes) -> bytes:
    """Return a damaged PNG file with right checksums, so that not only they are put to the test."""
    whole, place = data[:8], 8
    while place + 12 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        body = data[place + 4 : place + 8 + length]
        whole += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += length + 12
    return whole + data[place:]


def attacks(number: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield attacks, the same for a `number` every time: what they were made of, a suffix, the file."""
    whole, rng = seeds(), np.random.default_rng(number)
    yield from ((f"whole {name}", "png", data) for name, data in whole.items())
    yield from (
        (f"stranger {name}", suffix, data) for name, data in strangers().items() for suffix in SUFFIXES
    )
    for i in range(number):
        name = str(rng.choice(list(whole)))
        data = whole[name]
        for _ in range(rng.integers(1, 4)):
            data = MUTATIONS[rng.integers(len(MUTATIONS))](rng, data) or b"\x00"
        if data[:4] == b"\x89PNG" and i % 4:
            data = with_checksums(data)
        yield f"{name} {i}", str(rng.choice(SUFFIXES)), data


# --- What comes of it ---


class OutcomeError(Exception):
    """What is wrong about the outcome of an attack."""


def tried(way: Callable[[Path], object], path: Path) -> object:
    """Return what `way` makes of the file, or None when it gives a sentence."""
    try:
        return way(path)
    except DataError as error:
        said = str(error)
        if not said.isprintable() or str(path) not in said or len(said) > 500:
            raise OutcomeError(f"{way.__name__}: {said!r} is no sentence that names the file") from None
        return None
    except BaseException as error:
        raise OutcomeError(f"{way.__name__}: {type(error).__name__}: {error}") from None


def outcome(path: Path) -> str:
    """Read the file in every way and return "picture", "sentence", or what is wrong about it."""
    try:
        picture, grey, size = (tried(way, path) for way in (read_picture, read_grey, upright_size))
    except OutcomeError as wrong:
        return str(wrong)
    if not isinstance(picture, Image.Image) or not isinstance(grey, Image.Image):
        return "sentence" if picture is None and grey is None else "a picture or a mask, but not both"
    if (picture.mode, grey.mode) != ("RGB", "L") or not picture.size == grey.size == size:
        return f"a picture {picture.mode} {picture.size}, a mask {grey.mode} {grey.size}, {size} expected"
    if picture.width * picture.height < 1e7 and Transform(64, 56).image(picture).shape != (3, 56, 56):
        return "a picture that cannot be brought to size"
    return "picture"


class Watch:
    """What a process does that reading should not: programs it starts, files it opens for writing."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in PROGRAMS or (event == "open" and int(str(arguments[2])) & WRITING):
            self.seen.append(f"{event} {arguments[0]!r}"[:200])


def main() -> None:
    """Run the attacks."""
    number, folder = int(sys.argv[1]), Path(sys.argv[2])
    warnings.simplefilter("ignore")
    watch = Watch()
    status = Path("/proc/self/statm").read_text().split()
    limit = int(status[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts, wrong = {"picture": 0, "sentence": 0}, {}
    for name, suffix, data in attacks(number):
        path = folder / f"attack.{suffix}"
        path.write_bytes(data)
        print(json.dumps({"attack": name}), flush=True)
        watch.on = True
        result = outcome(path)
        watch.on = False
        expected = {"whole": "picture", "stranger": "sentence"}.get(name.split()[0], result)
        if result not in counts or result != expected or watch.seen:
            wrong[name] = [result, *watch.seen]
            watch.seen.clear()
        else:
            counts[result] += 1
    watch.on = True
    sys.audit("subprocess.Popen", "to see that it would be heard", [], None, None)
    print(json.dumps({"counts": counts, "wrong": wrong, "heard": len(watch.seen)}))


if __name__ == "__main__":
    main()
