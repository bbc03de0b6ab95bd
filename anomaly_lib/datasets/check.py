"""What is in a data set, and what in it would spoil the results of a detector."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anomaly_lib.datasets.images import decode_ahead
from anomaly_lib.datasets.likeness import Seen, look, pairs
from anomaly_lib.datasets.listing import entries, folders_in, is_folder, pictures_below, pictures_in
from anomaly_lib.datasets.mvtec import GOOD, find_categories, read_category
from anomaly_lib.errors import DataError
from anomaly_lib.progress import Progress, silent

# Good parts, with fewer of which a threshold promises little.
_FEW = 40

# Of a kind of finding, so many are named.
_NAMED = 5


@dataclass
class Findings:
    """What was found in a folder.

    Attributes
    ----------
    facts
        What will be used for what.
    remarks
        What one should know.
    problems
        What would spoil the results.
    """

    facts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_data(
    path: Path, categories: Sequence[str] = (), progress: Progress = silent
) -> dict[str, Findings]:
    """Look through a data set, a category of it or a folder of photographs; return what was found, by name.

    Raises
    ------
    DataError
        When there is nothing to look at.
    """
    path = Path(path)
    if is_folder(path / "train"):
        return {path.name: _of_category(path.parent, path.name, progress)}
    names = find_categories(path)
    if unknown := sorted(set(categories) - set(names)):
        raise DataError(f"no category {unknown[0]!r} in {path}")
    if names:
        return {name: _of_category(path, name, progress) for name in categories or names}
    return {path.name or str(path): _of_photographs(path, progress)}


def _of_photographs(folder: Path, progress: Progress) -> Findings:
    findings = Findings()
    files = pictures_below(folder)
    if not files:
        raise DataError(f"there are no pictures in {folder}: give a folder of photographs, or a data set")
    seen = _looked_at({"good": files}, findings, progress)
    findings.facts.append(f"{len(files)} pictures to learn from")
    _tell_of_kinds(seen, findings)
    _tell_of_number(len(seen), findings)
    _tell_of_duplicates(seen, findings)
    return findings


def _of_category(root: Path, name: str, progress: Progress) -> Findings:
    findings = Findings()
    folder = root / name
    try:
        read_category(root, name)
    except DataError as error:
        findings.problems.append(str(error))
    parts = {f"train/{GOOD}": pictures_in(folder / "train" / GOOD)}
    for defect in folders_in(folder / "test"):
        parts[f"test/{defect}"] = pictures_in(folder / "test" / defect)
    seen = _looked_at(parts, findings, progress)
    for part, files in parts.items():
        use = "to learn from" if part.startswith("train") else "to test on"
        findings.facts.append(f"{part}: {len(files)} pictures {use}{_masks(folder, part)}")
    _tell_of_kinds(seen, findings)
    _tell_of_number(sum(one.part.startswith("train") for one in seen), findings)
    if not parts.get(f"test/{GOOD}"):
        findings.remarks.append("no good parts to test on: false alarms cannot be counted")
    if len(parts) - (f"test/{GOOD}" in parts) < 2:
        findings.remarks.append("no defects to test on: what is missed cannot be counted")
    _tell_of_duplicates(seen, findings)
    return findings


def _masks(folder: Path, part: str) -> str:
    defect = part.partition("/")[2]
    if part.startswith("train") or defect == GOOD:
        return ""
    number = len(entries(folder / "ground_truth" / defect))
    return f", {number} masks" if number else ", no masks"


def _looked_at(parts: dict[str, list[Path]], findings: Findings, progress: Progress) -> list[Seen]:
    """Return what can be compared of all pictures; those that cannot be read are problems."""
    files = [(path, part) for part, paths in parts.items() for path in paths]
    seen = []
    for number, one in enumerate(decode_ahead(look, files, ahead=16), start=1):
        progress("pictures", number, len(files))
        if isinstance(one, DataError):
            findings.problems.append(str(one))
        else:
            seen.append(one)
    return seen


def _tell_of_kinds(seen: Sequence[Seen], findings: Findings) -> None:
    sizes = Counter(f"{width} x {height}" for width, height in (one.size for one in seen))
    modes = Counter(one.mode for one in seen)
    findings.facts.append(f"sizes: {_counted(sizes)}; kinds of pixels: {_counted(modes)}")
    if len(sizes) > 1:
        findings.remarks.append(f"the pictures have {len(sizes)} different sizes")
    colours = {"grey" if mode in ("1", "L", "LA", "I", "I;16", "F") else "colour" for mode in modes}
    if len(colours) > 1:
        findings.remarks.append("some pictures are grey and others in colour: a detector sees the difference")


def _counted(counts: Counter[str]) -> str:
    named = [f"{name} ({number})" for name, number in counts.most_common(_NAMED)]
    return ", ".join(named) + (", ..." if len(counts) > _NAMED else "")


def _tell_of_number(good: int, findings: Findings) -> None:
    if good < 2:
        findings.problems.append(f"{good} readable pictures of good parts: a threshold takes two at least")
    elif good < _FEW:
        findings.remarks.append(
            f"{good} pictures of good parts promise 1 false alarm in {good + 1} at best: take {_FEW} or more"
        )


def _tell_of_duplicates(seen: Sequence[Seen], findings: Findings) -> None:
    """Name pictures that are there twice: across the parts they spoil results."""
    same, alike = pairs(seen)
    for found, how in ((same, "is the same picture as"), (alike, "shows nearly the same as")):
        across = [pair for pair in found if pair[0].part != pair[1].part]
        within = [pair for pair in found if pair[0].part == pair[1].part]
        findings.problems += _named(across, how)
        findings.remarks += _named(within, how)


def _named(pairs: Sequence[tuple[Seen, Seen]], how: str) -> list[str]:
    said = [f"{one.path} {how} {other.path}" for one, other in pairs[:_NAMED]]
    if len(pairs) > _NAMED:
        said.append(f"{len(pairs) - _NAMED} more pairs of which one {how} the other")
    return said
