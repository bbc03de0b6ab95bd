"""The layout of MVTec AD: what is found, in which order, and what is said when something is missing."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_lib.datasets import Category, find_categories, read_category
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError

WriteCategory = Callable[..., Path]


def save(path: Path, width: int = 8, height: int = 8, value: int = 90, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value if mode == "L" else (value,) * 3).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data set of one category with a training image and two of each sort to test on."""
    save(tmp_path / "nut/train/good/000.png")
    for folder in ("good", "dent"):
        for i in range(2):
            save(tmp_path / f"nut/test/{folder}/{i:03d}.png")
    for i in range(2):
        save(tmp_path / f"nut/ground_truth/dent/{i:03d}_mask.png", value=255, mode="L")
    return tmp_path


def said_of(root: Path, name: str = "nut") -> str:
    with pytest.raises(DataError) as error:
        read_category(root, name)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- What is found ---


def test_images_come_sorted_by_defect_and_name_with_their_masks(root: Path) -> None:
    category = read_category(root, "nut")
    assert category.train == (root / "nut/train/good/000.png",)
    assert [(image.defect, image.path.name) for image in category.test] == [
        *(("dent", "000.png"), ("dent", "001.png")),
        *(("good", "000.png"), ("good", "001.png")),
    ]
    assert [image.mask and image.mask.name for image in category.test] == [
        "000_mask.png",
        "001_mask.png",
        *(None, None),
    ]
    assert category.labels.tolist() == [True, True, False, False]
    assert category.has_mask.tolist() == [True] * 4


def test_the_order_is_that_of_the_official_code(root: Path) -> None:
    """There it is sorted(os.listdir(...)): by character, capitals first, 10 before 2."""
    for name in ("2.png", "10.png", "B.png", "a.png", "_.png"):
        save(root / "nut/train/good" / name)
    for defect in ("Zebra", "able", "10", "9"):
        save(root / f"nut/test/{defect}/x.png")
    category = read_category(root, "nut")
    names = ["000.png", "10.png", "2.png", "B.png", "_.png", "a.png"]
    assert [path.name for path in category.train] == names
    defects = ["10", "9", "Zebra", "able", "dent", "dent", "good", "good"]
    assert [image.defect for image in category.test] == defects


def test_a_defect_may_have_no_masks_while_another_has(root: Path) -> None:
    save(root / "nut/test/scratch/7.png")
    category = read_category(root, "nut")
    assert category.has_mask.tolist() == [True, True, True, True, False]
    assert category.labels.tolist() == [True, True, False, False, True]
    masks = category.masks(Transform(8, 8))
    assert masks.shape == (5, 8, 8)
    assert masks.any(axis=(1, 2)).tolist() == [True, True, False, False, False]


