"""Archives of data sets unpacked into one folder and nowhere else, all that is wanted or nothing."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from anomaly_lib.datasets.archives import Archive
from anomaly_lib.datasets.images import read_grey
from anomaly_lib.errors import DataError, first_line
from anomaly_lib.files import replace_folder
from anomaly_lib.progress import Progress

_CHUNK = 2**20
# More text than the table of any data set.
_LONGEST = 2**24

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


class _Member(NamedTuple):
    """A file in an archive."""

    path: PurePosixPath
    content: IO[bytes]


def unpack(archive: Archive, file: Path, folder: Path, wanted: Sequence[str], progress: Progress) -> None:
    """Unpack the categories that are wanted from `file` into `folder`, all of them or none.

    Raises
    ------
    DataError
        When the file is no such archive, lacks a category, or holds what is no file of a data set.
    """
    places: dict[str, Path] = {}
    left = archive.unpacked
    try:
        place = archive.layout(_tables(archive, file))
        with ExitStack() as stack:
            for number, member in enumerate(_members(archive, file), start=1):
                progress("unpack", number, number)
                path = place(member.path)
                if path is None or path.parts[0] not in wanted:
                    continue
                category = path.parts[0]
                if category not in places:
                    places[category] = stack.enter_context(replace_folder(folder / category))
                target = places[category].joinpath(*path.parts[1:])
                left -= _write(member.content, target, left)
                if left < 0:
                    raise DataError(f"{file} unpacks to more than {archive.name} can be: remove it")
                if archive.masks_of_ones and path.parts[1] == "ground_truth":
                    _whiten(target)
            if missing := [name for name in wanted if name not in places]:
                raise DataError(f"{file} lacks the category {missing[0]}: remove it and try again")
    except _DAMAGE as error:
        raise DataError(f"{file} is no archive of {archive.name} ({first_line(error)}): remove it") from None


def _tables(archive: Archive, file: Path) -> dict[str, bytes]:
    """Return the content of the archive's tables; they may lie behind the pictures that they are about."""
    found: dict[str, bytes] = {}
    if archive.tables:
        for member in _members(archive, file):
            if str(member.path) in archive.tables:
                found[str(member.path)] = member.content.read(_LONGEST)
    if missing := set(archive.tables) - set(found):
        raise DataError(f"{file} lacks {min(missing)}: remove it and try again")
    return found


def _members(archive: Archive, file: Path) -> Iterator[_Member]:
    """Yield the plain files of a tar or zip file; their content can be read until the next one."""
    if archive.address.endswith(".zip"):
        with zipfile.ZipFile(file) as zipped:
            for entry in zipped.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                path = _checked(entry.filename, archive, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not entry.is_dir():
                    with zipped.open(entry) as content:
                        yield _Member(path, content)
        return
    with tarfile.open(file) as packed:
        for member in packed:
            path = _checked(member.name, archive, plain=member.isfile() or member.isdir())
            if member.isfile():
                stream = packed.extractfile(member)
                assert stream is not None  # of a file
                with stream:
                    yield _Member(path, stream)


def _checked(name: str, archive: Archive, *, plain: bool) -> PurePosixPath:
    """Return the path of what is a plain file or a folder within the archive."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not plain:
        raise DataError(f"the archive of {archive.name} holds {name!r}, no file of a data set: do not use it")
    return path


def _write(content: IO[bytes], file: Path, most: int) -> int:
    """Write content to a file, not much more than so many bytes, and return how many there were."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with file.open("wb") as stream:
        while written <= most and (chunk := content.read(_CHUNK)):
            written += stream.write(chunk)
    return written


def _whiten(mask: Path) -> None:
    """Make all of a mask white that is not black."""
    white = np.where(np.asarray(read_grey(mask)), 255, 0).astype(np.uint8)
    Image.fromarray(white).save(mask)
