"""The tables of the Gaussian-AD paper: their grids, resumed runs, and a real small table."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from running import error_of

from anomaly_lib import Gaussian, Transform, read_category
from anomaly_lib.__main__ import main as anomaly
from anomaly_lib.datasets.mvtec import ALL_CATEGORIES
from anomaly_lib.errors import DataError, ParameterError, WeightsError
from anomaly_lib.evaluation import metrics
from anomaly_lib.tables import TABLES, Setting, TableChoice, formatted, run_table, summary
from anomaly_lib.tables import run as module
from anomaly_lib.tables.grids import PAPER, narrowed
from anomaly_lib.tables.run_file import KEY

LITE = "tf_efficientnet_lite0"


def run(*words: object) -> Result:
    return CliRunner().invoke(anomaly, ["tables", *map(str, words)])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, write_category: Any) -> Path:
    """Return two categories of which each has a few images of both kinds."""
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("disc", "ring")):
        write_category(root, name, train=10, good=3, defects={"spot": 3}, seed=seed)
    return root


@pytest.fixture(scope="module")
def first(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Return the folder of table 1 for a network with weights, and what the command printed."""
    folder = tmp_path_factory.mktemp("results")
    return folder, run(1, folder, small, "-a", LITE, "--fold", "0,1", "--imagesize", 64, "--device", "cpu")


def settings(number: int) -> list[str]:
    return [setting.title for setting in TABLES[number].settings]


def test_the_grids_are_the_authors() -> None:
    assert settings(1) == ["efficientnet-b4 l2", "efficientnet-b4 sed", "efficientnet-b4"]
    assert settings(2) == [f"efficientnet-b{number}" for number in range(8)]
    assert [title.removeprefix("efficientnet-b4 ") for title in settings(3)] == [
        "pca 0.99",
        "pca 0.95",
        "npca 0.99",
        "npca 0.999",
        "npca 0.9999",
    ]
    assert len(settings(4)) == 4
    assert TABLES[4].levels == (6,)
    assert [number for number in TABLES if TABLES[number].augment] == [4]
    assert settings(7) == ["resnet18", "resnet34", "resnet50"]


def test_archs_of_the_table_narrow_it_and_others_replace_its_own(small: Path) -> None:
    def titles(number: int, *archs: str) -> list[str]:
        return [s.title for s in narrowed(TABLES[number], TableChoice(small, archs=archs)).settings]

    assert titles(2, "efficientnet-b3", "efficientnet-b1") == ["efficientnet-b3", "efficientnet-b1"]
    assert titles(1, LITE) == [f"{LITE} l2", f"{LITE} sed", LITE]
    assert titles(4, "efficientnet-b0") == [
        "efficientnet-b0 pca 0.99",
        "efficientnet-b0",
        "efficientnet-b0 npca 0.99",
    ]
    assert titles(4, LITE) == [f"{LITE} pca 0.99", LITE, f"{LITE} npca 0.99"]
    assert titles(7, LITE, "resnet18") == [LITE, "resnet18"]


def test_a_real_small_table_is_printed_and_written(first: tuple[Path, Result]) -> None:
    folder, result = first
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == f"Results: {folder / 'table1.csv'}"
    assert [line.split()[0] for line in lines[2:12]] == [*(f"level_{i}" for i in range(9)), "sum"]
    assert "±" in lines[-2]
    table = pd.read_csv(folder / "table1.csv", header=[0, 1], index_col=0)
    assert list(table.columns) == [
        (title, kind) for title in (f"{LITE} l2", f"{LITE} sed", LITE) for kind in ("mean", "sem")
    ]
    assert table.loc["sum", (LITE, "mean")] > 90
    runs = pd.read_csv(folder / "table1_runs.csv")
    assert len(runs) == 3 * 2 * 2


def test_every_network_with_installed_weights_has_its_column(small: Path, tmp_path: Path) -> None:
    names = [f"tf_efficientnet_lite{number}" for number in range(3)]
    archs = [word for name in names for word in ("-a", name)]
    words = ("-d", "disc", "--fold", 0, "--imagesize", 64, "--device", "cpu")
    result = run(2, tmp_path, small, *archs, *words)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "table2.csv", header=[0, 1], index_col=0)
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == names
    means = table.xs("mean", axis=1, level=1)
    assert means.notna().all(axis=None)
    assert (means.loc["sum"] > 60).all()


