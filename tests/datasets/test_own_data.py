"""Data of one's own: a folder of good parts, a table, a class; and test images of unknown truth."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from anomaly_lib import load_predictions, load_results, read_category
from anomaly_lib.__main__ import main
from anomaly_lib.datasets import Category
from anomaly_lib.datasets.choice import DataChoice
from anomaly_lib.datasets.mvtec import LabelledImage
from anomaly_lib.datasets.own import read_folder, read_own, read_table, split
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.evaluation.measures import RESULT_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Folders of noise: 20 good parts, and defects of two kinds with masks."""
    rng = np.random.default_rng(0)
    for name, number in (("good", 20), ("bad/dent", 3), ("bad/scratch", 2)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(number):
            pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:03}.png")
    for defect, suffix in (("dent", ""), ("scratch", "_mask")):
        (tmp_path / "masks" / defect).mkdir(parents=True)
        for file in (tmp_path / "bad" / defect).iterdir():
            mask = Image.new("L", (80, 60))
            mask.paste(255, (10, 10, 30, 30))
            mask.save(tmp_path / "masks" / defect / f"{file.stem}{suffix}.png")
    return tmp_path


def names(paths: Any) -> list[str]:
    return [path.name for path in paths]


def train(results: Path, *words: object) -> Result:
    line = ["train", "--device", "cpu", str(results), "gaussian", "--weights", "random"]
    return CliRunner().invoke(main, [*line, "dataset", "--resize", "64", *map(str, words)])


# --- A folder of photographs ---


def test_the_good_ones_are_split_by_the_seed_and_the_defects_are_tested_on(photographs: Path) -> None:
    category = read_folder(photographs / "good", photographs / "bad", photographs / "masks", 0.25, seed=1)
    good = [image.path for image in category.test if not image.anomalous]
    assert (category.name, len(category.train), len(good)) == ("good", 15, 5)
    assert sorted(names([*category.train, *good])) == names(sorted((photographs / "good").iterdir()))
    assert [image.defect for image in category.test[5:]] == ["dent"] * 3 + ["scratch"] * 2
    masks = [image.mask for image in category.test[5:] if image.mask]
    assert names(masks) == ["000.png", "001.png", "002.png", "000_mask.png", "001_mask.png"]
    again, other = (read_folder(photographs / "good", test_share=0.25, seed=seed) for seed in (1, 2))
    assert again.train == category.train
    assert other.train != category.train


def test_pictures_that_show_the_same_stay_on_one_side(photographs: Path) -> None:
    for i in range(5):  # each of the first five also as JPEG and at half its size
        with Image.open(photographs / "good" / f"{i:03}.png") as picture:
            smooth = picture.resize((8, 6)).resize((80, 60))
        smooth.save(photographs / "good" / f"{i:03}.png")
        smooth.save(photographs / "good" / f"again_{i}.jpg", quality=95)
        smooth.resize((40, 30)).save(photographs / "good" / f"small_{i}.png")
    files = sorted((photographs / "good").iterdir())
    for seed in range(10):
        train_files, test_files = split(files, 0.4, seed)
        assert len(train_files) + len(test_files) == 30
        assert 9 <= len(test_files) <= 12
        for i in range(5):
            group = {f"{i:03}.png", f"again_{i}.jpg", f"small_{i}.png"}
            assert len(group & set(names(test_files))) in (0, 3)


def test_what_cannot_be_read_is_counted_and_named(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photographs / "good" / "broken.jpg").write_bytes(b"\xff\xd8")
    (photographs / "good" / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match=r"1 entry is not read \(notes.txt\)"):
        category = read_folder(photographs / "good", test_share=0)
    assert len(category.train) == 20
    assert "1 of 21 pictures cannot be read and are left out" in caplog.text
    assert "broken.jpg" in caplog.text


