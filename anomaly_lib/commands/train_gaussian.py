"""The word ``gaussian`` of ``anomaly train``, with the options of Gaussian-AD's trainer."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.grammar import MakeMethod, Method, StrictCommand
from anomaly_lib.commands.options import (
    BATCH,
    Integers,
    augmentation_options,
    flat,
    precision_option,
    refuse,
    threshold_options,
)

if TYPE_CHECKING:
    from anomaly_lib.datasets import Category
    from anomaly_lib.datasets.transforms import Geometry
    from anomaly_lib.detectors import Detector
    from anomaly_lib.runs.sources import MakeDetector

_DISTANCES = ("l2", "sed", "ocsvm")
_FOLDS = ("0", "1", "2", "3", "4", "all")

log = logging.getLogger(__name__)


@click.command("gaussian", cls=StrictCommand)
@click.option("-a", "--arch", help="timm model, or resnet18 ... efficientnet-b7 as the authors call them.")
@click.option("--weights", help="File with the backbone's weights, or random.")
@click.option(
    "--extract_blocks",
    "levels",
    type=Integers(),
    multiple=True,
    callback=flat,
    help="Levels, as 0,1,2 or repeated; 0 is the stem. Default: all.",
)
@click.option("--pca", is_flag=True, help="Keep the first principal components, up to --variance_threshold.")
@click.option("--npca", is_flag=True, help="Keep the last ones, from --variance_threshold on.")
@click.option("--variance_threshold", type=float, help="Share of the variance, for --pca and --npca.")
@click.option("--l2", is_flag=True, help="Euclidean distance instead of Mahalanobis'.")
@click.option("--sed", is_flag=True, help="Standardised Euclidean distance instead.")
@click.option("--ocsvm", is_flag=True, help="One-class SVM instead; it makes no maps.")
@click.option(
    "--fold",
    type=click.Choice(_FOLDS),
    default="0",
    show_default=True,
    help="Fifth to hold out for the threshold; all: fit on all images.",
)
@click.option("--augment", is_flag=True, help="Fit on changed images; which changes is known for MVTec AD.")
@augmentation_options
@click.option("--batch_size", type=BATCH, help="Images at a time. Default: the word dataset's.")
@click.option(
    "--map_levels",
    type=Integers(),
    multiple=True,
    callback=flat,
    help="Levels that the maps are made of, as 4,5 or repeated. Default: those at strides 4 to 16.",
)
@click.option("--shared_mean", is_flag=True, help="Maps: one mean for all positions.")
@click.option("--level_maps", is_flag=True, help="Measure each level's own map too.")
@threshold_options
@precision_option
@click.pass_context
def gaussian(ctx: click.Context, /, **options: Any) -> tuple[str, MakeMethod]:
    """Gaussian: the distance from each level's normal distribution."""
    if options["ocsvm"]:
        refuse(ctx, ("map_levels", "level_maps", "shared_mean"), "--ocsvm makes no maps")
    if not (options["augment"] or options["augmentations"]):
        refuse(ctx, ("augment_passes",), "nothing is changed without --augment or --augmentations")

    def method(words: Mapping[str, Any], seed: int, device: str) -> Method:
        if "sampler" in words:
            raise click.UsageError("sampler: Gaussian has no memory bank; omit the word")
        return Method(_maker(options, seed, device), options["batch_size"], not options["ocsvm"])

    return "detector", method


def _maker(options: Mapping[str, Any], seed: int, device: str) -> "MakeDetector":
    from anomaly_lib.detectors import Gaussian
    from anomaly_lib.detectors.gaussian.levels import official_transform
    from anomaly_lib.networks.names import DEFAULT_BACKBONE, side_multiple

    backbone = options["arch"] or DEFAULT_BACKBONE
    parameters: dict[str, Any] = {
        "levels": options["levels"],
        "distance": _the_one(options, _DISTANCES) or "mahalanobis",
        "reduction": _reduction(options),
        "fold": None if options["fold"] == "all" else int(options["fold"]),
        "map_levels": options["map_levels"],
        "position_means": not options["shared_mean"],
        "seed": seed,
        "device": device,
    }
    names = (
        "weights",
        "variance_threshold",
        "level_maps",
        "augment_passes",
        "false_alarm_rate",
        "robust",
        "precision",
    )
    parameters |= {name: options[name] for name in names}

    @cache
    def augmentations(category: str) -> Sequence[str]:
        return _augmentations(options, category)

    def make(category: "Category", geometry: "Geometry") -> "Detector":
        transform = official_transform(backbone).asked(geometry, side_multiple(backbone))
        return Gaussian(backbone, transform=transform, augment=augmentations(category.name), **parameters)

    return make


def _augmentations(options: Mapping[str, Any], category: str) -> Sequence[str]:
    """Return the augmentations of a category: those given, or with ``--augment`` those known to be safe."""
    from anomaly_lib.datasets.safe_augmentations import safe_augmentations

    chosen: Sequence[str] = options["augmentations"]
    if chosen or not options["augment"]:
        return chosen
    safe = safe_augmentations([category])
    log.info("--augment: %s of %s", ", ".join(safe), category)
    return safe


def _reduction(options: Mapping[str, Any]) -> str:
    reduction, share = _the_one(options, ("pca", "npca")), options["variance_threshold"]
    if reduction and share is None:
        raise click.UsageError(
            f"--{reduction} needs --variance_threshold, as in --{reduction} --variance_threshold 0.99"
        )
    if share is not None and not reduction:
        raise click.UsageError(
            f"--variance_threshold needs --pca or --npca, as in --npca --variance_threshold {share:g}"
        )
    return reduction or "none"


def _the_one(options: Mapping[str, Any], flags: Sequence[str]) -> str | None:
    given = [flag for flag in flags if options[flag]]
    if len(given) > 1:
        raise click.UsageError(f"--{given[0]} and --{given[1]}: give one of them")
    return given[0] if given else None
