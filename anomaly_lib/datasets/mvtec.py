"""The layout of MVTec AD on disk, which public sets and people's own folders share.

::

    <root>/<category>/train/good/*.png
    <root>/<category>/test/<defect>/*.png           "good" is the name for no defect
    <root>/<category>/ground_truth/<defect>/<stem>_mask.png

Categories and defects may have any name. Masks are there for all images of a defect or for none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from anomaly_lib.datasets.images import IMAGE_SUFFIXES, ImageFiles, read_grey, upright_size
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError

GOOD = "good"

ALL_CATEGORIES = (
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
)
"""The categories of MVTec AD."""


@dataclass(frozen=True)
class LabelledImage:
    """One test image: its file, the name of its defect ("good" for none) and its mask where there is one."""

    path: Path
    defect: str
    mask: Path | None

    @property
    def anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect != GOOD


@dataclass(frozen=True)
class Category:
    """One kind of part: normal images to learn from and labelled images to test on.

    `test` is sorted by defect and file name, as the official PatchCore reads it, and may be empty.
    """

    name: str
    train: tuple[Path, ...]
    test: tuple[LabelledImage, ...]

    def train_images(self, transform: Transform, batch_size: int = 8) -> ImageFiles:
        """Return the normal images as a detector wants them."""
        return ImageFiles(self.train, transform, batch_size)

    def test_images(self, transform: Transform, batch_size: int = 8) -> ImageFiles:
        """Return the test images as a detector wants them."""
        return ImageFiles([image.path for image in self.test], transform, batch_size)

    @cached_property
    def labels(self) -> np.ndarray:
        """Whether each test image shows a defect: (n,) bool."""
        return np.array([image.anomalous for image in self.test], dtype=bool)

    @cached_property
    def has_mask(self) -> np.ndarray:
        """Whether the true defect area of each test image is known (of good ones it is: none): (n,) bool."""
        return np.array([not image.anomalous or image.mask is not None for image in self.test], dtype=bool)

    def masks(self, transform: Transform) -> np.ndarray:
        """Return the test images' masks as the model sees them: (n, size, size) bool, false where none is."""
        masks = np.zeros((len(self.test), transform.size, transform.size), dtype=bool)
        for mask, image in zip(masks, self.test, strict=True):
            if image.mask is not None:
                picture = read_grey(image.mask)
                if np.asarray(picture).max() < 128:
                    raise DataError(f"the mask {image.mask} is empty: draw the defect in white, 255")
                mask[:] = transform.mask(picture).numpy()
        return masks


def find_categories(root: Path) -> list[str]:
    """Return the names of the categories under `root`: the folders that have a ``train`` folder.

    Raises
    ------
    DataError
        When `root` does not exist.
    """
    if not root.is_dir():
        raise DataError(
            f"no data at {root}: give the folder that holds the categories, or make the sample data set "
            "with `anomaly data sample`"
        )
    return sorted(entry.name for entry in root.iterdir() if (entry / "train").is_dir())


def read_category(root: Path, name: str) -> Category:
    """Return the images and masks of one category, checked.

    Raises
    ------
    DataError
        When something is missing or does not fit; the sentence names the path and what to do.
    """
    found = find_categories(root)
    if name not in found:
        instead = (
            f"there are: {', '.join(found)}" if found else "it holds no category (a folder with train/good)"
        )
        raise DataError(f"no category {name!r} in {root}: {instead}")
    folder = root / name
    train = _images_in(folder / "train" / GOOD)
    if not train:
        raise DataError(f"no images in {folder / 'train' / GOOD}: put images of good parts there")
    defects = _folders_in(folder / "test")
    test = tuple(image for defect in defects for image in _labelled_images(folder, defect))
    return Category(name, tuple(train), test)


def _labelled_images(folder: Path, defect: str) -> list[LabelledImage]:
    """Return the test images of one defect with their masks: all of them have one, or none has."""
    images = _images_in(folder / "test" / defect)
    mask_folder = folder / "ground_truth" / defect
    masks = {} if defect == GOOD else {path.stem: path for path in _images_in(mask_folder)}
    labelled = [LabelledImage(path, defect, masks.pop(f"{path.stem}_mask", None)) for path in images]
    if masks:
        stray = next(iter(masks.values()))
        raise DataError(
            f"mask without image: {stray} needs a picture in {folder / 'test' / defect} whose name is the "
            "mask's without _mask; add it or remove the mask"
        )
    bare = [image.path for image in labelled if image.mask is None]
    if defect != GOOD and 0 < len(bare) < len(labelled):
        raise DataError(
            f"image without mask: {bare[0]} has no {mask_folder / bare[0].stem}_mask.png though others in "
            "its folder have one; draw it, or remove the masks of this defect"
        )
    for image in labelled:
        _check_mask_size(image)
    return labelled


def _check_mask_size(image: LabelledImage) -> None:
    if image.mask is None:
        return
    size, mask_size = upright_size(image.path), upright_size(image.mask)
    if size != mask_size:
        raise DataError(
            f"the mask {image.mask} is {mask_size[0]} x {mask_size[1]} but its image {image.path} is "
            f"{size[0]} x {size[1]} pixels: draw the mask on the image at its full size"
        )


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in images if path.is_file() and not path.name.startswith("."))


def _folders_in(folder: Path) -> Sequence[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
