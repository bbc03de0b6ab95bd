"""``anomaly data``: data sets to work on."""

from pathlib import Path

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictGroup
from anomaly_lib.commands.options import Seed
from anomaly_lib.folders import sample_folder


@click.group(name="data", cls=StrictGroup)
def main() -> None:
    """Make data sets to work on."""


@main.command("sample")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--seed", type=Seed(), default=0, show_default=True, help="For all that is drawn.")
def sample(path: Path | None, seed: int) -> None:
    """Generate the sample data set in PATH, by default data/sample of the work folder."""
    from anomaly_lib.datasets.sample import generate_sample

    with progress_bars() as progress:
        root = generate_sample(path or sample_folder(), seed, progress=progress)
    say(f"Sample data set: {root}")