def test_there_may_be_no_test_folder(root: Path) -> None:
    for path in sorted((root / "nut/test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "nut/test").rmdir()
    category = read_category(root, "nut")
    assert category.test == ()
    assert category.labels.shape == (0,)
    assert category.masks(Transform(8, 8)).shape == (0, 8, 8)


def test_masks_of_good_images_are_not_looked_for(root: Path) -> None:
    save(root / "nut/ground_truth/good/stray_mask.png", mode="L")
    assert [image.mask for image in read_category(root, "nut").test[2:]] == [None, None]


def test_names_may_have_spaces_umlauts_and_capital_suffixes(tmp_path: Path) -> None:
    save(tmp_path / "Große Mutter 螺母/train/good/Bild eins.PNG")
    save(tmp_path / "Große Mutter 螺母/test/tiefer Kratzer/Bild ü.JPG")
    save(tmp_path / "Große Mutter 螺母/ground_truth/tiefer Kratzer/Bild ü_mask.Png", mode="L")
    category = read_category(tmp_path, "Große Mutter 螺母")
    assert len(category.train) == 1
    assert category.test[0].mask is not None
    assert next(iter(category.train_images(Transform(8, 8)))).shape == (1, 3, 8, 8)


def test_hidden_files_are_left_out(root: Path) -> None:
    for name in ("._000.png", ".hidden.jpg", "Thumbs.db"):
        (root / "nut/train/good" / name).write_bytes(b"junk")
        (root / "nut/test/dent" / name).write_bytes(b"junk")
        (root / "nut/ground_truth/dent" / name).write_bytes(b"junk")
    (root / "nut/test/.ipynb_checkpoints").mkdir()
    (root / ".trash/train").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        category = read_category(root, "nut")
    assert len(category.train) == 1
    assert len(category.test) == 4
    assert find_categories(root) == ["nut"]


def test_what_is_not_read_is_named_folder_by_folder(root: Path) -> None:
    for name in ("train/bad/1.png", "test/loose.png", "ground_truth/loose.png", "test/dent/a/1.png"):
        save(root / "nut" / name)
    (root / "nut/train/good/notes.txt").write_text("text")
    (root / "nut/ground_truth/dent/notes.txt").write_text("text")
    with pytest.warns(UserWarning, match="not read") as warned:
        category = read_category(root, "nut")
    said = " ".join(str(warning.message) for warning in warned)
    for folder, name in (
        *(("train", "bad"), ("test", "loose.png"), ("ground_truth", "loose.png"), ("test/dent", "a")),
        *(("train/good", "notes.txt"), ("ground_truth/dent", "notes.txt")),
    ):
        assert f"{root / 'nut' / folder}: 1 entry is not read ({name})" in said
    assert (len(category.train), len(category.test)) == (1, 4)


def test_an_image_of_one_pixel_and_a_very_long_one_are_brought_to_size(tmp_path: Path) -> None:
    save(tmp_path / "c/train/good/0.png", 1, 1)
    save(tmp_path / "c/train/good/1.png", 300, 2)
    save(tmp_path / "c/train/good/2.png", 2, 300)
    [batch] = read_category(tmp_path, "c").train_images(Transform(16, 14))
    assert batch.shape == (3, 3, 14, 14)
    assert torch.allclose(batch, torch.tensor(90 / 255))


def test_the_mask_of_a_turned_photograph_fits_the_upright_picture(root: Path) -> None:
    """The camera stored the picture lying down; whoever drew the mask saw it standing."""
    upright = np.zeros((40, 24), np.uint8)
    upright[4:12, 4:12] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright))).convert("RGB")
    stored.save(root / "nut/test/dent/turned.jpg", exif=exif, quality=95)
    Image.fromarray(upright).save(root / "nut/ground_truth/dent/turned_mask.png")
    category = read_category(root, "nut")
    transform = Transform(24, 24)
    [batch] = category.test_images(transform)
    mask = category.masks(transform)[2]
    assert mask.any()
    assert np.array_equal(batch[2, 0].numpy() > 0.5, mask)


def test_categories_are_the_folders_with_training_images(root: Path, tmp_path: Path) -> None:
    save(root / "bolt/train/good/0.png")
    (root / "license.txt").write_text("text")
    (root / "results").mkdir()
    assert find_categories(root) == ["bolt", "nut"]


# --- What is said ---


def test_a_missing_root_is_named_with_the_way_to_get_data(tmp_path: Path) -> None:
    said = said_of(tmp_path / "nowhere")
    assert f"no data at {tmp_path / 'nowhere'}" in said
    assert "anomaly data sample" in said


def test_a_file_in_the_place_of_the_root_is_no_data(root: Path) -> None:
    (root / "file").write_text("text")
    assert "no data at" in said_of(root / "file")


def test_an_unknown_category_lists_those_that_are_there(root: Path) -> None:
    save(root / "bolt/train/good/0.png")
    said = said_of(root, "botl")
    assert "'botl'" in said
    assert str(root) in said
    assert "bolt, nut" in said


def test_a_root_without_categories_says_what_one_is(tmp_path: Path) -> None:
    said = said_of(tmp_path)
    assert str(tmp_path) in said
    assert "train/good" in said


