"""``anomaly report``: a run as one page to send and to print."""

from pathlib import Path

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictCommand


@click.command("report", cls=StrictCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page. Default: report.html in RUN.",
)
def main(run: Path, output: Path | None) -> None:
    """Write what the run in the folder RUN found as one page of HTML that needs no other file.

    Tables, score histograms, ROC curves, mistakes and clear cases, settings and versions.
    """
    from anomaly_lib.runs.report import write_report

    with progress_bars() as progress:
        file = write_report(run, output, progress)
    say(f"Report: {file}")
