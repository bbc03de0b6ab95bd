"""A run under the mouse, without a browser: what follows the slider, the lists and the clicks."""

import base64
import io
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib import Gaussian, PatchCore, PatchSVDD, Transform
from anomaly_lib.datasets.choice import DataChoice
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import load_predictions
from anomaly_lib.runs import Saving, train
from anomaly_lib.views import explore
from anomaly_lib.views.explored import ALARMS, ALL, MISSED
from anomaly_lib.views.explorer import Explorer
from anomaly_lib.views.panels import picture_place

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def root(write_category: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two categories; one test image of the first is a training image."""
    root = tmp_path_factory.mktemp("explored")
    disc = write_category(root, "disc", train=5, good=2, defects={"spot": 3}, size=(96, 72))
    shutil.copy(disc / "train" / "good" / "003.png", disc / "test" / "good" / "seen.png")
    write_category(root, "ring", train=4, good=1, defects={"spot": 1}, seed=1)
    return root


@pytest.fixture(scope="module")
def make(root: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that trains detectors and returns the run's folder."""

    def trained(detector: type = PatchCore, models: bool = True, **options: object) -> Path:
        options = {"backbone": "test_resnet", "weights": tiny_weights, "device": "cpu", **options}
        if detector is PatchCore:
            options["sampler"] = "identity"
        return train(
            tmp_path_factory.mktemp("run"),
            lambda category, geometry: detector(**options),
            DataChoice(root, ("disc", "ring")),
            saving=Saving(models=models),
        ).folder

    return trained


@pytest.fixture(scope="module")
def run(make: Make) -> Path:
    return make(transform=Transform(64))


@pytest.fixture
def explorer(run: Path) -> Explorer:
    return explore(run)


def opened(url: str) -> Image.Image:
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def names(explorer: Explorer) -> list[str]:
    return [line.split("  ")[1] for line, _ in explorer.images.options]


def choose(explorer: Explorer, name: str) -> int:
    number = next(number for line, number in explorer.images.options if line.endswith(name))
    explorer.images.value = number
    return int(number)


def click(explorer: Explorer, across: float, down: float) -> None:
    """Click on the picture, the first panel, at a share of its width and height."""
    shown = explorer._explored.shown(explorer.images.value)
    page = opened(explorer.panels.picture)
    explorer.panels.clicked = [
        across * shown.picture.width / page.width,
        (20 + down * shown.picture.height) / page.height,
    ]


def test_it_begins_with_the_models_own_threshold_and_the_highest_score(explorer: Explorer, run: Path) -> None:
    predictions = load_predictions(run / "predictions" / "mvtec_disc.npz")
    assert explorer.category.value == "mvtec_disc"
    assert explorer.slider.value == 1
    scores = predictions.imagewise_pred / predictions.threshold
    assert [number for _, number in explorer.images.options] == list(np.argsort(-scores, kind="stable"))
    assert explorer.images.value == scores.argmax()
    assert explorer.images.options[0][0].startswith(f"{scores.max():.2f}  spot/00")
    assert opened(explorer.panels.picture).size > (300, 300)


def test_the_slider_moves_counts_line_list_and_sentence(explorer: Explorer) -> None:
    choose(explorer, "spot/001")
    line = re.search(r"left:([\d.]+)%", explorer.histogram.value)
    picture = explorer.panels.picture
    assert "<b>missed 0</b> of 3 defects" in explorer.counts.value
    assert "recall 100%" in explorer.counts.value
    assert "a defect, found" in explorer.said.value
    explorer.slider.value = explorer.slider.max
    assert "<b>missed 3</b> of 3 defects, <b>false alarms 0</b> of 3 good" in explorer.counts.value
    assert "recall 0%, precision unknown" in explorer.counts.value
    assert "a defect, <b>missed</b>" in explorer.said.value
    moved = re.search(r"left:([\d.]+)%", explorer.histogram.value)
    assert line
    assert moved
    assert float(moved[1]) > float(line[1]) + 10
    assert explorer.panels.picture != picture
    explorer.kind.value = MISSED
    assert {name.split("/")[0] for name in names(explorer)} == {"spot"}
    explorer.slider.value = explorer.slider.min
    assert names(explorer) == []
    assert explorer.said.value == "There are none."
    explorer.kind.value = ALARMS
    assert sorted(names(explorer)) == ["good/000", "good/001", "good/seen"]
    explorer.own.click()
    assert explorer.slider.value == 1


def test_the_image_that_is_chosen_stays_so_while_it_is_listed(explorer: Explorer) -> None:
    explorer.slider.value = explorer.slider.min
    explorer.kind.value = ALARMS
    chosen = choose(explorer, "good/001")
    explorer.kind.value = ALL
    assert explorer.images.value == chosen
    explorer.kind.value = MISSED
    assert explorer.images.value is None


def test_a_score_at_the_threshold_is_called_anomalous(explorer: Explorer) -> None:
    scores = explorer._explored.scores
    for i in range(len(scores)):
        explorer.slider.value = float(scores[i])
        assert explorer._explored.called(explorer.slider.value)[i]


def test_the_buttons_go_to_the_named_thresholds(explorer: Explorer, run: Path) -> None:
    defects = load_predictions(run / "predictions" / "mvtec_disc.npz").in_thresholds
    explorer.optimal.click()
    assert explorer.slider.value == pytest.approx(defects.imagewise_pred[defects.imagewise_gt].min())


def test_a_click_on_what_was_trained_on_finds_it_where_it_is(explorer: Explorer) -> None:
    choose(explorer, "good/seen")
    assert explorer.neighbours.value == ""
    click(explorer, 0.3, 0.6)
    captions = re.findall("<figcaption>(.+?)</figcaption>", explorer.neighbours.value)
    assert captions[:2] == ["the patch", "good/003"]
    assert len(captions) == 5
    tiles = re.findall(r'src="(.+?)"', explorer.neighbours.value)
    asked, nearest = (np.asarray(opened(tile), np.float32) for tile in tiles[:2])
    # The patch of the memory bank begins at a multiple of its stride, the one that was clicked at any pixel.
    assert np.abs(asked - nearest)[140:].mean() < 12
    before = explorer.panels.picture
    click(explorer, 0.7, 0.2)
    assert explorer.panels.picture != before  # the box is there now
    choose(explorer, "good/000")
    assert explorer.neighbours.value == ""


def test_places_on_the_page_are_places_in_the_file(explorer: Explorer) -> None:
    shown = explorer._explored.shown(choose(explorer, "good/seen"))
    page = opened(explorer.panels.picture)
    width, height = shown.picture.size
    assert shown.size == (96, 72)
    for left, top in ((0, 20), (width + 8, 20), (0, page.height - height), (width + 8, page.height - height)):
        place = picture_place((left + width / 4) / page.width, (top + height / 2) / page.height, shown)
        assert place == pytest.approx((24, 36), abs=0.5)
    assert picture_place(0.5, 5 / page.height, shown) is None


def test_another_row_may_be_chosen_or_asked_for(explorer: Explorer, run: Path) -> None:
    explorer.category.value = "mvtec_ring"
    assert len(explorer.images.options) == 2
    assert "of 1 defects" in explorer.counts.value
    assert explore(run, "mvtec_ring").images.options == explorer.images.options
    with pytest.raises(DataError, match=r"'ring' is no row .* mvtec_disc, mvtec_ring"):
        explore(run, "ring")
    with pytest.raises(DataError, match="no results"):
        explore(run / "models")


def test_what_cannot_be_shown_is_said(make: Make, root: Path, run: Path, tmp_path: Path) -> None:
    without = explore(make(models=False, transform=Transform(64)))
    click(without, 0.5, 0.5)
    assert "has saved its models" in without.neighbours.value
    gaussian = explore(make(Gaussian, transform=Transform(64)))
    click(gaussian, 0.5, 0.5)
    assert gaussian.neighbours.value == (
        "Gaussian keeps no training patches: it compares with the distribution of all"
    )
    cropped = explore(make(transform=Transform(80, 64)))
    click(cropped, 0.05, 0.5)
    assert cropped.neighbours.value == "the model does not see this part of the picture"
    click(cropped, 0.5, 0.5)
    assert "<figcaption>" in cropped.neighbours.value
    copy = shutil.copytree(run, tmp_path / "copy")
    moved = root.rename(root.with_name("moved"))
    try:
        gone = explore(copy)
        assert "no such image: " in gone.said.value
        assert gone.panels.picture == ""
    finally:
        moved.rename(root)
    (copy / "training" / "mvtec_disc.json").write_text("[1")
    with pytest.raises(DataError, match="is damaged"):
        explore(copy)


def test_without_a_threshold_scores_are_raw(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    file = copy / "predictions" / "mvtec_disc.npz"
    predictions = replace(load_predictions(file), threshold=np.nan)
    predictions.save(file)
    raw = explore(copy)
    assert raw.own.disabled
    assert raw.slider.value == pytest.approx(predictions.imagewise_pred[predictions.imagewise_gt].min())
    assert "(raw score)" in raw.said.value


def test_images_of_unknown_truth_are_listed_and_not_counted(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    file = copy / "predictions" / "mvtec_disc.npz"
    predictions = load_predictions(file)
    known = ~np.char.endswith(predictions.fnames, "good/seen.png")
    replace(predictions, imagewise_known=known, pixelwise_known=known).save(file)
    explorer = explore(copy)
    choose(explorer, "good/seen")
    assert "nobody knows" in explorer.said.value
    assert "of 2 good images" in explorer.counts.value
    explorer.slider.value = explorer.slider.min
    explorer.kind.value = ALARMS
    assert sorted(names(explorer)) == ["good/000", "good/001"]


def test_pictures_of_several_shapes_are_brought_to_that_of_patch_svdd(
    write_category: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_category(tmp_path / "data", "disc", train=3, good=1, defects={"spot": 1}, size=(96, 72))
    Image.open(folder / "train" / "good" / "001.png").resize((144, 72)).save(
        folder / "test" / "good" / "w.png"
    )
    run = train(
        tmp_path,
        lambda category, geometry: PatchSVDD(epochs=0, transform=Transform(72), device="cpu"),
        DataChoice(tmp_path / "data", ("disc",)),
        saving=Saving(models=True),
    ).folder
    explorer = explore(run)
    for name in ("good/w", "good/000"):
        choose(explorer, name)
        click(explorer, 0.5, 0.5)
        assert explorer.neighbours.value.count("<figcaption>") == 5


@pytest.mark.slow
def test_answers_come_within_a_tenth_of_a_second_on_200_images(
    write_category: Callable[..., Path], tiny_weights: str, tmp_path: Path
) -> None:
    write_category(tmp_path / "data", "disc", train=40, good=100, defects={"spot": 100}, size=(256, 256))
    detector = {"sampler": "approx_greedy_coreset", "device": "cpu"}
    folder = train(
        tmp_path,
        lambda category, geometry: PatchCore(**detector),
        DataChoice(tmp_path / "data", ("disc",)),
        saving=Saving(models=True),
    ).folder
    explorer = explore(folder)
    assert len(explorer.images.options) == 200

    def seconds(act: Callable[[int], None]) -> float:
        """Return how long the quickest of some takes: others use the machine too."""
        found = []
        for step in range(1, 6):
            start = time.perf_counter()
            act(step)
            found.append(time.perf_counter() - start)
        return min(found)

    numbers = [number for _, number in explorer.images.options]
    assert seconds(lambda step: setattr(explorer.images, "value", numbers[30 * step])) < 0.1
    assert seconds(lambda step: click(explorer, 0.15 * step, 0.5)) < 0.1
    assert seconds(lambda step: setattr(explorer.slider, "value", 1 + 0.1 * step)) < 0.1
    assert seconds(lambda step: setattr(explorer.kind, "value", (MISSED, ALL)[step % 2])) < 0.1
