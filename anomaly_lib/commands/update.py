"""``anomaly update``: a saved model learns from further pictures of good parts."""

from pathlib import Path
from typing import Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.commands.options import device_option
from anomaly_lib.commands.paths import picture_files


@click.command("update", cls=StrictCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1)
@click.option(
    "--false_alarms",
    is_flag=True,
    help="PATHS are good parts that the model called anomalous: picked for their scores, they do not count "
    "for the threshold.",
)
@click.option("--undo", is_flag=True, help="Return MODEL to what it was before its last update.")
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
@device_option
@click.pass_context
def main(ctx: click.Context, /, model: Path, paths: tuple[str, ...], **options: Any) -> None:
    """Let MODEL learn from more pictures of good parts, without fitting again.

    PATHS are pictures, folders of pictures, patterns such as 'new/*.png', or - for a list on stdin. The model
    as it was is kept: --undo returns to it.
    """
    from anomaly_lib.runs.updating import undo_update, update_model

    if options["undo"]:
        if paths or options["false_alarms"] or options["weights"]:
            raise click.UsageError("--undo returns to the model before: give nothing else with it")
        undo_update(model)
        say(f"Model: {model}, as it was before its last update")
        return
    if not paths:
        raise click.UsageError("which pictures? Give PATHS, or --undo")
    with progress_bars() as progress:
        updated = update_model(
            model,
            list(picture_files(paths)),
            calibrate=not options["false_alarms"],
            device=options["device"],
            weights=options["weights"],
            progress=progress,
        )
    for sentence in updated.sentences():
        say(sentence)
    say(f"Model: {model}")