def test_a_run_is_the_detector_s_own_result(first: tuple[Path, Result], small: Path) -> None:
    runs = pd.read_csv(first[0] / "table1_runs.csv")
    runs = runs[(runs["category"] == "ring") & (runs["fold"] == 1)].set_index("distance")
    category = read_category(small, "ring")
    for distance in ("mahalanobis", "sed"):
        square = Transform(64, square=True)
        detector = Gaussian(LITE, distance=distance, fold=1, transform=square, device="cpu", precision="fp32")
        with pytest.warns(UserWarning, match="too few"):
            detector.fit(category.train_images(detector.transform))
        scores = detector.score(category.test_images(detector.transform))
        assert runs.loc[distance, "sum"] == pytest.approx(metrics.auroc(scores.image, category.labels))
        for name, part in scores.parts.items():
            assert runs.loc[distance, name] == pytest.approx(metrics.auroc(part.image, category.labels))


def test_an_interrupted_table_goes_on_where_it_was(
    first: tuple[Path, Result], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = pd.read_csv(first[0] / "table1_runs.csv", dtype=str, keep_default_na=False)
    runs[runs["category"] == "disc"].to_csv(tmp_path / "table1_runs.csv", index=False)
    options = first[0] / "table1_runs.json"
    (tmp_path / options.name).write_text(options.read_text())
    asked = []
    measure = module._measure
    monkeypatch.setattr(module, "_measure", lambda *args: asked.append(args[1].name) or measure(*args))
    choice = TableChoice(small, folds=(0, 1), archs=(LITE,), imagesize=64, device="cpu")
    run_table(1, tmp_path, choice)
    assert asked == ["ring"]
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "table1.csv"), pd.read_csv(first[0] / "table1.csv"), rtol=1e-9
    )
    run_table(1, tmp_path, choice)
    assert asked == ["ring"]
    with pytest.raises(ParameterError, match=r"begun with another imagesize \(64, now 96\)"):
        run_table(1, tmp_path, TableChoice(small, archs=(LITE,), imagesize=96, device="cpu"))


def test_missing_weights_are_reported_and_skipped(small: Path, tmp_path: Path) -> None:
    words = ("-d", "disc", "--fold", 0, "--imagesize", 64, "--device", "cpu")
    result = run(7, tmp_path, small, "-a", "resnet18", "-a", LITE, *words)
    assert result.exit_code == 0, result.output
    assert "resnet18 is left out: no weights for backbone 'resnet18.tv_in1k'" in result.stderr
    assert "Without weights, left out: resnet18" in result.stdout
    with pytest.raises(WeightsError, match="no weights"):
        run_table(7, tmp_path / "none", TableChoice(small, ("disc",), (0,), ("resnet34",), device="cpu"))


def test_table_4_has_alarms_at_sigmas_of_augmented_fits(small: Path, tmp_path: Path) -> None:
    words = ("-a", LITE, "--fold", 0, "--imagesize", 64, "--device", "cpu", "--augment_passes", 2)
    assert "not known what leaves good parts of 'disc' good" in error_of(run(4, tmp_path, small, *words))
    result = run(4, tmp_path, small, *words, "--augmentations", "flip,noise")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "table4.csv", header=[0, 1], index_col=0)
    assert list(table.index) == [*(f"sigma_{sigma}" for sigma in range(1, 6)), "AUROC"]
    assert list(table.columns.get_level_values(1)) == ["fpr", "tpr"] * 3
    rates = table.drop(index="AUROC")
    assert (rates.diff().dropna() <= 0).all(axis=None)
    assert rates.min(axis=None) >= 0
    assert rates.max(axis=None) <= 100
    options = json.loads((tmp_path / "table4_runs.json").read_text())
    assert options["augmentations"] == ["flip", "noise"]


