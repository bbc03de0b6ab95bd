"""Public data sets as their authors offer them, and where their files go in MVTec AD's layout."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from anomaly_lib.datasets.formats import SUFFIXES
from anomaly_lib.datasets.mvtec import ALL_CATEGORIES, GOOD

Place = Callable[[PurePosixPath], PurePosixPath | None]
"""From a file's path in the archive to its path below the data set's folder, or ``None``: it is left out."""


@dataclass(frozen=True)
class Archive:
    """A data set as its authors offer it: one tar or zip file.

    Attributes
    ----------
    unpacked
        Bytes that its files take at most.
    licence
        Ends the sentence "NAME is under ...".
    tables
        Files of the archive that `layout` is told the content of.
    layout
        From those to where the archive's files go.
    masks_of_ones
        Whether its masks number the kinds of defect instead of being white.
    """

    name: str
    address: str
    sha256: str
    unpacked: int
    licence: str
    categories: tuple[str, ...]
    tables: tuple[str, ...] = ()
    layout: Callable[[Mapping[str, bytes]], Place] = lambda _: _as_it_is
    masks_of_ones: bool = False


def _as_it_is(path: PurePosixPath) -> PurePosixPath | None:
    return path if len(path.parts) > 1 else None


MVTEC_AD = Archive(
    name="MVTec AD",
    address="https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
    "420938113-1629960298/mvtec_anomaly_detection.tar.xz",
    sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    unpacked=6 * 2**30,
    licence="Creative Commons BY-NC-SA 4.0: to be named as MVTec's, not for commercial use, and what is made "
    "of it under the same licence (https://creativecommons.org/licenses/by-nc-sa/4.0/)",
    categories=ALL_CATEGORIES,
)

_VISA_SPLIT = "split_csv/1cls.csv"


def _visa(tables: Mapping[str, bytes]) -> Place:
    """Return where the files of VisA go by the authors' split of one class: defects are ``bad``."""
    places: dict[str, PurePosixPath] = {}
    rows: Iterable[dict[str, str]] = csv.DictReader(io.StringIO(tables[_VISA_SPLIT].decode("utf-8-sig")))
    for row in rows:
        defect = GOOD if row["label"] == "normal" else "bad"
        image = PurePosixPath(row["image"])
        places[row["image"]] = PurePosixPath(row["object"], row["split"], defect, image.name)
        if row["mask"]:
            mask = PurePosixPath(row["mask"])
            name = f"{image.stem}_mask{mask.suffix}"
            places[row["mask"]] = PurePosixPath(row["object"], "ground_truth", defect, name)
    return lambda path: places.get(str(path))


VISA = Archive(
    name="VisA",
    address="https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
    unpacked=3 * 2**30,
    licence="Creative Commons BY 4.0: to be named as Amazon's (https://creativecommons.org/licenses/by/4.0/)",
    categories=(
        *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
        *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
    ),
    tables=(_VISA_SPLIT,),
    layout=_visa,
    masks_of_ones=True,
)


def _btad(path: PurePosixPath) -> PurePosixPath | None:
    """Return where a file of BTAD goes: its good parts are ``ok``, its defects one, ``ko``."""
    if len(path.parts) != 5 or path.suffix.lower() not in SUFFIXES:
        return None
    _, category, part, label, name = path.parts
    if part == "ground_truth":
        return PurePosixPath(category, part, label, f"{path.stem}_mask{path.suffix}")
    return PurePosixPath(category, part, GOOD if label == "ok" else label, name)


BTAD = Archive(
    name="BTAD",
    address="https://avires.dimi.uniud.it/papers/btad/btad.zip",
    sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    unpacked=6 * 2**30,
    licence="no licence that the archive names: its authors want to be cited (Mishra et al., VT-ADL, ISIE "
    "2021), and have to be asked for any other use than research",
    categories=("01", "02", "03"),
    layout=lambda _: _btad,
)

ARCHIVES = {"mvtec_ad": MVTEC_AD, "visa": VISA, "btad": BTAD}
