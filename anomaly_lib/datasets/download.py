"""Public data sets from where their authors offer them: resumed, checked, unpacked into one folder."""

import errno
import hashlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from anomaly_lib.datasets.archives import Archive
from anomaly_lib.datasets.unpacking import unpack
from anomaly_lib.errors import DataError, ParameterError, first_line
from anomaly_lib.files import locked
from anomaly_lib.progress import Progress, silent

log = logging.getLogger(__name__)

# Bytes at a time, seconds to wait for some, and times to go on after a broken connection.
_CHUNK, _PATIENCE, _TRIES = 2**20, 60, 5

# Seconds before it is gone on with.
_PAUSE = 1.0

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG}

# HTTP: the file has nothing after the place from which the rest was asked for.
_NOTHING_AFTER = 416


def download(
    archive: Archive, folder: Path, categories: Sequence[str] = (), progress: Progress = silent
) -> list[str]:
    """Download a data set into `folder` and return the names of its categories, or of those asked for.

    What was downloaded before an interruption stays beside the categories and is gone on with. Categories
    that are there already are left as they are.

    Raises
    ------
    DataError
        When there is no connection or too little space, the file is not the one that is known, or it would
        write anywhere else.
    ParameterError
        When it has no such category.
    """
    if unknown := sorted(set(categories) - set(archive.categories)):
        raise ParameterError(
            f"{archive.name} has no category {unknown[0]!r}: it has {', '.join(archive.categories)}"
        )
    folder = Path(folder)
    chosen = tuple(categories) or archive.categories
    with locked(folder):
        wanted = [name for name in chosen if not (folder / name).exists()]
        if wanted:
            file = folder / f".{PurePosixPath(archive.address).name}.part"
            _fetch(archive, file, progress)
            unpack(archive, file, folder, wanted, progress)
            file.unlink()
    return list(chosen)


def _fetch(archive: Archive, file: Path, progress: Progress) -> None:
    """Bring `file` to the whole archive; from where it ends, if it has a beginning."""
    if _is_whole(archive, file):
        return
    for attempt in range(1, _TRIES + 1):
        try:
            _append(archive, file, progress)
            break
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            if getattr(error, "code", None) == _NOTHING_AFTER:
                file.unlink()  # it is as long as the archive, and another one
            elif attempt == _TRIES or _is_final(error):
                raise DataError(
                    f"cannot download {archive.name} ({first_line(error)}): connect to the internet and type "
                    f"the same again, which goes on from here, or save {archive.address} as {file}"
                ) from None
            log.info("the connection broke (%s); going on", first_line(error))
            time.sleep(_PAUSE)
    if not _is_whole(archive, file):
        file.unlink(missing_ok=True)
        raise DataError(
            f"what {archive.address} gave is not the {archive.name} that is known (another checksum): it was "
            "removed; try again, and if it stays so, the data set has changed"
        )


def _append(archive: Archive, file: Path, progress: Progress) -> None:
    begun = file.stat().st_size if file.exists() else 0
    request = urllib.request.Request(archive.address, headers={"Range": f"bytes={begun}-"} if begun else {})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        if answer.status != 206:  # from the beginning, whatever was asked for
            begun = 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = begun + length
        free = shutil.disk_usage(file.parent).free
        if free < length + archive.unpacked:
            raise DataError(
                f"{archive.name} takes {(length + archive.unpacked) / 1e9:.1f} GB for a while, and there are "
                f"{free / 1e9:.1f} GB in {file.parent}: free some, or name another folder"
            )
        with file.open("r+b" if begun else "wb") as stream:
            stream.seek(begun)
            for done in _copied(answer, stream):
                progress("download", min(begun + done, total), max(total, begun + done))
            if length and stream.tell() < total:
                raise http.client.IncompleteRead(b"", total - stream.tell())


def _copied(answer: http.client.HTTPResponse, stream: IO[bytes]) -> Iterator[int]:
    done = 0
    while chunk := answer.read(_CHUNK):
        stream.write(chunk)
        done += len(chunk)
        yield done


def _is_whole(archive: Archive, file: Path) -> bool:
    if not file.exists():
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == archive.sha256


def _is_final(error: BaseException) -> bool:
    """Whether trying again gives the same answer."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500
