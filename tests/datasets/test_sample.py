"""The generated sample data set: layout, determinism, exact masks, atomic writing."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib.datasets.sample import SAMPLE_CATEGORIES, generate, generate_sample
from anomaly_lib.datasets.sample.photograph import CATEGORIES, Photograph, photograph
from anomaly_lib.datasets.sample.surface import Surface
from anomaly_lib.errors import DataError, ParameterError

VISIBLE = slice(32, 480)  # what is left of 512 pixels after resizing to 256 and cropping 224


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Return the whole data set and the processor time that it took."""
    start = time.process_time()
    root = generate_sample(tmp_path_factory.mktemp("sample") / "data", seed=0)
    return root, time.process_time() - start


@pytest.fixture(scope="module")
def root(generated: tuple[Path, float]) -> Path:
    return generated[0]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images to train on and one of each other sort, where it is not about the pictures."""
    for name, count in (("TRAIN", 2), ("TEST_GOOD", 1), ("TEST_DEFECTIVE", 6)):
        monkeypatch.setattr(generate, name, count)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def faintest(category: str, kind: str) -> Photograph:
    return photograph(category, 0, 50, kind, severity=0.1)


def test_everything_is_generated_within_30_seconds_on_two_cores(generated: tuple[Path, float]) -> None:
    # Processor time, because other work on the machine must not fail the test.
    assert generated[1] < 2 * 30


@pytest.mark.parametrize("category", SAMPLE_CATEGORIES)
def test_the_layout_is_that_of_mvtec_ad(root: Path, category: str) -> None:
    folder = root / category
    assert [p.name for p in sorted((folder / "train/good").iterdir())] == [f"{k:03d}.png" for k in range(40)]
    assert len(list((folder / "test/good").iterdir())) == 12
    kinds = {p.name for p in (folder / "test").iterdir()} - {"good"}
    assert len(kinds) >= 4
    assert {p.name for p in (folder / "ground_truth").iterdir()} == kinds
    for kind in kinds:
        stems = sorted(p.stem for p in (folder / "test" / kind).iterdir())
        assert sorted(p.name for p in (folder / "ground_truth" / kind).iterdir()) == [
            f"{stem}_mask.png" for stem in stems
        ]
    assert len(list((folder / "test").glob("*/*.png"))) == 36


@pytest.mark.parametrize("category", SAMPLE_CATEGORIES)
def test_images_are_512_pixels_in_colour_and_masks_binary(root: Path, category: str) -> None:
    for path in (root / category).rglob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (512, 512)
            assert picture.mode == ("L" if path.stem.endswith("_mask") else "RGB")
    for path in (root / category / "ground_truth").rglob("*.png"):
        assert set(np.unique(pixels(path))) == {0, 255}


@pytest.mark.parametrize("category", SAMPLE_CATEGORIES)
def test_defects_lie_inside_the_central_crop_and_some_are_tiny(root: Path, category: str) -> None:
    masks = [pixels(path) > 0 for path in (root / category / "ground_truth").rglob("*.png")]
    assert all(mask.sum() == mask[VISIBLE, VISIBLE].sum() for mask in masks)
    areas = np.array([mask.mean() for mask in masks])
    assert areas.min() > 0.0001
    assert areas.max() < 0.05
    assert (areas < 0.003).sum() >= 3


@pytest.mark.parametrize(("category", "kind"), [(c, k) for c in CATEGORIES for k in CATEGORIES[c].kinds])
def test_a_mask_is_exactly_what_the_defect_changed(category: str, kind: str) -> None:
    photo = faintest(category, kind)
    changed = (photo.image != photo.clean).any(axis=-1)
    assert not changed[~photo.mask].any()
    assert changed[photo.mask].mean() > 0.9


def test_a_good_photograph_is_its_own_clean_version() -> None:
    photo = photograph("steel", 0, 0)
    assert (photo.image == photo.clean).all()
    assert not photo.mask.any()


def test_the_same_seed_gives_the_same_files_whatever_the_number_of_threads(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_sample(tmp_path / "a", seed=3, categories=["gear"])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    generate_sample(tmp_path / "b", seed=3, categories=["gear"])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("category", SAMPLE_CATEGORIES)
def test_every_image_and_every_seed_differs(category: str) -> None:
    first = photograph(category, 0, 0).image
    assert (first != photograph(category, 0, 1).image).mean() > 0.3
    assert (first != photograph(category, 1, 0).image).mean() > 0.3


def test_paint_that_lies_nowhere_changes_nothing() -> None:
    surface = Surface(np.full((6, 8, 3), 0.5), np.zeros((6, 8)), np.ones((6, 8)))
    surface.shadow(np.zeros((6, 8)))
    assert (surface.colour == 0.5).all()
    shade = np.zeros((6, 8))
    shade[2:4, 3:7] = 0.5
    surface.shadow(shade)
    assert (surface.colour == 0.5 * (1 - shade)[..., None]).all()
    assert (surface.gloss == 1 - shade).all()


def test_an_interrupted_run_leaves_no_half_category(tmp_path: Path, small: None) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("steel", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_sample(tmp_path, categories=["cloth", "steel"], progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "cloth"]


def test_a_complete_category_is_left_alone_and_another_seed_replaces_it(tmp_path: Path, small: None) -> None:
    generate_sample(tmp_path, seed=0, categories=["steel"])
    before = contents(tmp_path)
    marker = tmp_path / "steel" / "kept.txt"
    marker.touch()
    generate_sample(tmp_path, seed=0, categories=["steel"])
    assert marker.exists()
    generate_sample(tmp_path, seed=1, categories=["steel"])
    assert contents(tmp_path).keys() == before.keys()
    assert contents(tmp_path) != before
    assert json.loads((tmp_path / "steel" / "sample.json").read_text())["seed"] == 1


def test_a_folder_of_other_origin_is_never_replaced(tmp_path: Path) -> None:
    photo = tmp_path / "gear" / "mine.png"
    photo.parent.mkdir()
    photo.touch()
    with pytest.raises(DataError, match="not generated"):
        generate_sample(tmp_path, categories=["gear"])
    assert photo.exists()


def test_progress_counts_every_image(tmp_path: Path, small: None) -> None:
    seen: list[tuple[str, int, int]] = []
    generate_sample(tmp_path, categories=["steel"], progress=lambda *state: seen.append(state))
    total = 2 + 1 + 4
    assert seen == [("steel", done, total) for done in range(total + 1)]


def test_an_unknown_category_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="wood"):
        generate_sample(tmp_path, categories=["wood"])
