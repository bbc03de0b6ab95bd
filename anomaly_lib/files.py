"""Files and folders that are there as a whole or not at all, whoever writes at the same time."""

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Of renameat2(2): swap two names in one step.
_CURRENT_DIRECTORY, _EXCHANGE = -100, 2
_UNFINISHED = ".unfinished-"


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside `file` that becomes `file` when the block ends well."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(file.suffix, _UNFINISHED, file.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # mkstemp makes it private
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes when it fails.

    Where `folder` is there already, the two are swapped in one step, so that a reader, or whoever comes after
    a kill, finds the old one or the new one, and never none.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        while not _moved_in(unfinished, folder):
            pass  # another process put its own there in between, or took it away
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def written_in_full(file: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn `errors` of a library that writes `file` into an `OSError` that names it, as for a full disk."""
    try:
        yield
    except errors as error:
        full = "No space left" in str(error) or "os error 28" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(file)) from error


def sweep_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`, which nobody else may be writing to."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _moved_in(unfinished: Path, folder: Path) -> bool:
    """Give `unfinished` the name `folder`; return whether that was possible as things are now."""
    try:
        if not folder.exists():
            unfinished.rename(folder)
        elif not _exchanged(unfinished, folder):
            aside = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
            try:
                folder.rename(aside / "before")
                unfinished.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step; return whether this system can."""
    if not sys.platform.startswith("linux"):
        return False
    with suppress(AttributeError):  # an old C library
        libc = ctypes.CDLL(None, use_errno=True)
        names = (os.fsencode(one), os.fsencode(other))
        failed = libc.renameat2(_CURRENT_DIRECTORY, names[0], _CURRENT_DIRECTORY, names[1], _EXCHANGE)
        if not failed:
            return True
        if ctypes.get_errno() == errno.ENOENT:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(other))
    return False  # a file system that cannot


def _umask() -> int:
    """Return the process's mask without changing it for other threads, where that is possible."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("Umask:")[1].split()[0], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
