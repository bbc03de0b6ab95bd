"""What is in the folders of a data set: nothing that is not read is left out without a word."""

import errno
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path

from anomaly_lib.datasets.formats import SUFFIXES
from anomaly_lib.errors import DataError, one_line

# What systems leave behind; so are names that begin with a dot.
_HIDDEN = {"thumbs.db", "desktop.ini"}


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files in `folder` by name; a warning counts and names what else is there.

    A folder that does not exist holds none.

    Raises
    ------
    DataError
        When the folder or one of its pictures cannot be looked at, or a name is not UTF-8.
    """
    found = entries(folder)
    pictures = [path for path in found if path.suffix.lower() in SUFFIXES and stat.S_ISREG(_mode(path))]
    for path in pictures:
        check_name(path)
    kinds = " ".join(sorted(SUFFIXES))
    _warn_of_rest(folder, set(found).difference(pictures), f"pictures are files that end in {kinds}")
    return pictures


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files in `folder` and the folders in it, by name; errors and warning as above.

    Links to folders are not followed, since they may lead back.
    """
    found = entries(folder)
    folders = [path for path in found if not path.is_symlink() and stat.S_ISDIR(_mode(path))]
    pictures = [path for path in found if path.suffix.lower() in SUFFIXES and stat.S_ISREG(_mode(path))]
    kinds = " ".join(sorted(SUFFIXES))
    rest = set(found).difference(folders, pictures)
    _warn_of_rest(folder, rest, f"pictures are files that end in {kinds}")
    return sorted(pictures + [path for inner in folders for path in pictures_below(inner)])


def folders_in(folder: Path, only: Sequence[str] = ()) -> list[str]:
    """Return the names of the folders in `folder`, or `only` these; errors and warning: see `pictures_in`."""
    found = entries(folder)
    folders = [path for path in found if stat.S_ISDIR(_mode(path)) and (not only or path.name in only)]
    for path in folders:
        check_name(path)
    wanted = f"only {', '.join(only)} is read" if only else "pictures belong in folders in it"
    _warn_of_rest(folder, set(found).difference(folders), wanted)
    return [path.name for path in folders]


def entries(folder: Path) -> list[Path]:
    """Return what is in `folder`, sorted, without what is hidden; nothing when there is no such folder."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        if folder.is_symlink():
            raise DataError(f"the folder {folder} is a link that leads nowhere: mend or remove it") from None
        return []
    except NotADirectoryError:
        raise DataError(f"{folder} is no folder: remove it, or put a folder in its place") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot look into {folder} ({_said(error)}): mend it or its permissions") from None
    return [path for path in found if path.name[0] != "." and path.name.lower() not in _HIDDEN]


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder; a warning names it when that cannot be found out."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        warnings.warn(one_line(f"cannot look into {path} ({_said(error)}): it is left out"), stacklevel=2)
        return False


def check_name(path: Path) -> None:
    """Refuse a name that cannot be written into a table or a model's file."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of {path} is not UTF-8: rename it") from None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        nowhere = getattr(error, "errno", None) in (errno.ENOENT, errno.ELOOP)
        kind = "a link that leads nowhere" if nowhere else "not to be looked at"
        raise DataError(f"{path} is {kind} ({_said(error)}): mend or remove it") from None


def _warn_of_rest(folder: Path, rest: set[Path], wanted: str) -> None:
    if not rest:
        return
    names = sorted(path.name for path in rest)
    named = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    number = "1 entry is" if len(names) == 1 else f"{len(names)} entries are"
    warnings.warn(one_line(f"{folder}: {number} not read ({named}): {wanted}"), stacklevel=2)


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
