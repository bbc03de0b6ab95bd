"""What is found in a folder of pictures, and that nothing else in it goes without a word."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomaly_lib.datasets.listing import folders_in, is_folder, pictures_in
from anomaly_lib.errors import DataError


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def said_of_rest(folder: Path) -> str:
    with pytest.warns(UserWarning, match="not read") as warned:
        pictures_in(folder)
    [warning] = warned
    assert str(warning.message).isprintable()
    return str(warning.message)


def test_pictures_are_found_by_their_suffix_in_any_case_and_sorted(tmp_path: Path) -> None:
    names = ["0.TIFF", "1.Jfif", "10.bmp", "2.png", "A.webp", "a.JPG", "b.heic", "c.jpeg", "d.HEIF", "e.tif"]
    wanted = touch(tmp_path, *names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures_in(tmp_path) == wanted


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert pictures_in(tmp_path / "gone") == []
    assert folders_in(tmp_path / "gone") == []


def test_hidden_files_go_without_a_word(tmp_path: Path) -> None:
    touch(tmp_path, ".DS_Store", "._a.png", "Thumbs.db", "desktop.ini")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures_in(tmp_path) == []


def test_one_warning_counts_what_is_not_read_and_names_three(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "notes.txt")
    assert f"{tmp_path}: 1 entry is not read (notes.txt)" in said_of_rest(tmp_path)
    touch(tmp_path, "b.gif", "c.avif", "d")
    said = said_of_rest(tmp_path)
    assert "4 entries are not read (b.gif, c.avif, d, ...)" in said
    assert ".png" in said


def test_folders_and_pipes_that_are_called_like_pictures_are_named(tmp_path: Path) -> None:
    [picture] = touch(tmp_path, "a.png")
    (tmp_path / "b.png").mkdir()
    os.mkfifo(tmp_path / "c.png")
    with pytest.warns(UserWarning, match=r"2 entries are not read \(b\.png, c\.png\)"):
        assert pictures_in(tmp_path) == [picture]


def test_a_link_to_a_picture_is_one_and_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert pictures_in(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png"]
    for target in ("gone.png", "c.png"):
        (tmp_path / "c.png").unlink(missing_ok=True)
        (tmp_path / "c.png").symlink_to(target)
        with pytest.raises(DataError, match=r"c\.png is a link that leads nowhere"):
            pictures_in(tmp_path)


def test_names_that_are_no_line_are_said_in_one(tmp_path: Path) -> None:
    touch(tmp_path, "a\nb.txt", "c\udcff.txt")
    assert r"(a\nb.txt, c\udcff.txt)" in said_of_rest(tmp_path)
    touch(tmp_path, "d\udcff.png")
    with pytest.raises(DataError, match="not UTF-8"):
        pictures_in(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    [file] = touch(tmp_path, "a")
    for find in (pictures_in, folders_in):
        with pytest.raises(DataError, match="is no folder"):
            find(file)
    assert not is_folder(file)
    assert not is_folder(file / "b")
    assert not is_folder(tmp_path / "gone")
    assert is_folder(tmp_path)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Run a test without the rights of root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize("rights", [0o000, 0o100, 0o400])
def test_a_folder_that_may_not_be_read_is_an_error(rights: int, as_nobody: None) -> None:
    folder = Path(tempfile.mkdtemp())
    touch(folder, "a.png")
    folder.chmod(rights)
    try:
        with pytest.raises(DataError, match="Permission denied"):
            pictures_in(folder)
        if rights == 0:
            with pytest.warns(UserWarning, match="Permission denied"):
                assert not is_folder(folder / "train")
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
