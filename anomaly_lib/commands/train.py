"""``anomaly train``: fit a detector on each category, evaluate it, and keep what it found."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.console import print_results, progress_bars
from anomaly_lib.commands.grammar import ChainedGroup
from anomaly_lib.commands.options import chosen_device, dataset_options, refuse_others, run_options
from anomaly_lib.commands.train_gaussian import gaussian
from anomaly_lib.commands.train_patch_core import patch_core, sampler
from anomaly_lib.commands.train_patch_svdd import patch_svdd

if TYPE_CHECKING:
    from anomaly_lib.datasets.choice import DataChoice


def _below_results(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """Return the name of a folder, which is to lie below RESULTS_PATH."""
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise click.BadParameter(f"{name!r} does not lie below RESULTS_PATH: give a plain name")
    return name


@click.command(cls=ChainedGroup, name="train")
@click.argument("results_path", type=click.Path(path_type=Path))
@run_options
@click.option(
    "--log_group", default="group", show_default=True, callback=_below_results, help="Name of the run."
)
@click.option(
    "--log_project",
    default="project",
    show_default=True,
    callback=_below_results,
    help="Folder of runs under RESULTS_PATH.",
)
@click.option(
    "--save_patchcore_model",
    "--save_model",
    "save_model",
    is_flag=True,
    help="Keep the fitted models, of whichever detector.",
)
def main(**options: Any) -> None:
    """Train a detector on each category and evaluate it.

    \b
    anomaly train RESULTS_PATH patch_core -b tf_efficientnet_lite0
        sampler -p 0.1 approx_greedy_coreset
        dataset -d cloth -d gear mvtec DATA_PATH

    The run is written to RESULTS_PATH/LOG_PROJECT/LOG_GROUP, with a number appended when that exists.

    Each word has a help page of its own: anomaly train patch_core --help.
    """


_DETECTORS = (patch_core, gaussian, patch_svdd)

for word in (*_DETECTORS, sampler):
    main.add_command(word)


@main.command("dataset")
@dataset_options
@click.option("--train_val_split", type=float, default=1.0, show_default=True, help="Share to train on.")
@click.pass_context
def dataset(ctx: click.Context, /, **options: Any) -> tuple[str, dict[str, Any]]:
    """Which images."""
    refuse_others(ctx, options["name"])
    # Official lines, for the layout of MVTec AD, mean the official crop.
    options["whole"] |= options["name"] != "mvtec" and not options["imagesize"]
    return "dataset", options


@main.result_callback()
def _run(words: list[tuple[str, Any]], results_path: Path, **options: Any) -> None:
    given = dict(words)
    if "dataset" not in given:
        raise click.UsageError("which images? Add: dataset -d CATEGORY mvtec DATA_PATH")
    if [word for word, _ in words].count("detector") != 1:
        raise click.UsageError(
            f"which detector? Give one of: {', '.join(str(one.name) for one in _DETECTORS)}"
        )
    with progress_bars() as progress:
        from anomaly_lib.runs import Saving, train

        device = chosen_device(options["device"], options["gpu"])
        method = given["detector"](given, options["seed"], device)
        if options["save_segmentation_images"] and not method.has_maps:
            raise click.UsageError("--save_segmentation_images has no effect: --ocsvm makes no maps")
        run = train(
            results_path,
            method.make_detector,
            data_choice(given["dataset"], options["seed"], method.batch_size),
            log_project=options["log_project"],
            log_group=options["log_group"],
            seed=options["seed"],
            saving=Saving(options["save_model"], options["save_segmentation_images"], options["tensorboard"]),
            arguments=sys.argv[1:],
            progress=progress,
        )
    print_results(run)


def data_choice(options: dict[str, Any], seed: int, batch_size: int | None = None) -> "DataChoice":
    """Return the choice of data that the word ``dataset`` makes; `seed` draws the contamination.

    A method may have said `batch_size`, and the word another: which is meant cannot be known.
    """
    from anomaly_lib.datasets.choice import DataChoice
    from anomaly_lib.datasets.transforms import Geometry

    own = options["batch_size"]
    if batch_size and own and batch_size != own:
        raise click.UsageError(
            f"--batch_size is {batch_size} for the detector and {own} for the dataset: give one of them"
        )
    return DataChoice(
        root=options["data_path"],
        categories=options["subdatasets"],
        name=options["name"],
        geometry=Geometry(options["resize"], options["imagesize"], options["whole"]),
        batch_size=batch_size or own or DataChoice.batch_size,
        train_share=options.get("train_val_split", 1.0),
        contamination=options["contamination"],
        seed=seed,
        abnormal=options["abnormal"],
        masks=options["masks"],
        test_share=options["test_share"],
    )
