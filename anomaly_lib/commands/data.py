"""``anomaly data``: data sets to work on."""

import sys
from pathlib import Path
from typing import Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.failures import UserError
from anomaly_lib.commands.grammar import StrictGroup
from anomaly_lib.commands.options import Seed, distinct
from anomaly_lib.folders import sample_folder, work_folder

# Where the workshop looks for a data set, if it is not its name.
_FOLDERS = {"mvtec_ad": "mvtec_anomaly_detection"}

PROBLEMS = 1
"""Exit status of ``data check`` when something would spoil the results."""


@click.group(name="data", cls=StrictGroup)
def main() -> None:
    """Make data sets to work on, and look through yours."""


@main.command("check")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-d",
    "--subdatasets",
    multiple=True,
    callback=distinct,
    help="Category; repeat for several.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Fitted on PATH, one category or a folder of photographs: which of its pictures stand out?",
)
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Page of HTML for those pictures."
)
def check(path: Path, subdatasets: tuple[str, ...], **options: Any) -> None:
    """Say what in PATH is used for what, and what would spoil results: then the status is 1.

    PATH is a data set, one category of it, or a folder of photographs.
    """
    from anomaly_lib.datasets.check import check_data
    from anomaly_lib.runs.standing_out import standing_out, write_standing_out

    model: Path | None = options["model"]
    if model is None and (options["page"] or options["weights"]):
        raise click.UsageError("--page and --weights have no effect without --model")
    with progress_bars() as progress:
        found = check_data(path, subdatasets, progress)
        if model is not None:
            if len(found) != 1:
                raise click.UsageError("--model was fitted on one category: name it, as in -d CATEGORY")
            place = path / subdatasets[0] if subdatasets else path
            strange = standing_out(model, place, weights=options["weights"], progress=progress)
            next(iter(found.values())).problems += [one.sentence() for one in strange]
            if options["page"]:
                write_standing_out(strange, options["page"])
    for name, findings in found.items():
        say(name)
        for kind, sentences in (
            ("", findings.facts),
            ("note: ", findings.remarks),
            ("PROBLEM: ", findings.problems),
        ):
            for sentence in sentences:
                say(f"  {kind}{sentence}")
    problems = sum(len(findings.problems) for findings in found.values())
    say("nothing would spoil the results" if not problems else f"problems: {problems}")
    if problems:
        sys.exit(PROBLEMS)


@main.command("download")
@click.argument("name", type=click.Choice(["mvtec_ad", "visa", "btad"]))
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--category", "categories", multiple=True, callback=distinct, help="Only this one; repeatable.")
@click.option("--accept_licence", is_flag=True, help="Accept the licence, which is shown without it.")
def download_(name: str, path: Path | None, categories: tuple[str, ...], accept_licence: bool) -> None:
    """Download a public data set into PATH, by default a folder of its own in the work folder.

    MVTec AD is a download of 5 GB, VisA of 2 GB, BTAD of 3 GB; whichever it is, it comes to lie in the layout
    of MVTec AD, the workshop's.

    Interrupted, the same line goes on from where it was.
    """
    from anomaly_lib.datasets.archives import ARCHIVES
    from anomaly_lib.datasets.download import download

    archive = ARCHIVES[name]
    say(f"{archive.name} is under {archive.licence}.")
    if not accept_licence:
        raise UserError("nothing was downloaded: accept the licence by --accept_licence")
    folder = path or work_folder() / "data" / _FOLDERS.get(name, name)
    with progress_bars() as progress:
        found = download(archive, folder, categories, progress)
    say(f"{archive.name}: {', '.join(found)} in {folder}")


@main.command("sample")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--seed", type=Seed(), default=0, show_default=True, help="For all that is drawn.")
def sample(path: Path | None, seed: int) -> None:
    """Generate the sample data set in PATH, by default data/sample of the work folder."""
    from anomaly_lib.datasets.sample import generate_sample

    with progress_bars() as progress:
        root = generate_sample(path or sample_folder(), seed, progress=progress)
    say(f"Sample data set: {root}")
