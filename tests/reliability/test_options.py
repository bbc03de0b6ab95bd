"""Every option of every command with values of all kinds: it works, or it is one sentence and status 2.

What would take long is replaced at the doors of runs, tables, the sample and the notebook by what only reads
the data and makes the detectors. Nothing is written.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from command_lines import Places, lines, odd_paths
from hypothesis import HealthCheck, given, settings

import anomaly_lib.datasets.arrivals
import anomaly_lib.datasets.download
import anomaly_lib.datasets.sample
import anomaly_lib.runs
import anomaly_lib.runs.answers
import anomaly_lib.runs.fitting
import anomaly_lib.tables
import anomaly_lib.views.notebook_page as page
from anomaly_lib import PatchCore
from anomaly_lib.__main__ import main
from anomaly_lib.datasets import Category
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.tables import run as tables


class NoRun:
    """A run that measured nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def results(self) -> pd.DataFrame:
        columns = ["instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc", "aupro"]
        return pd.DataFrame(columns=columns, dtype=float)


def train(results: Path, make_detector: Callable[..., Any], data: Any, **named: Any) -> NoRun:
    for category in data.read():
        make_detector(category, data.geometry)
    return NoRun(results)


def evaluate(results: Path, sources: Any, data: Any, **named: Any) -> NoRun:
    for category in data.read():
        for source in sources:
            source.require(category, data.geometry)
    return NoRun(results)


def fit_folder(
    good: Path, model: Path, make_detector: Callable[..., Any], geometry: Any, **named: Any
) -> Any:
    detector = make_detector(Category("good", (good,), ()), geometry)
    return SimpleNamespace(sentences=lambda: [f"{detector!r}"])


def run_table(number: int, folder: Path, choice: Any, progress: Any) -> tables.TableResult:
    table = tables.narrowed(tables.TABLES[number], choice)
    tables._read(table, choice)
    for setting in table.settings:
        tables._detector(setting.arch, table, choice)
    return tables.TableResult(pd.DataFrame(), ())


@pytest.fixture(scope="module")
def places(
    small_data: Path, tiny_weights: str, encoder_file: Path, normal_images: Any, tmp_path_factory: Any
) -> Places:
    folder = tmp_path_factory.mktemp("places")
    detector = PatchCore("test_resnet", weights=tiny_weights, transform=Transform(72, 64), device="cpu")
    detector.fit(normal_images).save(folder / "model")
    return Places(small_data, tiny_weights, encoder_file, folder / "model", odd_paths(folder))


@pytest.fixture
def _light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(anomaly_lib.runs, "train", train)
    monkeypatch.setattr(anomaly_lib.runs, "evaluate", evaluate)
    monkeypatch.setattr(anomaly_lib.runs.fitting, "fit_folder", fit_folder)
    monkeypatch.setattr(anomaly_lib.tables, "run_table", run_table)
    monkeypatch.setattr(anomaly_lib.datasets.sample, "generate_sample", lambda path, *_, **more: path)
    monkeypatch.setattr(anomaly_lib.datasets.download, "download", lambda *_: ["bottle"])
    monkeypatch.setattr(anomaly_lib.datasets.arrivals, "arrivals", lambda *_: iter(()))
    monkeypatch.setattr(anomaly_lib.runs.answers, "save_marked_picture", lambda *_: None)
    monkeypatch.setattr(page, "run_notebook", lambda *_: None)
    monkeypatch.setattr(page, "write_page", lambda *_: None)
    monkeypatch.setattr(page, "require_writable", lambda *_: None)


def kind_of(result: Result, words: list[str]) -> str:
    """Return how a line ended, after a look at whether it may end so."""
    said = f"{words}\n{result.output}\n{result.exception!r}"
    assert result.exit_code in (0, 2) or (result.exit_code == 3 and "--fail_on_anomaly" in words), said
    assert "Traceback" not in result.output, said
    if result.exit_code != 2:
        return "success"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    if not errors:  # nothing to do was given, and the help was shown
        assert "Commands:" in result.stderr, said
        return "help"
    assert errors == result.stderr.splitlines()[-1:], said
    assert len(errors[0]) > len("Error: "), said
    return "sentence"


@pytest.mark.usefixtures("_light")
@pytest.mark.parametrize("number", [300, pytest.param(5000, marks=pytest.mark.torture)])
def test_any_line_works_or_is_one_sentence(number: int, places: Places, capsys: Any) -> None:
    counts: Counter[str] = Counter()

    @settings(
        max_examples=number,
        deadline=None,
        derandomize=number < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lines(places))
    def attack(words: list[str]) -> None:
        counts[kind_of(CliRunner().invoke(main, words), words)] += 1

    attack()
    with capsys.disabled():
        print(f" {dict(counts)}", end="")
    assert counts["success"] > number / 50
    assert counts["sentence"] > number / 10
    assert not list(Path().iterdir()), os.listdir()  # noqa: PTH208
