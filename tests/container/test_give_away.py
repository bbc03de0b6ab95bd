"""Root's walk through folders that others change meanwhile: nothing outside of them gets a new owner."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from containers import OWNER, REPOSITORY

PROGRAM = REPOSITORY / "docker" / "give_away.py"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to other users")


def give_away(folder: Path) -> str:
    """Run the program and return what it said."""
    command = [sys.executable, "-I", "-S", PROGRAM, *map(str, OWNER), folder]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return root's folder ``work`` with a folder ``results`` and a file ``scores`` in it."""
    (tmp_path / "work" / "results").mkdir(parents=True)
    (tmp_path / "work" / "results" / "scores").touch()
    return tmp_path / "work"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder of root's beside ``work`` that looks like ``results`` and has to stay root's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "scores").write_text("root's")
    return tmp_path / "elsewhere"


def is_roots(folder: Path) -> bool:
    """Whether all of a folder still belongs to root."""
    return all(path.lstat().st_uid == 0 for path in (folder, *folder.rglob("*")))


def test_everything_of_roots_gets_the_owner_whatever_it_is(work: Path) -> None:
    os.mkfifo(work / "pipe")
    (work / "two\nlines").touch()
    (work / "-rf").touch()
    (work / os.fsdecode(b"not \xff text")).touch()
    (work / "link").symlink_to("results")
    (work / "dangling").symlink_to("nowhere")
    (work / "closed").mkdir()
    (work / "closed" / "file").touch()
    (work / "closed").chmod(0o000)
    assert give_away(work) == ""
    for path in (work, *work.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == OWNER, path


def test_what_belongs_to_others_stays_theirs(work: Path) -> None:
    os.chown(work / "results" / "scores", 4321, 4321)
    give_away(work)
    assert (work / "results" / "scores").stat().st_uid == 4321


def test_links_to_files_and_folders_elsewhere_are_not_followed(work: Path, elsewhere: Path) -> None:
    (work / "folder").symlink_to(elsewhere)
    (work / "file").symlink_to(elsewhere / "scores")
    (work / "results" / "up").symlink_to("../..")
    give_away(work)
    assert is_roots(elsewhere)


def test_a_folder_that_is_a_link_itself_is_not_followed(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "link").symlink_to(elsewhere)
    give_away(tmp_path / "link")
    assert is_roots(elsewhere)


def test_a_second_hard_link_stays_roots_and_is_named_in_one_sentence(work: Path, elsewhere: Path) -> None:
    os.link(elsewhere / "scores", work / "planted")
    os.link(elsewhere / "scores", work / "results" / "planted too")
    (said,) = give_away(work).splitlines()
    assert is_roots(elsewhere)
    assert "planted" in said
    assert "and 1 more" in said
    assert "replace it by a copy" in said


def test_devices_stay_roots(work: Path) -> None:
    try:
        os.mknod(work / "disk", 0o660 | 0o060000, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    give_away(work)
    assert (work / "disk").stat().st_uid == 0


def test_a_tree_of_a_thousand_folders_in_each_other_is_no_error(work: Path) -> None:
    here = os.open(work, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("x", dir_fd=here)
        here, above = os.open("x", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        assert give_away(work) == ""
        assert (work / "results").stat().st_uid == OWNER[0]
    finally:
        subprocess.run(["rm", "-r", work / "x"], check=True)  # pytest, which would, cannot


# What somebody who may write in `work` can do while root looks at it.


@pytest.fixture
def program() -> ModuleType:
    """Return the program as a module, to stop it where an attacker would hope to be in time."""
    spec = importlib.util.spec_from_file_location("give_away", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MOMENTS = [(name, number) for name in ("mount_of", "path_of") for number in (1, 2, 3, 4)]
MOMENTS += [("names_in", 1), ("names_in", 2)]


def run_and_act(program: ModuleType, moment: tuple[str, int], act: Callable[[], object], work: Path) -> None:
    """Run the program, and act when its function has returned for the time of that number."""
    name, number = moment
    function = getattr(program, name)
    calls = []

    def wrapper(*arguments: object) -> object:
        value = function(*arguments)
        calls.append(arguments)
        if len(calls) == number:
            act()
        return value

    setattr(program, name, wrapper)
    program.main(*map(str, OWNER), str(work))
    assert len(calls) >= number, "the moment did not come"


def swap(path: Path, other: Callable[[], object]) -> Callable[[], None]:
    """Return an act that moves a path away and puts something else in its place."""

    def act() -> None:
        path.rename(path.with_name("moved away"))
        other()

    return act


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_folder_that_turns_into_a_link_gives_nothing_away(
    program: ModuleType, work: Path, elsewhere: Path, moment: tuple[str, int]
) -> None:
    results = work / "results"
    act = swap(results, lambda: results.symlink_to(elsewhere))
    run_and_act(program, moment, act, work)
    assert is_roots(elsewhere)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_file_that_turns_into_a_link_gives_nothing_away(
    program: ModuleType, work: Path, elsewhere: Path, make: Callable[..., None], moment: tuple[str, int]
) -> None:
    scores = work / "results" / "scores"
    act = swap(scores, lambda: make(elsewhere / "scores", scores))
    run_and_act(program, moment, act, work)
    assert is_roots(elsewhere)


def test_a_file_that_is_gone_is_no_error(program: ModuleType, work: Path) -> None:
    run_and_act(program, ("names_in", 2), (work / "results" / "scores").unlink, work)
    assert (work / "results").stat().st_uid == OWNER[0]
