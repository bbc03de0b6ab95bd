"""The words ``patch_core`` and ``sampler`` of ``anomaly train``."""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.grammar import MakeMethod, Method, StrictCommand
from anomaly_lib.commands.options import (
    NoEffect,
    Seed,
    ShareOrNumber,
    precision_option,
    refuse,
    threshold_options,
)

if TYPE_CHECKING:
    from anomaly_lib.datasets import Category
    from anomaly_lib.datasets.transforms import Geometry
    from anomaly_lib.detectors import Detector
    from anomaly_lib.runs.sources import MakeDetector

log = logging.getLogger(__name__)

_MEANS = "patches and layers are pooled by their mean"


def _require_seeds(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the backbones after a look at the seeds in their names."""
    for name in names:
        _, _, seed = name.partition(".seed-")
        if seed.isdecimal():
            Seed().convert(seed, param, ctx)
    return names


@click.command("patch_core", cls=StrictCommand)
@click.option(
    "-b",
    "--backbone_names",
    multiple=True,
    callback=_require_seeds,
    help="timm model; several make an ensemble. Default: tf_efficientnet_lite0.",
)
@click.option(
    "-le",
    "--layers_to_extract_from",
    multiple=True,
    help="Layer; repeat for several, in an ensemble as 0.layer2. Default: the backbone's own.",
)
@click.option("--weights", help="File with the backbone's weights, or random.")
@click.option(
    "--pretrain_embed_dimension", type=int, default=1024, show_default=True, help="Of a layer's patch."
)
@click.option(
    "--target_embed_dimension", type=int, default=1024, show_default=True, help="Of a patch over all layers."
)
@click.option("--anomaly_scorer_num_nn", type=int, default=1, show_default=True, help="Nearest neighbours.")
@click.option(
    "--reweight", type=int, default=0, show_default=True, help="Neighbours of the paper's equation 7; 0: off."
)
@click.option(
    "--patchsize", type=int, default=3, show_default=True, help="Side of a patch, in feature positions."
)
@threshold_options
@click.option("--official_batch_norm", is_flag=True, help="Shift batch norms as the official code does.")
@precision_option
@click.option("--preprocessing", type=click.Choice(["mean", "conv"]), cls=NoEffect, instead=_MEANS)
@click.option("--aggregation", type=click.Choice(["mean", "mlp"]), cls=NoEffect, instead=_MEANS)
@click.option("--patchscore", cls=NoEffect, instead="an image scores as its worst patch")
@click.option("--patchoverlap", type=float, cls=NoEffect)
@click.option("-pa", "--patchsize_aggregate", type=int, multiple=True, cls=NoEffect)
@click.option("--faiss_on_gpu", is_flag=True, cls=NoEffect, instead="--device says where")
@click.option("--faiss_num_workers", type=int, cls=NoEffect, instead="all cores are used")
def patch_core(**options: Any) -> tuple[str, MakeMethod]:
    """PatchCore: a memory bank of normal patches."""

    def method(words: Mapping[str, Any], seed: int, device: str) -> Method:
        return Method(_maker(dict(options), words.get("sampler", {}), seed, device))

    return "detector", method


@click.command("sampler", cls=StrictCommand)
@click.argument("name", type=click.Choice(["identity", "greedy_coreset", "approx_greedy_coreset", "random"]))
@click.option(
    "-p",
    "--percentage",
    type=ShareOrNumber(),
    default=0.1,
    show_default=True,
    help="Share of the patches to keep, or, above 1, their number.",
)
@click.option(
    "--buffer",
    type=click.IntRange(1),
    default=400_000,
    show_default=True,
    help="Patches that PatchCore holds at a time; more are thinned out in portions.",
)
@click.pass_context
def sampler(ctx: click.Context, name: str, percentage: float, buffer: int) -> tuple[str, dict[str, Any]]:
    """How the memory bank is thinned out."""
    if name == "identity":
        refuse(ctx, ("percentage",), "the sampler identity keeps all patches")
    elif 1 < percentage <= 100:
        log.warning("-p %g keeps %g patches; a share of %g %% is -p %g", *[percentage] * 3, percentage / 100)
    return "sampler", {"sampler": name, "coreset": percentage, "buffer": buffer}


def _maker(options: dict[str, Any], sampling: Mapping[str, Any], seed: int, device: str) -> "MakeDetector":
    """Return a function that makes a new PatchCore, or an ensemble for several backbones."""
    from anomaly_lib.detectors import Ensemble, PatchCore
    from anomaly_lib.detectors.patchcore.detector import OFFICIAL_TRANSFORM
    from anomaly_lib.networks.names import DEFAULT_BACKBONE, side_multiple

    names = options.pop("backbone_names") or (DEFAULT_BACKBONE,)
    layers = _layers_of_members(options.pop("layers_to_extract_from"), len(names))
    options["num_nn"] = options.pop("anomaly_scorer_num_nn")

    def member(name: str, member_layers: list[str], geometry: "Geometry", multiple: int) -> PatchCore:
        backbone, _, own_seed = name.partition(".seed-")
        if own_seed and not own_seed.isdecimal():
            raise click.UsageError(f"-b {name}: after .seed- comes a whole number, as in {backbone}.seed-1")
        return PatchCore(
            backbone,
            member_layers,
            transform=OFFICIAL_TRANSFORM.asked(geometry, multiple),
            seed=int(own_seed or seed),
            device=device,
            **sampling,
            **options,
        )

    def make(category: "Category", geometry: "Geometry") -> "Detector":
        multiple = math.lcm(*(side_multiple(name.partition(".seed-")[0]) for name in names))
        members = [member(name, own, geometry, multiple) for name, own in zip(names, layers, strict=True)]
        return members[0] if len(members) == 1 else Ensemble(members)

    return make


def _layers_of_members(layers: tuple[str, ...], members: int) -> list[list[str]]:
    """Return each member's layers: with several members the number before the first dot says whose it is."""
    if members == 1:
        return [list(layers)]
    own: list[list[str]] = [[] for _ in range(members)]
    for layer in layers:
        number, _, name = layer.partition(".")
        if not (number.isdecimal() and int(number) < members and name):
            raise click.UsageError(
                f"-le {layer}: with {members} backbones the backbone's number comes first, as in 0.{layer}"
            )
        own[int(number)].append(name)
    return own
