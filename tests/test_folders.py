"""Where things are kept when the user does not say."""

from pathlib import Path

import pytest

from anomaly_lib import data_folder, folders, sample_folder, work_folder

REPOSITORY = Path(__file__).resolve().parents[1]


def test_the_work_folder_is_the_one_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANOMALY_WORK", str(tmp_path))
    assert work_folder() == tmp_path
    assert sample_folder() == tmp_path / "data" / "sample"
    assert folders.cache_folder() == tmp_path / "cache"


def test_a_chosen_work_folder_may_be_relative_or_in_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_WORK", "some/where")
    assert work_folder() == tmp_path / "some" / "where"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ANOMALY_WORK", "~/there")
    assert work_folder() == tmp_path / "there"


@pytest.mark.parametrize("value", [None, ""])
def test_otherwise_it_is_the_repositorys_from_any_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_WORK") if value is None else monkeypatch.setenv("ANOMALY_WORK", value)
    assert work_folder() == REPOSITORY / "work"


def test_an_installed_package_keeps_its_work_in_the_current_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_WORK")
    monkeypatch.setattr(folders, "_REPOSITORY", tmp_path / "site-packages")
    assert work_folder() == tmp_path / "work"


def test_the_data_folder_is_the_first_that_is_named_or_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folder() == sample_folder()
    monkeypatch.setenv("MVTECPATH", "mvtec")
    assert data_folder() == Path("mvtec")
    monkeypatch.setenv("ANOMALY_DATA", "mine")
    assert data_folder() == Path("mine")
    monkeypatch.setenv("ANOMALY_DATA", "")
    assert data_folder() == Path("mvtec")
