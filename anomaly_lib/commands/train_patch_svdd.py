"""The word ``patch_svdd`` of ``anomaly train`` and of ``anomaly evaluate``."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.grammar import MakeMethod, Method, StrictCommand
from anomaly_lib.commands.options import precision_option, refuse, threshold_options
from anomaly_lib.commands.train_patch_core import sampler

if TYPE_CHECKING:
    from anomaly_lib.datasets import Category
    from anomaly_lib.datasets.transforms import Geometry
    from anomaly_lib.detectors import Detector
    from anomaly_lib.runs.sources import NewDetector

log = logging.getLogger(__name__)


def _shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to score; sizes of patches cannot differ from the training's."""
    decorators = (
        click.option("--K", "K", type=int, default=64, show_default=True, help="Largest patches, 64 or 32."),
        click.option(
            "--S",
            "S",
            type=int,
            nargs=2,
            default=(16, 4),
            show_default=True,
            metavar="S64 S32",
            help="Two numbers: the pixels between patches of 64 and those between patches of 32.",
        ),
        threshold_options,
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def _threshold_images(default: int) -> Callable[..., Any]:
    return click.option(
        "--threshold_images",
        type=int,
        default=default,
        show_default=True,
        help="Training images that the threshold is learned from; 0: no threshold.",
    )


@click.command("patch_svdd", cls=StrictCommand)
@click.option(
    "--lambda_value",
    type=float,
    default=1e-3,
    show_default=True,
    help="Weight of the SVDD loss; another published code has 1.",
)
@click.option("--D", "D", type=int, default=64, show_default=True, help="Dimensions of an embedding.")
@click.option(
    "--epochs", type=int, default=300, show_default=True, help="Times that the images are gone through."
)
@click.option("--lr", type=float, default=1e-4, show_default=True, help="Learning rate of Adam.")
@click.option(
    "--batch_size",
    type=int,
    default=64,
    show_default=True,
    help="Pairs of each kind in a step; another published code has 256.",
)
@click.option("--repeat", type=int, default=100, show_default=True, help="Pairs of an image in an epoch.")
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path),
    help="Folder for checkpoints; an interrupted training goes on from there.",
)
@click.option("--checkpoint_every", type=int, default=1, show_default=True, help="Epochs between them.")
@click.option(
    "--look_every",
    type=int,
    default=0,
    show_default=True,
    help="Epochs between early looks at the AUROC; 0: none.",
)
@precision_option
@_threshold_images(100)
@_shared_options
@click.pass_context
def patch_svdd(ctx: click.Context, /, **options: Any) -> tuple[str, MakeMethod]:
    """Patch SVDD: an encoder of patches trained on normal images."""
    if options["checkpoints"] is None:
        refuse(ctx, ("checkpoint_every",), "there are no checkpoints without --checkpoints FOLDER")
    if options["look_every"] > options["epochs"]:
        refuse(ctx, ("look_every",), f"there are only {options['epochs']} epochs")
    _require_threshold(ctx, options)

    def method(words: Mapping[str, Any], seed: int, device: str) -> Method:
        from anomaly_lib.datasets.choice import row_name

        shared = {**options, **_sampling(words), "seed": seed, "device": device}
        root = shared.pop("checkpoints")

        def make(category: "Category", geometry: "Geometry") -> "Detector":
            if root is None:
                return _detector(geometry, **shared)
            data_set = words["dataset"]["name"] if "dataset" in words else "folder"
            return _detector(geometry, checkpoints=root / row_name(data_set, category), **shared)

        return Method(make)

    return "detector", method


@click.command("patch_svdd", cls=StrictCommand)
@click.option(
    "--weights",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="enchier.pkl of the official code; one for all categories, or one each.",
)
@_threshold_images(0)
@_shared_options
@click.pass_context
def evaluate_patch_svdd(
    ctx: click.Context, /, weights: tuple[Path, ...], **options: Any
) -> tuple[str, dict[str, Any]]:
    """Take encoders that the official Patch SVDD trained."""
    _require_threshold(ctx, options)
    return "patch_svdd", {"weights": weights, "options": options}


def _require_threshold(ctx: click.Context, options: Mapping[str, Any]) -> None:
    if options["threshold_images"] == 0:
        refuse(ctx, ("false_alarm_rate", "robust"), "there is no threshold with --threshold_images 0")


def official_sources(words: Mapping[str, Any], seed: int, device: str) -> "list[NewDetector]":
    """Return what makes a detector for each file given to the word ``patch_svdd`` of ``evaluate``."""
    from anomaly_lib.detectors.patch_svdd.official import read_official_patch_svdd
    from anomaly_lib.runs.sources import NewDetector

    word = words["patch_svdd"]
    for file in word["weights"]:
        read_official_patch_svdd(file)  # what is wrong with a file is said before any work begins
    options = {**word["options"], **_sampling(words), "seed": seed, "device": device}

    def source(file: Path) -> NewDetector:
        return NewDetector(lambda category, geometry: _detector(geometry, weights=file, **options))

    return [source(file) for file in word["weights"]]


def _detector(geometry: "Geometry", **parameters: Any) -> "Detector":
    from anomaly_lib.detectors import PatchSVDD
    from anomaly_lib.detectors.patch_svdd.detector import OFFICIAL_TRANSFORM

    return PatchSVDD(transform=OFFICIAL_TRANSFORM.asked(geometry), **parameters)


def _sampling(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the word ``sampler``, if any, says to Patch SVDD, which has no portions."""
    sampling = dict(words.get("sampler", {}))
    usual = {option.name: option.default for option in sampler.params}["buffer"]
    if sampling.pop("buffer", usual) != usual:
        log.warning("--buffer has no effect; patch_svdd does not thin out its memory banks in portions")
    return sampling