def test_defects_may_lie_in_one_folder_and_have_no_masks(photographs: Path) -> None:
    category = read_folder(photographs / "good", photographs / "bad" / "dent")
    assert {(image.defect, image.mask) for image in category.test if image.anomalous} == {("defect", None)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: shutil.rmtree(at / "good"), "no folder .*good: give one of pictures of good parts"),
        (lambda at: shutil.rmtree(at / "bad"), "no folder .*bad: give one of pictures of defects"),
        (lambda at: shutil.rmtree(at / "masks"), "no folder .*masks: give one of masks"),
        (lambda at: (at / "masks" / "dent" / "001.png").unlink(), "image without mask: .*001.png"),
        (lambda at: (at / "bad" / "dent" / "001.png").unlink(), "mask without image: .*001.png"),
        (
            lambda at: shutil.copy(at / "masks" / "dent" / "000.png", at / "masks" / "dent" / "000_mask.png"),
            "are masks of one picture",
        ),
        (lambda at: Image.new("L", (5, 5)).save(at / "masks" / "dent" / "000.png"), "is 5 x 5 but its image"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    photographs: Path, change: Callable[[Path], object], said: str
) -> None:
    change(photographs)
    with pytest.raises(DataError, match=said):
        read_folder(photographs / "good", photographs / "bad", photographs / "masks")


def test_masks_without_defects_and_shares_that_make_no_sense_are_refused(photographs: Path) -> None:
    with pytest.raises(ParameterError, match="have no effect"):
        read_folder(photographs / "good", masks=photographs / "masks")
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ParameterError, match="test_share"):
            read_folder(photographs / "good", test_share=share)


