"""``anomaly data``: the sample data set where it is asked for."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from running import error_of, run

from anomaly_lib import find_categories, read_category, sample_folder
from anomaly_lib.__main__ import main as anomaly
from anomaly_lib.datasets import download as downloads
from anomaly_lib.datasets.archives import MVTEC_AD
from anomaly_lib.datasets.sample import generate


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generate few images."""
    for name, count in (("TRAIN", 1), ("TEST_GOOD", 1), ("TEST_DEFECTIVE", 6)):
        monkeypatch.setattr(generate, name, count)


@pytest.mark.slow
def test_the_sample_is_made_in_the_folder_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(anomaly, ["data", "sample", str(tmp_path / "here"), "--seed", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Sample data set: {tmp_path / 'here'}\n"
    assert "\r" not in result.stderr
    names = find_categories(tmp_path / "here")
    assert names
    for name in names:
        category = read_category(tmp_path / "here", name)
        assert category.labels.any()
        assert category.has_mask.all()


def test_without_a_folder_it_is_made_in_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOMALY_WORK", str(tmp_path / "work"))
    asked: list[tuple[Path, int]] = []

    def generate_sample(root: Path, seed: int, progress: object) -> Path:
        asked.append((root, seed))
        return root

    monkeypatch.setattr("anomaly_lib.datasets.sample.generate_sample", generate_sample)
    assert CliRunner().invoke(anomaly, ["data", "sample"]).exit_code == 0
    assert asked == [(sample_folder(), 0)]
    assert sample_folder() == tmp_path / "work" / "data" / "sample"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    result = CliRunner().invoke(anomaly, ["data", "sample", str(tmp_path / "file" / "sample")])
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_number_that_is_no_seed_is_one_sentence(seed: int, tmp_path: Path) -> None:
    result = CliRunner().invoke(anomaly, ["data", "sample", str(tmp_path / "sample"), "--seed", str(seed)])
    assert result.exit_code == 2
    assert f"{seed} is no seed: give a whole number from 0 to 2**63 - 1" in result.stderr
    assert not (tmp_path / "sample").exists()


def test_check_ends_with_1_when_something_would_spoil_results(small_data: Path, tmp_path: Path) -> None:
    shutil.copytree(small_data, tmp_path / "data")
    result = run(["data", "check", str(tmp_path / "data"), "-d", "disc"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "disc"
    assert result.stdout.splitlines()[-1] == "nothing would spoil the results"
    shutil.copy(tmp_path / "data/disc/train/good/000.png", tmp_path / "data/disc/test/good/x.png")
    result = run(["data", "check", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert "  PROBLEM: " in result.stdout
    assert result.stdout.splitlines()[-1] == "problems: 1"


def test_check_of_nothing_is_a_sentence(small_data: Path, tmp_path: Path) -> None:
    assert "does not exist" in error_of(run(["data", "check", str(tmp_path / "none")]))
    assert "no category 'x'" in error_of(run(["data", "check", str(small_data), "-d", "x"]))


def test_the_licence_is_shown_and_accepted_before_anything_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(downloads, "download", lambda *given: calls.append(given) or ["bottle"])
    line = ["data", "download", "mvtec_ad", str(tmp_path / "d"), "--category", "bottle"]
    refused = run(line)
    assert "Creative Commons BY-NC-SA 4.0" in refused.stdout
    assert error_of(refused) == "nothing was downloaded: accept the licence by --accept_licence"
    assert calls == []
    assert run([*line, "--accept_licence"]).exit_code == 0
    assert [call[:3] for call in calls] == [(MVTEC_AD, tmp_path / "d", ("bottle",))]


def test_an_unknown_category_is_named_before_the_download(tmp_path: Path) -> None:
    line = ["data", "download", "mvtec_ad", str(tmp_path / "d"), "--accept_licence", "--category", "x"]
    assert "MVTec AD has no category 'x'" in error_of(run(line))