@pytest.mark.parametrize("folder", ["train/good", "train"])
def test_a_category_without_training_images_names_the_folder_for_them(root: Path, folder: str) -> None:
    (root / "nut/train/good/000.png").unlink()
    if folder == "train":
        (root / "nut/train/good").rmdir()
    said = said_of(root)
    assert str(root / "nut/train/good") in said
    assert "put images of good parts there" in said


def test_an_unreadable_mask_and_image_are_named(root: Path) -> None:
    (root / "nut/ground_truth/dent/001_mask.png").write_bytes(b"junk")
    assert "001_mask.png" in said_of(root)
    (root / "nut/test/dent/000.png").write_bytes(b"")
    said = said_of(root)
    assert str(root / "nut/test/dent/000.png") in said
    assert "replace or remove" in said


def test_a_mask_of_another_size_gives_both_sizes(root: Path) -> None:
    save(root / "nut/ground_truth/dent/001_mask.png", 4, 6, mode="L")
    said = said_of(root)
    assert str(root / "nut/ground_truth/dent/001_mask.png") in said
    assert str(root / "nut/test/dent/001.png") in said
    assert "4 x 6" in said
    assert "8 x 8" in said
    assert "draw the mask on the image at its full size" in said


def test_a_mask_without_a_defect_is_named_when_it_is_needed(root: Path) -> None:
    empty = save(root / "nut/ground_truth/dent/001_mask.png", mode="L")
    category = read_category(root, "nut")
    with pytest.raises(DataError) as error:
        category.masks(Transform(8, 8))
    assert str(error.value) == f"the mask {empty} is empty: draw the defect in white, 255"


def test_a_mask_without_image_is_named(root: Path) -> None:
    stray = save(root / "nut/ground_truth/dent/077_mask.png", mode="L")
    said = said_of(root)
    assert f"mask without image: {stray}" in said
    assert "remove the mask" in said


def test_a_mask_whose_name_lacks_the_ending_is_named(root: Path) -> None:
    (root / "nut/ground_truth/dent/000_mask.png").rename(root / "nut/ground_truth/dent/000.png")
    assert str(root / "nut/ground_truth/dent/000.png") in said_of(root)


def test_an_image_without_mask_among_others_with_one_is_named(root: Path) -> None:
    save(root / "nut/test/dent/002.png")
    said = said_of(root)
    assert str(root / "nut/test/dent/002.png") in said
    assert "002_mask.png" in said
    assert "draw it, or remove the masks" in said


def test_images_that_share_a_mask_are_both_named(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "nut/test/dent/000.jpg")
    said = said_of(root)
    assert str(root / "nut/test/dent/000.jpg") in said
    assert str(root / "nut/test/dent/000.png") in said
    assert "rename" in said


def test_masks_that_share_an_image_are_both_named(root: Path) -> None:
    Image.new("L", (8, 8), 255).save(root / "nut/ground_truth/dent/000_mask.bmp")
    said = said_of(root)
    assert str(root / "nut/ground_truth/dent/000_mask.bmp") in said
    assert str(root / "nut/ground_truth/dent/000_mask.png") in said


def test_images_of_one_name_are_read_where_there_are_no_masks(root: Path) -> None:
    save(root / "nut/test/good/000.bmp")
    save(root / "nut/train/good/000.bmp")
    category = read_category(root, "nut")
    assert (len(category.train), len(category.test)) == (2, 5)


def test_a_mask_beside_its_image_is_not_tested_as_one(root: Path) -> None:
    save(root / "nut/test/scratch/7.png")
    save(root / "nut/test/scratch/7_mask.png")
    said = said_of(root)
    assert str(root / "nut/test/scratch/7_mask.png") in said
    assert str(root / "nut/ground_truth/scratch") in said


def test_a_folder_of_masks_without_one_of_images_is_named(root: Path) -> None:
    (root / "nut/ground_truth/dent").rename(root / "nut/ground_truth/dents")
    said = said_of(root)
    assert str(root / "nut/ground_truth/dents/000_mask.png") in said
    assert str(root / "nut/test/dents") in said


