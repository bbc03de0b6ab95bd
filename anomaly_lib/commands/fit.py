"""``anomaly fit``: from a folder of photographs of good parts to a model."""

from pathlib import Path
from typing import Any

import click

from anomaly_lib.commands.console import progress_bars, say
from anomaly_lib.commands.grammar import ChainedGroup
from anomaly_lib.commands.options import Seed, device_option
from anomaly_lib.commands.train_gaussian import gaussian
from anomaly_lib.commands.train_patch_core import patch_core, sampler
from anomaly_lib.commands.train_patch_svdd import patch_svdd


@click.command(cls=ChainedGroup, name="fit", invoke_without_command=True)
@click.argument("good_folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("model_folder", type=click.Path(path_type=Path))
@click.option("--resize", type=click.IntRange(1), help="Length of the picture's shorter side, in pixels.")
@click.option(
    "--imagesize",
    type=click.IntRange(1),
    help="Side of the square cut from it, in pixels; of gaussian and patch_svdd, of the whole picture. "
    "Without it pictures are seen whole and in their own shape.",
)
@click.option("--seed", type=Seed(), default=0, show_default=True, help="For all that is drawn.")
@device_option
def main(**options: Any) -> None:
    """Fit a detector on the pictures of good parts below GOOD_FOLDER and save it as MODEL_FOLDER.

    \b
    anomaly fit photographs/good model
    anomaly predict model photographs/new

    Without a word it is patch_core. A model in MODEL_FOLDER is replaced. Each word has a help page of its
    own: anomaly fit patch_core --help.
    """


for word in (patch_core, sampler, gaussian, patch_svdd):
    main.add_command(word)


@main.result_callback()
@click.pass_context
def _run(
    ctx: click.Context, /, words: list[tuple[str, Any]], good_folder: Path, model_folder: Path, **options: Any
) -> None:
    from anomaly_lib.datasets.transforms import Geometry
    from anomaly_lib.runs.fitting import fit_folder

    given = dict(words)
    if [word for word, _ in words].count("detector") > 1:
        raise click.UsageError("which detector? Give one of: patch_core, gaussian, patch_svdd")
    if "detector" not in given:
        with patch_core.make_context("patch_core", [], parent=ctx) as usual:
            given["detector"] = patch_core.invoke(usual)[1]
    with progress_bars() as progress:
        method = given["detector"](given, options["seed"], options["device"])
        fitted = fit_folder(
            good_folder,
            model_folder,
            method.make_detector,
            Geometry(options["resize"], options["imagesize"], whole=options["imagesize"] is None),
            batch_size=method.batch_size or 8,
            progress=progress,
        )
    for sentence in fitted.sentences():
        say(sentence)
    say(f"Model: {model_folder}")
