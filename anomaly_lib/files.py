"""Files and folders that are there as a whole or not at all, whoever writes at the same time.

What is being written has a name that begins with ``.unfinished-`` and is locked until it is renamed or
removed. The system lets go of the lock when the writer dies, however that happens: what is not locked any
more was left by a killed writer, and whoever next writes beside it takes it away.
"""

import ctypes
import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from anomaly_lib.errors import LockedError

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept
    fcntl = None  # type: ignore[assignment]

# Of renameat2(2): swap two names in one step.
_CURRENT_DIRECTORY, _EXCHANGE = -100, 2
_UNFINISHED = ".unfinished-"
_LOCK = ".lock"
# What a file system says that has no locks, or none on folders: there nothing is swept.
_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

# Times that a folder is removed into which a thread that is about to end may still put a file.
_REMOVALS = 20

# Bytes of the longest name that common file systems have.
LONGEST_NAME = 255


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside `file` that becomes `file` when the block ends well.

    Raises
    ------
    OSError
        Where it cannot be written; it names `file`, whatever the library that writes says.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _errors_about(file), _unfinished(file.parent, partial(_make_file, file)) as unfinished:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # mkstemp makes it private
        unfinished.replace(file)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes when it fails.

    Where `folder` is there already, the two are swapped in one step, so that a reader, or whoever comes after
    a kill, finds the old one or the new one, and never none. Errors as in `new_file`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _errors_about(folder), _unfinished(folder.parent, partial(_make_folder, folder)) as unfinished:
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        while not _moved_in(unfinished, folder):
            pass  # another process put its own there in between, or took it away


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Have `folder`, which is made where it is missing, to oneself among all that ask for this lock.

    It is a lock of the system on ``.lock`` in it, which ends with the process that holds it.

    Raises
    ------
    LockedError
        When another process or thread has it and this one does not `wait`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise LockedError(f"{folder} is in use by another process: wait for it, or choose another") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def written_in_full(file: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn `errors` of a library that writes `file` into an `OSError` that names it, as for a full disk."""
    try:
        yield
    except errors as error:
        number = re.search(r"os error (\d+)", str(error))  # as Rust says it
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(file)) from error


def sweep_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder`, and nothing that is being written."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            handle = _lock(path)
            try:
                _remove(path)
            finally:
                os.close(handle)


def file_name(name: str, suffix: str = "") -> str:
    """Return the name of the file for what is called `name`: a too long one has a checksum for its end."""
    if len(os.fsencode(name + suffix)) <= LONGEST_NAME:
        return name + suffix
    checksum = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix}"
    start = os.fsencode(name)[: LONGEST_NAME - len(os.fsencode(checksum))]
    return start.decode(errors="ignore") + checksum


@contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    """Let errors of the system that name nothing, or a temporary name, name `path` instead."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # as Pillow's encoders raise it
            error.errno, error.strerror = errno.EIO, str(error)
        if error.filename is None or _UNFINISHED in str(error.filename):
            error.filename = str(path)
            del error.filename2  # of a rename
        raise


def _make_file(file: Path) -> str:
    suffix = file.suffix if len(os.fsencode(file.suffix)) < LONGEST_NAME // 2 else ""
    handle, name = tempfile.mkstemp(suffix, _UNFINISHED, file.parent)
    os.close(handle)
    return name


def _make_folder(folder: Path) -> str:
    return tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent)


@contextmanager
def _unfinished(parent: Path, make: Callable[[], str]) -> Iterator[Path]:
    """Yield what `make` makes in `parent`, locked; what still has that name at the end is removed."""
    sweep_unfinished(parent)
    try:
        path, handle = _made_and_locked(make)
    except BaseException:  # a signal, just when it was made
        sweep_unfinished(parent)
        raise
    try:
        yield path
    finally:
        _remove(path)
        if handle is not None:
            os.close(handle)


def _made_and_locked(make: Callable[[], str]) -> tuple[Path, int | None]:
    """Return what `make` makes and a descriptor that locks it, or none where there are no locks."""
    while True:
        path = Path(make())
        try:
            return path, _lock(path)
        except (FileNotFoundError, BlockingIOError):
            continue  # swept by another process before it was locked
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return path, None


def _lock(path: Path) -> int:
    """Return a descriptor that locks the file or folder at `path` until it is closed.

    Raises
    ------
    BlockingIOError
        When another has the lock.
    OSError
        When there is nothing any more at `path`, or there are no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path))
    kind = os.O_RDONLY if path.is_dir() else os.O_RDWR
    handle = os.open(path, kind | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), path.lstat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        for _ in range(_REMOVALS):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
    else:
        path.unlink(missing_ok=True)


def _moved_in(unfinished: Path, folder: Path) -> bool:
    """Give `unfinished` the name `folder`; return whether that was possible as things are now."""
    try:
        if not folder.exists():
            unfinished.rename(folder)
        elif not _exchanged(unfinished, folder):
            with _unfinished(folder.parent, partial(_make_folder, folder)) as aside:
                folder.rename(aside / "before")
                unfinished.rename(folder)
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