def test_a_run_on_a_folder(photographs: Path, tmp_path: Path) -> None:
    words = ("--abnormal", photographs / "bad", "--masks", photographs / "masks", "folder")
    result = train(tmp_path / "r", *words, photographs / "good")
    assert result.exit_code == 0, result.output
    run = tmp_path / "r" / "project" / "group"
    assert list(load_results(run).index) == ["good", "Mean"]
    predictions = load_predictions(run / "predictions" / "good.npz")
    assert predictions.pixelwise_pred.shape == (9, 64, 96)  # whole pictures, in their shape
    assert predictions.imagewise_gt.sum() == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-d", "x", "folder", "good"), "a data set of the kind folder is one category"),
        (("--abnormal", "bad", "mvtec", "good"), "--abnormal has no effect"),
        (("--test_share", "0.1", "mvtec", "good"), "--test_share has no effect"),
        (("--masks", "bad", "csv", "good"), "--masks has no effect"),
        (("--whole", "--imagesize", "64", "mvtec", "good"), "--imagesize has no effect"),
        (("fodler", "good"), "none of mvtec, folder, csv and package.module:Class"),
        (("folder", "nowhere"), "no folder nowhere"),
        (("csv", "nowhere.csv"), "cannot read the table"),
        (("no_such_module:Class", "good"), "the data set no_such_module:Class cannot be used"),
    ],
)
def test_options_that_a_kind_of_data_set_does_not_have_are_refused(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    result = train(tmp_path / "r", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "r").exists()


# --- A table ---


def table(folder: Path, rows: list[dict[str, str]]) -> Path:
    pd.DataFrame(rows).to_csv(folder / "parts.csv", index=False)
    return folder / "parts.csv"


def rows_of(photographs: Path) -> list[dict[str, str]]:
    good = [{"path": f"good/{i:03}.png", "label": "ok"} for i in range(20)]
    bad = [
        {"path": f"bad/dent/{i:03}.png", "label": "dent", "mask": f"masks/dent/{i:03}.png"} for i in range(3)
    ]
    return good + bad


def test_a_table_says_what_pictures_show(photographs: Path) -> None:
    category = read_table(table(photographs, rows_of(photographs)), 0.1)
    assert (category.name, len(category.train), len(category.test)) == ("parts", 18, 5)
    assert sorted(image.defect for image in category.test) == ["dent"] * 3 + ["good"] * 2
    assert all(image.mask for image in category.test if image.anomalous)


def test_a_table_may_say_what_is_trained_on(photographs: Path) -> None:
    rows = [{**row, "split": "test" if i > 14 else "train"} for i, row in enumerate(rows_of(photographs))]
    category = read_table(table(photographs, rows))
    assert names(category.train) == [f"{i:03}.png" for i in range(15)]
    assert len(category.test) == 8


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"path": "good/000.png"}], "no column label"),
        ([{"path": "good/000.png", "label": "good", "x": "1"}], "a column x"),
        ([{"path": "good/999.png", "label": "good"}], "line 2 of .*: there is no file"),
        ([{"path": "", "label": "good"}], "line 2 of .* lacks its path or its label"),
        ([{"path": "bad/dent/000.png", "label": "dent", "split": "train"}], "only good pictures"),
        ([{"path": "bad/dent/000.png", "label": "dent", "split": "test"}], "no good pictures to train on"),
        ([{"path": "good/000.png", "label": "good", "split": "maybe"}], "split is 'maybe'"),
        ([], "cannot read the table|has no rows|no column"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(photographs: Path, rows: list[dict[str, str]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(table(photographs, rows))


# --- A class ---


class OwnData:
    """What a user might write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __iter__(self) -> Iterator[Category]:
        files = sorted((self._folder / "good").iterdir())
        yield Category("first", tuple(files[:10]), (LabelledImage(files[-1], "good", None),))
        yield Category("second", tuple(files[5:15]), ())


def test_a_class_of_ones_own_has_its_categories_without_a_prefix(photographs: Path) -> None:
    both = DataChoice(photographs, name=f"{__name__}:OwnData")
    assert [both.row_name(category) for category in both.read()] == ["first", "second"]
    [second] = DataChoice(photographs, ["second"], f"{__name__}:OwnData").read()
    assert len(second.train) == 10
    with pytest.raises(DataError, match="no category 'third'"):
        DataChoice(photographs, ["third"], f"{__name__}:OwnData").read()


class Twins:
    """Two categories of one name, of which one would be lost."""

    def __init__(self, folder: Path) -> None:
        self._category = Category("one", tuple((folder / "good").iterdir()), ())

    def __iter__(self) -> Iterator[Category]:
        yield from (self._category, self._category)


def test_two_categories_of_one_name_are_refused(photographs: Path) -> None:
    with pytest.raises(DataError, match="two categories called 'one'"):
        read_own(f"{__name__}:Twins", photographs)


def test_a_class_that_is_none_is_one_sentence(photographs: Path) -> None:
    for name in (f"{__name__}:Nothing", f"{__name__}:names", "builtins:str"):
        with pytest.raises(DataError, match="the data set"):
            read_own(name, photographs)


# --- Pictures of unknown truth ---


def results_of(data: Path, results: Path, weights: str) -> pd.DataFrame:
    words = ["gaussian", "--arch", "test_resnet", "--weights", weights, "dataset", "--imagesize", "64"]
    line = ["train", "--device", "cpu", str(results), *words, "mvtec", str(data)]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    return load_results(results / "project" / "group")


def test_pictures_of_unknown_truth_are_scored_and_not_counted(
    small_data: Path, tiny_weights: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_data / "disc", data / "disc")
    without = results_of(data, tmp_path / "without", tiny_weights)
    shutil.copytree(data / "disc/train/good", data / "disc/test/unknown")
    pd.testing.assert_frame_equal(results_of(data, tmp_path / "with", tiny_weights), without)
    predictions = load_predictions(tmp_path / "with/project/group/predictions/mvtec_disc.npz")
    assert len(predictions.imagewise_pred) == 11
    assert len(predictions.judged.imagewise_pred) == 6
    category = read_category(data, "disc")
    assert category.has_label.sum() == 6
    assert not category.labels[~category.has_label].any()


def test_with_unknown_truth_alone_there_is_nothing_to_measure(
    small_data: Path, tiny_weights: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_data / "disc" / "train", data / "disc" / "train")
    shutil.copytree(small_data / "disc" / "test" / "good", data / "disc" / "test" / "unknown")
    assert results_of(data, tmp_path / "r", tiny_weights).loc["mvtec_disc", list(RESULT_COLUMNS)].isna().all()