def test_means_are_over_categories_and_the_paper_stands_beside_mvtec(small: Path) -> None:
    setting = Setting("efficientnet-b4")
    table = narrowed(TABLES[2], TableChoice(small, archs=(setting.arch,)))
    values = {(name, fold): 0.6 for name in ALL_CATEGORIES for fold in ("0", "1")}
    values |= {("bottle", "0"): 1.0, ("bottle", "1"): 0.8}
    rows = [
        {**dict(zip(("arch", "distance", "reduction", "variance_threshold"), setting.key, strict=True))}
        | {"category": category, "fold": fold, "level_6": value, "sum": value / 2}
        for (category, fold), value in values.items()
    ]
    runs = pd.DataFrame(rows)
    numbers = summary(runs, table, ALL_CATEGORIES, (0, 1))
    assert numbers.loc["level_6", (setting.title, "mean")] == pytest.approx(62)
    assert numbers.loc["level_6", (setting.title, "sem")] == pytest.approx(
        np.std([90, *[60] * 14], ddof=1) / math.sqrt(15)
    )
    assert numbers.loc["level_6", (setting.title, "paper")] == 96.7
    assert numbers.loc["sum", (setting.title, "paper")] == PAPER[setting.arch][-1] == 94.8
    shown = formatted(numbers)
    assert shown.loc["level_6", (setting.title, "mean ± SEM")] == "62.0 ± 2.0"
    assert shown.loc["level_0", (setting.title, "mean ± SEM")] == ""
    others = [
        summary(runs.assign(category="lid"), table, ("lid",), (0, 1)),
        summary(runs, table, ("bottle",), (0, 1)),
        summary(runs, table, ALL_CATEGORIES[1:], (0, 1)),
        summary(runs, table, ALL_CATEGORIES, (0, 1), imagesize=64),
    ]
    for other in others:
        assert "paper" not in other.columns.get_level_values(1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table1_runs.json", ""),
        ("table1_runs.json", "[1, 2]"),
        ("table1_runs.csv", ""),
        ("table1_runs.csv", "no,table\n1,2\n"),
        ("table1_runs.csv", 'arch,"distance\nresnet18'),
        ("table1_runs.csv", f"{','.join(KEY)},sum\n{LITE},l2,none,,disc,0,high\n"),
    ],
)
def test_a_damaged_file_of_runs_is_to_be_removed(
    first: tuple[Path, Result], small: Path, tmp_path: Path, name: str, content: str
) -> None:
    for suffix in ("json", "csv"):
        shutil.copy(first[0] / f"table1_runs.{suffix}", tmp_path)
    (tmp_path / name).write_text(content)
    result = run(1, tmp_path, small, "-a", LITE, "--fold", "0,1", "--imagesize", 64, "--device", "cpu")
    assert error_of(result) == f"{tmp_path / name} is damaged: remove it, and the table is begun anew"
    assert (tmp_path / name).read_text() == content


def test_the_help_lists_the_tables_line_by_line() -> None:
    lines = [line.strip() for line in run("--help").stdout.splitlines()]
    assert "3  PCA and NPCA" in lines
    assert not any("\\b" in line or "\b" in line for line in lines)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, ("--augmentations", "flip")),
        (2, ("--augment_passes", 100)),
        (4, ("--no-augment", "--augmentations", "flip")),
    ],
)
def test_augmentations_of_a_table_that_has_none_are_refused(
    number: int, words: tuple[object, ...], small: Path, tmp_path: Path
) -> None:
    said = error_of(run(number, tmp_path, small, *words))
    assert said.endswith(f"has no effect: nothing is changed for table {number} without --augment")


def test_wrong_choices_are_one_sentence(small: Path, tmp_path: Path, write_category: Any) -> None:
    assert "fold 7: use 0 to 4" in error_of(run(1, tmp_path, small, "--fold", 7))
    unknown = error_of(run(2, tmp_path, small, "--augment", "--augmentations", "flip,foo"))
    assert (
        unknown == "unknown augmentation 'foo': use some of flip, rotate90, rotate45, background_edge, noise"
    )
    assert "'5' is not one of" in error_of(run(5, tmp_path, small))
    assert "no category 'lid'" in error_of(run(1, tmp_path, small, "-d", "lid"))
    assert "'disc' is given 2 times" in error_of(run(1, tmp_path, small, "-d", "disc", "-d", "disc"))
    assert "2**63 - 1" in error_of(run(1, tmp_path, small, "--seed", 2**63))
    assert list(tmp_path.iterdir()) == []
    assert "unknown backbone 'nonsense'" in error_of(run(1, tmp_path, small, "-a", "nonsense"))
    (tmp_path / "empty").mkdir()
    assert "no category in" in error_of(run(1, tmp_path, tmp_path / "empty"))
    write_category(tmp_path / "data", "lid", defects={})
    with pytest.raises(DataError, match="lid has no good or no defective test images"):
        run_table(1, tmp_path / "r", TableChoice(tmp_path / "data"))
