"""``anomaly tables``: the tables of the Gaussian-AD paper on your data."""

from pathlib import Path
from typing import Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.commands.options import (
    BATCH,
    Integers,
    Seed,
    augmentation_options,
    device_option,
    distinct,
    flat,
    refuse,
)


@click.command("tables", cls=StrictCommand)
@click.argument("number", type=click.Choice(["1", "2", "3", "4", "7"]))
@click.argument("results_path", type=click.Path(path_type=Path))
@click.argument("data_path", type=click.Path(path_type=Path))
@click.option(
    "-d",
    "--subdatasets",
    multiple=True,
    callback=distinct,
    help="Category; repeat for several. Default: all.",
)
@click.option(
    "--fold",
    "folds",
    type=Integers(),
    multiple=True,
    callback=flat,
    help="As 0,1 or repeated. Default: all five.",
)
@click.option(
    "-a",
    "--arch",
    "archs",
    multiple=True,
    help="Architecture; repeat for several. Those of the table narrow it, others take their place.",
)
@click.option("--augment/--no-augment", default=None, help="Default: as in the paper, for table 4 only.")
@augmentation_options
@click.option("--imagesize", type=click.IntRange(1), help="Side of the square input. Default: the network's.")
@click.option("--batch_size", type=BATCH, default=16, show_default=True, help="Images at a time.")
@click.option("--seed", type=Seed(), default=0, show_default=True, help="For the augmentation.")
@device_option
@click.pass_context
def main(ctx: click.Context, /, number: str, results_path: Path, **options: Any) -> None:
    """Make a table of the paper on Gaussian anomaly detection on the data in DATA_PATH.

    \b
    1  distances: L2, SED, Mahalanobis           4  false and true alarms at 1 to 5 sigma
    2  EfficientNet-B0 to B7                     7  ResNet-18, 34, 50
    3  PCA and NPCA

    Written to RESULTS_PATH/tableN.csv; its runs in tableN_runs.csv, from which an interrupted table goes on.
    """
    from anomaly_lib.tables import TABLES, TableChoice, formatted, run_table

    augment = options["augment"]
    if not (TABLES[int(number)].augment if augment is None else augment):
        reason = f"nothing is changed for table {number} without --augment"
        refuse(ctx, ("augmentations", "augment_passes"), reason)
    choice = TableChoice(
        root=options.pop("data_path"),
        categories=options.pop("subdatasets"),
        folds=options.pop("folds") or TableChoice.folds,
        **options,
    )
    with progress_bars() as progress:
        result = run_table(int(number), results_path, choice, progress)
    click.echo(formatted(result.numbers).to_string())
    if result.skipped:
        say(f"Without weights, left out: {', '.join(result.skipped)}")
    say(f"Results: {results_path / f'table{number}.csv'}")
