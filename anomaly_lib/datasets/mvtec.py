"""The layout of MVTec AD on disk, which public sets and people's own folders share.

::

    <root>/<category>/train/good/*.png
    <root>/<category>/test/<defect>/*.png           "good" is the name for no defect
    <root>/<category>/ground_truth/<defect>/<stem>_mask.png

Categories and defects may have any name. Masks are there for all images of a defect or for none, and each
fits one image. What lies in these folders and is not read is named by a warning.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from anomaly_lib.datasets.images import ImageFiles, read_grey, upright_size
from anomaly_lib.datasets.listing import check_name, entries, folders_in, is_folder, pictures_in
from anomaly_lib.datasets.transforms import Transform
from anomaly_lib.errors import DataError

GOOD = "good"
UNKNOWN = "unknown"
"""The folder, or the label, of test images of which nobody knows whether they are good."""

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
# Files and folders are called after a category: a longer name of one might not fit into a file system's 255.
_LONGEST_NAME = 200  # bytes


@dataclass(frozen=True)
class LabelledImage:
    """One test image: its file, the name of its defect ("good" for none) and its mask where there is one."""

    path: Path
    defect: str
    mask: Path | None

    @property
    def anomalous(self) -> bool:
        """Whether the image is known to show a defect."""
        return self.defect not in (GOOD, UNKNOWN)


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
    def has_label(self) -> np.ndarray:
        """Whether it is known of each test image if it is good: (n,) bool."""
        return np.array([image.defect != UNKNOWN for image in self.test], dtype=bool)

    @cached_property
    def has_mask(self) -> np.ndarray:
        """Whether the true defect area of each test image is known (of good ones it is: none): (n,) bool."""
        return np.array([image.defect == GOOD or image.mask is not None for image in self.test], dtype=bool)

    def masks(self, transform: Transform) -> np.ndarray:
        """Return the test images' masks as the model sees them: (n, h, w) bool, false where none is.

        All have the shape of the first image's; see `anomaly_lib.evaluation.predictions.Scores`.
        """
        shape = transform.size, transform.size
        if transform.whole and self.test:
            shape = transform.shape(*upright_size(self.test[0].path))
        masks = np.zeros((len(self.test), *shape), dtype=bool)
        for mask, image in zip(masks, self.test, strict=True):
            if image.mask is not None:
                picture = read_grey(image.mask)
                if np.asarray(picture).max() < 128:
                    raise DataError(f"the mask {image.mask} is empty: draw the defect in white, 255")
                mask[:] = transform.mask(picture, shape).numpy()
        return masks


def find_categories(root: Path) -> list[str]:
    """Return the names of the categories under `root`: the folders that have a ``train`` folder.

    Raises
    ------
    DataError
        When `root` does not exist or cannot be looked into.
    """
    root = Path(root)
    if not is_folder(root):
        raise DataError(
            f"no data at {root}: give the folder that holds the categories, or make the sample data set "
            "with `anomaly data sample`"
        )
    return [entry.name for entry in entries(root) if is_folder(entry / "train")]


def read_category(root: Path, name: str) -> Category:
    """Return the images and masks of one category, checked.

    Raises
    ------
    DataError
        When something is missing or does not fit; the sentence names the path and what to do.
    """
    found = find_categories(root)
    if name not in found:
        instead = f"there are: {_few(found)}" if found else "it holds no category (a folder with train/good)"
        raise DataError(f"no category {name!r} in {root}: {instead}")
    folder = Path(root) / name
    check_name(folder)
    check_category_name(name)
    folders_in(folder / "train", only=(GOOD,))
    train = pictures_in(folder / "train" / GOOD)
    if not train:
        raise DataError(f"no images in {folder / 'train' / GOOD}: put images of good parts there")
    defects = folders_in(folder / "test")
    if defects:  # a folder of masks without one of images is looked at too: its masks are strays
        defects = sorted({*defects, *folders_in(folder / "ground_truth")})
    test = tuple(image for defect in defects for image in _labelled_images(folder, defect))
    return Category(name, tuple(train), test)


def _few(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_category_name(name: str) -> None:
    """Refuse a name that is too long for the files that are called after it."""
    length = len(name.encode(errors="surrogateescape"))
    if length > _LONGEST_NAME:
        raise DataError(
            f"the name of the category {name} has {length} bytes, and files are called after it: rename "
            f"it to at most {_LONGEST_NAME}"
        )


def _labelled_images(folder: Path, defect: str) -> list[LabelledImage]:
    """Return the test images of one defect with their masks: all of them have one, or none has."""
    images = pictures_in(folder / "test" / defect)
    if defect in (GOOD, UNKNOWN):
        return [LabelledImage(path, defect, None) for path in images]
    masks = pictures_in(folder / "ground_truth" / defect)
    if not masks:
        _check_no_mask_beside(images, folder / "ground_truth" / defect)
        return [LabelledImage(path, defect, None) for path in images]
    places = folder / "test" / defect, folder / "ground_truth" / defect
    labelled = with_masks(defect, by_stem(images), by_stem(masks), *places)
    for image in labelled:
        check_mask_size(image)
    return labelled


def with_masks(
    defect: str, images: Mapping[str, Path], masks: Mapping[str, Path], image_folder: Path, mask_folder: Path
) -> list[LabelledImage]:
    """Return the images with the masks that are called after them: each has one, and no mask is left over.

    Both come by their names without endings; that of a mask is the image's with ``_mask`` behind it.
    """
    strays = sorted(masks.keys() - {f"{stem}_mask" for stem in images})
    if strays:
        raise DataError(
            f"mask without image: {masks[strays[0]]} needs a picture in {image_folder} whose "
            "name is the mask's without _mask; add it or remove the mask"
        )
    for stem, path in images.items():
        if f"{stem}_mask" not in masks:
            raise DataError(
                f"image without mask: {path} has no {mask_folder / stem}_mask.png "
                "though others in its folder have one; draw it, or remove the masks of this defect"
            )
    return [LabelledImage(path, defect, masks[f"{stem}_mask"]) for stem, path in images.items()]


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the files by their names without endings, by which images and masks find each other."""
    found: dict[str, Path] = {}
    for path in paths:
        if other := found.get(path.stem):
            raise DataError(
                f"{other} and {path} have one name but for the ending, so that it is not clear which mask "
                "fits which image: rename or remove one"
            )
        found[path.stem] = path
    return found


def _check_no_mask_beside(images: Sequence[Path], mask_folder: Path) -> None:
    stems = {path.stem for path in images}
    for path in images:
        if path.stem.endswith("_mask") and path.stem.removesuffix("_mask") in stems:
            raise DataError(
                f"{path} looks like the mask of the image beside it and would be tested as an image: move "
                f"the masks to {mask_folder}, or rename it"
            )


def check_mask_size(image: LabelledImage) -> None:
    """Raise a `DataError` when the mask of an image, if any, is of another size than the image."""
    if image.mask is None:
        return
    size, mask_size = upright_size(image.path), upright_size(image.mask)
    if size != mask_size:
        raise DataError(
            f"the mask {image.mask} is {mask_size[0]} x {mask_size[1]} but its image {image.path} is "
            f"{size[0]} x {size[1]} pixels: draw the mask on the image at its full size"
        )