@pytest.mark.parametrize("folder", ["train/good", "test", "test/dent", "ground_truth", "ground_truth/dent"])
def test_a_link_that_leads_nowhere_in_the_place_of_a_folder_is_named(root: Path, folder: str) -> None:
    (root / "nut" / folder).rename(root / "moved")
    (root / "nut" / folder).symlink_to("gone")
    said = said_of(root)
    assert str(root / "nut" / folder) in said
    assert "leads nowhere" in said


@pytest.mark.parametrize("folder", ["train/good", "test", "ground_truth"])
def test_a_file_in_the_place_of_a_folder_is_named(root: Path, folder: str) -> None:
    (root / "nut" / folder).rename(root / "moved")
    (root / "nut" / folder).write_text("text")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f"{root / 'nut' / folder} is no folder" in said_of(root)


@pytest.mark.parametrize("name", ["..", ".", "/", "", "../nut", "nut/", "nut/train", "\0", "x" * 300, "NUT"])
def test_only_the_name_of_a_folder_of_the_root_is_a_category(root: Path, name: str) -> None:
    assert f"no category {name!r}" in said_of(root, name)


def test_of_many_categories_some_are_listed(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i:02d}" / "train").mkdir(parents=True)
    assert "18, 19 and 10 more" in said_of(tmp_path)


def test_names_that_are_not_utf_8_are_refused_in_words_that_are(root: Path) -> None:
    (root / "nut/train/good/000.png").rename(root / "nut/train/good/\udcff.png")
    assert r"\udcff.png is not UTF-8: rename it" in said_of(root)
    (root / "nut").rename(root / "n\udcfft")
    assert r"n\udcfft is not UTF-8: rename it" in said_of(root, "n\udcfft")


def test_a_category_may_be_called_anything_that_files_can_be_called_after(root: Path) -> None:
    (root / "nut").rename(root / ("n" * 201))
    assert "201 bytes" in said_of(root, "n" * 201)
    (root / ("n" * 201)).rename(root / ("n" * 199 + "\n"))
    assert len(read_category(root, "n" * 199 + "\n").test) == 4


def test_names_that_differ_only_in_case_are_two_categories(root: Path) -> None:
    save(root / "Nut/train/good/7.png")
    assert find_categories(root) == ["Nut", "nut"]
    assert read_category(root, "Nut").train == (root / "Nut/train/good/7.png",)


def test_links_that_lead_in_circles_are_not_followed(root: Path) -> None:
    (root / "nut/test/dent/up").symlink_to("..")
    (root / "nut/train/up").symlink_to("..")
    with pytest.warns(UserWarning, match=r"not read \(up\)"):
        assert len(read_category(root, "nut").test) == 4


def test_a_root_that_cannot_be_looked_at_is_no_data(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="cannot look into"):
        assert "no data at" in said_of(tmp_path / ("x" * 300))


# --- A category as a detector sees it ---


def test_masks_and_images_share_their_geometry(write_category: WriteCategory, tmp_path: Path) -> None:
    write_category(tmp_path, "disc", size=(90, 60), defects={"spot": 3})
    category = read_category(tmp_path, "disc")
    transform = Transform(48, 40)
    [batch] = category.test_images(transform, batch_size=16)
    masks = category.masks(transform)
    assert masks.dtype == bool
    for image, mask, anomalous in zip(batch.numpy(), masks, category.labels, strict=True):
        assert mask.any() == anomalous
        if anomalous:  # the defect is the only place that is far more red than blue
            seen = image[0] - image[2] > 0.4
            assert (seen & mask).sum() / (seen | mask).sum() > 0.9


def test_the_sources_are_over_the_right_images(small_data: Path) -> None:
    category = read_category(small_data, "disc")
    assert isinstance(category, Category)
    assert len(category.train_images(Transform(16, 16))) == 5
    assert len(category.test_images(Transform(16, 16))) == 6
