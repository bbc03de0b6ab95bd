"""``anomaly data``: data sets to work on."""

import sys
from pathlib import Path

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictGroup
from anomaly_lib.commands.options import Seed, distinct
from anomaly_lib.folders import sample_folder

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
def check(path: Path, subdatasets: tuple[str, ...]) -> None:
    """Say what in PATH is used for what, and what would spoil results: then the status is 1.

    PATH is a data set, one category of it, or a folder of photographs.
    """
    from anomaly_lib.datasets.check import check_data

    with progress_bars() as progress:
        found = check_data(path, subdatasets, progress)
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


@main.command("sample")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--seed", type=Seed(), default=0, show_default=True, help="For all that is drawn.")
def sample(path: Path | None, seed: int) -> None:
    """Generate the sample data set in PATH, by default data/sample of the work folder."""
    from anomaly_lib.datasets.sample import generate_sample

    with progress_bars() as progress:
        root = generate_sample(path or sample_folder(), seed, progress=progress)
    say(f"Sample data set: {root}")
