"""``anomaly compare``: what changed since last week's model."""

from pathlib import Path
from typing import Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.commands.options import device_option
from anomaly_lib.commands.paths import picture_files


@click.command("compare", cls=StrictCommand)
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1)
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
@device_option
def main(before: Path, after: Path, paths: tuple[str, ...], **options: Any) -> None:
    """Say how the model AFTER differs from the model BEFORE, and which of PATHS they judge differently.

    PATHS are pictures, folders of pictures, patterns such as 'new/*.png', or - for a list on stdin. The model
    before an update is the folder `previous` in its own.
    """
    from anomaly_lib.runs.comparison import compare_models

    files = list(picture_files(paths))
    with progress_bars() as progress:
        compared = compare_models(before, after, files, progress=progress, **options)
    for sentence in compared.sentences():
        say(sentence)
