"""``anomaly evaluate``: score test images with saved models."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.console import print_results, progress_bars
from anomaly_lib.commands.grammar import ChainedGroup, StrictCommand
from anomaly_lib.commands.options import NoEffect, chosen_device, dataset_options, refuse_others, run_options
from anomaly_lib.commands.train import data_choice
from anomaly_lib.commands.train_patch_core import sampler
from anomaly_lib.commands.train_patch_svdd import evaluate_patch_svdd, official_sources

if TYPE_CHECKING:
    from anomaly_lib.runs.sources import DetectorSource, SavedDetector


@click.command(cls=ChainedGroup, name="evaluate")
@click.argument("results_path", type=click.Path(path_type=Path))
@run_options
def main(**options: Any) -> None:
    """Evaluate saved models.

    \b
    anomaly evaluate RESULTS_PATH model_loader -p MODEL_FOLDER
        dataset -d cloth mvtec DATA_PATH
    anomaly evaluate RESULTS_PATH patch_svdd --weights enchier.pkl
        dataset -d bottle mvtec DATA_PATH

    The run is written to RESULTS_PATH, with a number appended when that exists.

    Each word has a help page of its own: anomaly evaluate model_loader --help.
    """


@click.command("model_loader", cls=StrictCommand)
@click.option(
    "-p",
    "--patch_core_paths",
    "model_paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of a model, ours or the official PatchCore's; one for all categories, or one each.",
)
@click.option("--weights", help="File with the backbone's weights, when it is no longer where it was.")
@click.option("--faiss_on_gpu", is_flag=True, cls=NoEffect, instead="--device says where")
@click.option("--faiss_num_workers", type=int, cls=NoEffect, instead="all cores are used")
def model_loader(**options: Any) -> tuple[str, dict[str, Any]]:
    """Which models; patch_core_loader is the official word."""
    return "model_loader", options


main.add_command(model_loader)
main.add_command(model_loader, name="patch_core_loader")
main.add_command(evaluate_patch_svdd)
main.add_command(sampler)


@main.command("dataset")
@dataset_options
@click.pass_context
def dataset(ctx: click.Context, /, **options: Any) -> tuple[str, dict[str, Any]]:
    """Which images."""
    refuse_others(ctx, options["name"])
    return "dataset", options


@main.result_callback()
def _run(words: list[tuple[str, dict[str, Any]]], results_path: Path, **options: Any) -> None:
    given = dict(words)
    if "dataset" not in given:
        raise click.UsageError("which images? Add: dataset -d CATEGORY mvtec DATA_PATH")
    if len({"model_loader", "patch_svdd"} & set(given)) != 1:
        raise click.UsageError(
            "which models? Add: model_loader -p MODEL_FOLDER, or: patch_svdd --weights FILE"
        )
    if "sampler" in given and "model_loader" in given:
        raise click.UsageError("sampler: a saved model has its memory bank already; omit the word")
    with progress_bars() as progress:
        from anomaly_lib.runs import Saving, evaluate

        device = chosen_device(options["device"], options["gpu"])
        if "patch_svdd" in given:
            sources: Sequence[DetectorSource] = official_sources(given, options["seed"], device)
        else:
            sources = _saved(given["model_loader"], device)
        run = evaluate(
            results_path,
            sources,
            data_choice(given["dataset"], options["seed"]),
            seed=options["seed"],
            saving=Saving(False, options["save_segmentation_images"], options["tensorboard"]),
            arguments=sys.argv[1:],
            progress=progress,
        )
    print_results(run)


def _saved(loader: dict[str, Any], device: str) -> "list[SavedDetector]":
    """Return the models that the word ``model_loader`` names."""
    from anomaly_lib.runs.sources import SavedDetector

    return [SavedDetector(path, device, loader["weights"]) for path in loader["model_paths"]]
