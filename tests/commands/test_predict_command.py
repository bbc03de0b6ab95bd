"""``anomaly predict``: new pictures, whatever they are, and what is said and kept of them."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from running import error_of

from anomaly_lib import Gaussian, PatchCore, Transform, load_detector, read_category
from anomaly_lib.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
COLUMNS = ["path", "label", "score", "share_of_threshold", "p_value", "error"]


@pytest.fixture(scope="module")
def model(small_data: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    transform = Transform(72, 64)
    disc = read_category(small_data, "disc")
    detector = PatchCore("test_resnet", weights=tiny_weights, coreset=1.0, transform=transform, device="cpu")
    folder = tmp_path_factory.mktemp("models") / "disc"
    detector.fit(disc.train_images(transform)).save(folder)
    return folder


@pytest.fixture
def new(small_data: Path, tmp_path: Path) -> Path:
    """Return a folder of the test pictures, in folders by their defect."""
    shutil.copytree(small_data / "disc" / "test", tmp_path / "new")
    return tmp_path / "new"


def predict(model: Path, *words: object, stdin: str = "") -> Result:
    line = ["predict", "--device", "cpu", str(model), *map(str, words)]
    return CliRunner().invoke(main, line, input=stdin)


def table(file: Path) -> pd.DataFrame:
    frame = pd.read_csv(file)
    assert list(frame.columns) == COLUMNS
    return frame


def test_a_folder_is_answered_line_by_line(model: Path, new: Path) -> None:
    result = predict(model, new)
    assert result.exit_code == 0, result.output
    *lines, summary = [line for line in result.stdout.splitlines() if "crop" not in line]
    assert [line.split()[2] for line in lines] == [str(file) for file in sorted(new.rglob("*.png"))]
    assert {line.split()[0] for line in lines} == {"good", "anomalous"}
    assert all((float(line.split()[1]) >= 1) == (line.split()[0] == "anomalous") for line in lines)
    assert summary == "3 anomalous, 3 good"


def test_the_table_has_the_detectors_own_numbers(model: Path, new: Path, tmp_path: Path) -> None:
    result = predict(model, new, "--output", tmp_path / "answers.csv")
    assert result.exit_code == 0, result.output
    rows = table(tmp_path / "answers.csv")
    assert "anomalous " not in result.stdout
    detector = load_detector(model, device="cpu")
    for row in rows.itertuples():
        answer = detector.predict(row.path)
        assert row.label == answer.label
        assert row.score == pytest.approx(answer.score)
        assert row.share_of_threshold == pytest.approx(answer.share_of_threshold)
        assert row.p_value == pytest.approx(answer.p_value)
        assert math.isnan(row.error)


def test_json_holds_the_same(model: Path, new: Path, tmp_path: Path) -> None:
    predict(model, new, "--output", tmp_path / "a.csv")
    predict(model, new, "--output", tmp_path / "a.json")
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [list(row) for row in rows] == [COLUMNS] * 6
    assert [row["label"] for row in rows] == list(table(tmp_path / "a.csv")["label"])
    assert predict(model, tmp_path / "none.png", "--output", tmp_path / "b.json").exit_code == 2
    assert [row["label"] for row in json.loads((tmp_path / "b.json").read_text())] == ["unreadable"]


def test_files_patterns_and_lists_mean_the_same(model: Path, new: Path) -> None:
    files = sorted(new.glob("good/*.png"))
    ways = [
        predict(model, *files),
        predict(model, new / "good" / "*.png"),
        predict(model, new / "good"),
        predict(model, "-", stdin="".join(f"{file}\n" for file in files)),
    ]
    assert len({way.stdout for way in ways}) == 1
    assert ways[0].stdout.splitlines()[-1] == "3 good"


def test_pictures_of_all_sizes_and_kinds_are_answered_and_the_rest_is_named(
    model: Path, new: Path, tmp_path: Path
) -> None:
    picture = Image.open(new / "good" / "000.png")
    for number, mode in enumerate(("L", "RGBA", "P", "CMYK")):
        picture.convert(mode).resize((90 + number, 80)).save(
            new / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        )
    (new / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (new / "notes.txt").write_text("notes")
    result = predict(model, new, "--output", tmp_path / "answers.csv")
    assert result.exit_code == 0, result.output
    assert "1 entry is not read (notes.txt)" in result.stderr
    rows = table(tmp_path / "answers.csv").set_index("path")
    assert len(rows) == 11
    broken = rows.loc[str(new / "broken.jpg")]
    assert broken["label"] == "unreadable"
    assert "cannot read the image" in broken["error"]
    assert "1 unreadable" in result.stdout
    assert rows["score"].notna().sum() == 10


def test_the_status_says_whether_all_are_good(model: Path, new: Path) -> None:
    assert predict(model, new / "good", "--fail_on_anomaly").exit_code == 0
    assert predict(model, new / "spot", "--fail_on_anomaly").exit_code == 3
    (new / "good" / "x.png").write_text("x")
    assert predict(model, new / "good").exit_code == 0
    assert predict(model, new / "good", "--fail_on_anomaly").exit_code == 3


def test_a_model_without_a_threshold_never_says_good(
    model: Path, new: Path, tmp_path: Path, small_data: Path, tiny_weights: str
) -> None:
    detector = Gaussian("test_resnet", weights=tiny_weights, fold=None, device="cpu")
    one = read_category(small_data, "disc").train_images(detector.transform)
    with pytest.warns(UserWarning, match="threshold"):
        detector.fit(next(iter(one))[:2]).save(tmp_path / "m")
    result = predict(tmp_path / "m", new / "good", "--fail_on_anomaly")
    assert result.exit_code == 3, result.output
    assert result.stdout.splitlines()[-1] == "3 no threshold"


def test_pictures_show_the_whole_original(model: Path, new: Path, tmp_path: Path) -> None:
    result = predict(model, new, "--pictures", tmp_path / "marked")
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "marked").iterdir())
    assert names == ["000.png", "000_1.png", "000_2.png", "001.png", "001_1.png", "002.png"]
    for name in names:
        assert Image.open(tmp_path / "marked" / name).width > 900


def test_originals_are_not_replaced(model: Path, new: Path) -> None:
    before = (new / "good" / "000.png").read_bytes()
    said = error_of(predict(model, new / "good", "--pictures", new / "good"))
    assert said == f"--pictures {new / 'good'} holds the pictures themselves: choose another folder"
    assert (new / "good" / "000.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "which pictures?"),
        (("{new}", "--watch", "{new}"), "which pictures?"),
        (("--watch", "{new}", "--fail_on_anomaly"), "--fail_on_anomaly has no effect"),
        (("{new}", "--output", "a.txt"), "--output a.txt must end in .csv or .json"),
        (("--watch", "{new}", "--output", "a.json"), "--output a.json must end in .csv"),
        (("{new}/none/*.png",), "no file is called as in"),
        (("{new}/none.png",), "none of the pictures could be read"),
        (("{new}/empty",), "there are no pictures"),
        (("-",), "there are no pictures"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    model: Path, new: Path, words: tuple[str, ...], said: str
) -> None:
    (new / "empty").mkdir()
    assert said in error_of(predict(model, *(word.format(new=new) for word in words)))


def test_a_failure_leaves_no_half_table(model: Path, new: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("before")
    predict(model, new / "none" / "*.png", "--output", tmp_path / "a.csv")
    predict(tmp_path / "no_model", new, "--output", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "before"


@pytest.mark.slow
def test_pictures_are_answered_as_they_arrive_each_once(model: Path, new: Path, tmp_path: Path) -> None:
    arriving, output = tmp_path / "arriving", tmp_path / "answers.csv"
    arriving.mkdir()
    shutil.copy(new / "good" / "000.png", arriving / "first.png")
    line = [sys.executable, "-m", "anomaly_lib", "predict", str(model), "--watch", str(arriving)]
    command = [*line, "--output", str(output), "--pictures", str(tmp_path / "marked"), "--device", "cpu"]

    def rows() -> list[str]:
        begun = output.exists() and output.stat().st_size
        return [Path(path).name for path in table(output)["path"]] if begun else []

    def wait_for(number: int) -> None:
        end = time.monotonic() + 60
        while len(rows()) < number:
            assert time.monotonic() < end
            time.sleep(0.1)

    for start, names in ((1, ["first.png"]), (3, ["first.png", "second.png", "third.png"])):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_for(start)
        if start == 1:
            content = (new / "spot" / "000.png").read_bytes()
            with (arriving / "second.png").open("wb") as file:  # slowly
                file.write(content[: len(content) // 2])
                file.flush()
                time.sleep(3)
                assert rows() == names
                file.write(content[len(content) // 2 :])
            wait_for(2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert "Traceback" not in process.communicate()[1]
        shutil.copy(new / "good" / "001.png", arriving / "third.png")
    assert rows() == ["first.png", "second.png", "third.png"]
    assert list(table(output)["label"]) == ["good", "anomalous", "good"]
    assert len(os.listdir(tmp_path / "marked")) == 3  # noqa: PTH208


def test_a_table_of_something_else_is_not_gone_on_with(model: Path, new: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    said = error_of(predict(model, "--watch", new, "--output", tmp_path / "a.csv"))
    assert f"--output {tmp_path / 'a.csv'} is no table of answers" in said
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.slow
def test_the_memory_of_many_pictures_is_flat(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / f"{number}.png")
    program = (
        "import resource, sys; from anomaly_lib import load_detector;"
        "from anomaly_lib.predict import answers;"
        "from pathlib import Path; files = sorted(Path(sys.argv[2]).glob('*.png'));"
        "detector = load_detector(sys.argv[1], device='cpu');"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "[0 for _ in answers(detector, files * 5)]; before = peak();"
        "[0 for _ in answers(detector, files * 45)]; print(before, peak())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model), str(tmp_path)], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after < before * 1.05
