"""``anomaly predict``: what a saved model says of new pictures."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.failures import UserError
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.commands.options import device_option
from anomaly_lib.commands.paths import picture_files

if TYPE_CHECKING:
    from anomaly_lib.detectors import Detector
    from anomaly_lib.runs.answers import AnswerFile, MarkedPictures

NOT_ALL_GOOD = 3
"""Exit status with --fail_on_anomaly when a picture is anything but good."""


@click.command("predict", cls=StrictCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Table of the answers, .csv or .json, instead of lines here.",
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the pictures, each with what was found in it.",
)
@click.option(
    "--watch",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Score pictures as they arrive in this folder, each once, until Ctrl-C.",
)
@click.option(
    "--fail_on_anomaly",
    is_flag=True,
    help=f"End with status {NOT_ALL_GOOD} unless every picture is good: not anomalous and not unreadable.",
)
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
@device_option
def main(model: Path, paths: tuple[str, ...], **options: Any) -> None:
    """Say of each picture in PATHS whether it is like those that MODEL was fitted on.

    PATHS are pictures, folders of pictures, patterns such as 'new/*.png', or - for a list on stdin, a path a
    line. Each is good or anomalous, and its score is in units of the model's threshold: 1 is at it.
    """
    from anomaly_lib.detectors import load_detector
    from anomaly_lib.runs.answers import AnswerFile, MarkedPictures

    watched: Path | None = options["watch"]
    if bool(paths) == bool(watched):
        raise click.UsageError("which pictures? Give PATHS, or a folder with --watch, and not both")
    if watched and options["fail_on_anomaly"]:
        raise click.UsageError("--fail_on_anomaly has no effect: --watch ends at Ctrl-C")
    files = list(picture_files(paths))
    marked = MarkedPictures(options["pictures"], [watched] if watched else [file.parent for file in files])
    detector = load_detector(model, device=options["device"], weights=options["weights"])
    with AnswerFile(options["output"], lasting=watched is not None) as output:
        if watched:
            _watch(detector, watched, output, marked)
        counts = _tell(detector, files, output, marked)
    say(", ".join(f"{number} {label}" for label, number in sorted(counts.items())))
    if counts["unreadable"] == len(files):
        raise UserError("none of the pictures could be read: see above, or the table's last column")
    if options["fail_on_anomaly"] and counts["good"] < len(files):
        sys.exit(NOT_ALL_GOOD)


def _tell(
    detector: "Detector", files: Sequence[Path], output: "AnswerFile", marked: "MarkedPictures"
) -> Counter[str]:
    """Answer for each of the files, and return how many have which label."""
    from anomaly_lib.errors import DataError
    from anomaly_lib.predict import answers, unseen_sentence

    if not files:
        raise UserError("there are no pictures: give files, or folders that hold some")
    counts: Counter[str] = Counter()
    with progress_bars() as progress:
        for file, answer in zip(files, answers(detector, files), strict=True):
            if not isinstance(answer, DataError):
                marked.save(file, answer)
                if not counts and (sentence := unseen_sentence([answer])):
                    say(sentence)
            row = output.add(file, answer)  # after its picture, so that whoever sees the row finds that
            counts[row.label] += 1
            if not output.file:
                say(row.line())
            progress("pictures", counts.total(), len(files))
    return counts


def _watch(detector: "Detector", folder: Path, output: "AnswerFile", marked: "MarkedPictures") -> None:
    """Answer for pictures as they arrive, without end."""
    from anomaly_lib.datasets.arrivals import arrivals

    say(f"watching {folder}; Ctrl-C ends it")
    for files in arrivals(folder, output.known):
        _tell(detector, files, output, marked)
