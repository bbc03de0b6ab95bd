"""What is said of a data set before anything is fitted on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib.datasets.check import check_data
from anomaly_lib.errors import DataError


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_data, tmp_path / "data")
    return tmp_path / "data"


def photograph(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(45):
        photograph(number).save(folder / f"{number:02d}.png")
    return folder


def test_a_good_folder_has_no_problems_and_nothing_to_remark(photographs: Path) -> None:
    [(name, found)] = check_data(photographs).items()
    assert name == "photographs"
    assert found.facts == ["45 pictures to learn from", "sizes: 80 x 60 (45); kinds of pixels: RGB (45)"]
    assert found.remarks == []
    assert found.problems == []


def test_a_data_set_is_told_part_by_part(data: Path) -> None:
    found = check_data(data)
    assert list(found) == ["disc", "ring"]
    assert found["disc"].facts[:4] == [
        "train/good: 5 pictures to learn from",
        "test/blot: 1 pictures to test on, 1 masks",
        "test/good: 3 pictures to test on",
        "test/spot: 2 pictures to test on, 2 masks",
    ]
    assert found["disc"].problems == []
    assert found["disc"].remarks == [
        "5 pictures of good parts promise 1 false alarm in 6 at best: take 40 or more"
    ]
    assert list(check_data(data, ["ring"])) == ["ring"]
    assert check_data(data / "ring")["ring"] == found["ring"]


def copy_into_the_test(data: Path) -> str:
    shutil.copy(data / "disc/train/good/000.png", data / "disc/test/good/copy.png")
    return "test/good/copy.png is the same picture as"


def save_again_in_the_test(data: Path) -> str:
    photograph(5, (400, 300)).save(data / "disc/train/good/large.png")
    photograph(5, (400, 300)).resize((200, 150)).save(data / "disc/test/good/again.jpg", quality=70)
    return "test/good/again.jpg shows nearly the same as"


def call_a_good_one_a_defect(data: Path) -> str:
    shutil.copy(data / "ring/test/good/000.png", data / "ring/test/spot/000.png")
    return "test/spot/000.png is the same picture as"


def damage(data: Path) -> str:
    (data / "disc/test/good/000.png").write_bytes(b"no picture")
    return "cannot read the image"


def shrink_a_mask(data: Path) -> str:
    Image.new("L", (10, 10), 255).save(data / "disc/ground_truth/spot/000_mask.png")
    return "000_mask.png is 10 x 10 but its image"


def remove_a_mask(data: Path) -> str:
    (data / "disc/ground_truth/spot/000_mask.png").unlink()
    return "image without mask"


def leave_one_good_one(data: Path) -> str:
    for path in sorted((data / "disc/train/good").iterdir())[1:]:
        path.unlink()
    return "1 readable pictures of good parts: a threshold takes two at least"


@pytest.mark.parametrize(
    "spoil",
    [
        copy_into_the_test,
        save_again_in_the_test,
        call_a_good_one_a_defect,
        damage,
        shrink_a_mask,
        remove_a_mask,
        leave_one_good_one,
    ],
)
def test_what_would_spoil_results_is_a_problem(data: Path, spoil: Callable[[Path], str]) -> None:
    said = spoil(data)
    problems = [problem for found in check_data(data).values() for problem in found.problems]
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_what_one_should_know_is_a_remark(photographs: Path) -> None:
    shutil.copy(photographs / "00.png", photographs / "copy.png")
    photograph(99, (100, 60)).convert("L").save(photographs / "grey.png")
    [found] = check_data(photographs).values()
    assert found.problems == []
    assert found.remarks == [
        "the pictures have 2 different sizes",
        "some pictures are grey and others in colour: a detector sees the difference",
        f"{photographs / 'copy.png'} is the same picture as {photographs / '00.png'}",
    ]


def test_many_findings_of_a_kind_are_counted(photographs: Path) -> None:
    for number in range(9):
        shutil.copy(photographs / f"{number:02d}.png", photographs / f"copy_{number}.png")
    [found] = check_data(photographs).values()
    assert len(found.remarks) == 6
    assert found.remarks[-1].startswith("4 more pairs")


def test_missing_parts_are_remarked(data: Path) -> None:
    shutil.rmtree(data / "disc/test")
    shutil.rmtree(data / "disc/ground_truth")
    assert check_data(data)["disc"].remarks[-2:] == [
        "no good parts to test on: false alarms cannot be counted",
        "no defects to test on: what is missed cannot be counted",
    ]


def test_nothing_to_look_at_is_a_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no pictures in"):
        check_data(tmp_path / "empty")
    with pytest.raises(DataError, match="no category 'x'"):
        check_data(data, ["x"])


def test_real_pictures_of_different_parts_are_not_called_the_same(shared_data: Path) -> None:
    [found] = check_data(shared_data / "mvtec_ad" / "bottle").values()
    assert found.problems == []
    assert found.remarks == []
