"""The word ``gaussian`` of ``anomaly train``, with the options of Gaussian-AD's trainer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.common import Integers, MakeMaker, Maker, Words, flat, log

if TYPE_CHECKING:
    from anomaly_lib.detectors import Detector

_DISTANCES = ("l2", "sed", "ocsvm")
_FOLDS = ("0", "1", "2", "3", "4", "all")


@click.command("gaussian")
@click.option("-a", "--arch", help="timm model, or resnet18 ... efficientnet-b7 as the authors call them.")
@click.option("--weights", help="File with the backbone's weights, or random.")
@click.option(
    *("--extract_blocks", "levels"),
    type=Integers(),
    multiple=True,
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
@click.option(
    "--augmentations",
    type=Words(),
    multiple=True,
    help="Which changes: flip, rotate90, rotate45, background_edge, noise, as flip,noise or repeated.",
)
@click.option("--augment_passes", type=click.IntRange(1), default=100, show_default=True)
@click.option("--batch_size", type=click.IntRange(1), help="Images at a time. Default: the word dataset's.")
@click.option("--map_levels", type=Integers(), multiple=True, help="Default: those at strides 4 to 16.")
@click.option("--shared_mean", is_flag=True, help="Maps: one mean for all positions.")
@click.option("--level_maps", is_flag=True, help="Measure each level's own map too.")
@click.option("--false_alarm_rate", type=float, default=0.01, show_default=True, help="For the threshold.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
def gaussian(**options: Any) -> tuple[str, MakeMaker]:
    """Gaussian: the distance from the normal distribution of each level's features."""

    def make(words: Mapping[str, Any], seed: int, device: str) -> Maker:
        if "sampler" in words:
            raise click.UsageError("sampler: Gaussian has no memory bank; omit the word")
        if (batch_size := options["batch_size"]) is not None:
            words["dataset"]["batch_size"] = batch_size
        return _maker({**options, **_augmentations(options, words["dataset"])}, seed, device)

    return "detector", make


def _maker(options: Mapping[str, Any], seed: int, device: str) -> Maker:
    from anomaly_lib.detectors import Gaussian
    from anomaly_lib.networks.names import DEFAULT_BACKBONE

    parameters: dict[str, Any] = {
        "distance": _the_one(options, _DISTANCES) or "mahalanobis",
        "reduction": _reduction(options),
        "fold": None if options["fold"] == "all" else int(options["fold"]),
        "map_levels": flat(options["map_levels"]),
        "position_means": not options["shared_mean"],
        "seed": seed,
        "device": device,
    }
    names = (
        *("weights", "variance_threshold", "level_maps", "false_alarm_rate", "precision"),
        *("augment", "augment_by_name", "augment_passes"),
    )
    parameters |= {name: options[name] for name in names}

    def make() -> "Detector":
        return Gaussian(options["arch"] or DEFAULT_BACKBONE, flat(options["levels"]), **parameters)

    return make


def _augmentations(options: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that ``--augment`` and ``--augmentations`` ask for."""
    from anomaly_lib.datasets import find_categories
    from anomaly_lib.datasets.safe_augmentations import safe_augmentations

    chosen = flat(options["augmentations"])
    if not options["augment"] or chosen:
        return {"augment": chosen, "augment_by_name": {}}
    categories = dataset["subdatasets"] or find_categories(dataset["data_path"])
    known = {name: safe_augmentations([name]) for name in categories}
    for name, kinds in known.items():
        log.info("--augment: %s of %s", ", ".join(kinds), name)
    return {"augment": (), "augment_by_name": {f"{dataset['name']}_{name}": known[name] for name in known}}


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
