"""Give what belongs to root in some folders, and only that, to a user: ``give_away.py UID GID FOLDER...``.

Root walks here through folders in which others write at the same time. So no path is looked up twice: a name
is opened in its open folder, without following a link, and the handle that is looked at is the one that
changes its owner. Other mounts, devices and files with a second hard link, perhaps elsewhere, stay root's.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEEPEST = 300  # folders in folders: more than results have, less than Python's stack holds


@contextmanager
def opened(name: str, folder: int | None = None) -> Iterator[int]:
    """Open a name, whatever it is, to look at it and not to read it."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def path_of(handle: int) -> Path:
    """Return a path that leads to what is open, and nowhere else."""
    return Path(f"/proc/self/fd/{handle}")


def mount_of(handle: int) -> str:
    """Return the number of an open file's mount; each bind mount has its own, even of the same device."""
    lines = Path(f"/proc/self/fdinfo/{handle}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def names_in(folder: int) -> list[str]:
    """Return the names in an open folder, none when it may not be read."""
    with suppress(OSError):
        return [path.name for path in path_of(folder).iterdir()]
    return []


def give_away(handle: int, owner: tuple[int, int], mount: str, depth: int = 0) -> Iterator[Path]:
    """Give an open file or folder of root's, and what is in it, to `owner`; yield the hard links left out."""
    status = os.fstat(handle)
    folder = stat.S_ISDIR(status.st_mode)
    device = stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)
    if device or not (folder or status.st_uid == 0) or depth > DEEPEST or mount_of(handle) != mount:
        return
    if folder:  # what is in it comes first: this root has not the power to enter what is not its own
        for name in names_in(handle):
            with suppress(OSError), opened(name, handle) as child:  # it may be gone meanwhile
                yield from give_away(child, owner, mount, depth + 1)
    if status.st_uid == 0 and (folder or status.st_nlink == 1):
        os.chown(path_of(handle), *owner)
    elif status.st_uid == 0:
        yield path_of(handle).readlink()


def main(uid: str, gid: str, *folders: str) -> None:
    """Give root's part of the folders to a user, and say once a folder what was left out."""
    for top in folders:
        linked = []
        with suppress(OSError), opened(top) as handle:
            linked = list(give_away(handle, (int(uid), int(gid)), mount_of(handle)))
        if linked:
            name = f"./{os.path.relpath(linked[0], Path(top).parent)}"
            more = f" and {len(linked) - 1} more" if len(linked) > 1 else ""
            print(
                f"{name!r}{more}: stays root's for its second hard link, replace it by a copy.",
                file=sys.stderr,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
