"""The words ``patch_core`` and ``sampler`` of ``anomaly train``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.common import MakeMaker, Maker, warn_of_no_effect

if TYPE_CHECKING:
    from anomaly_lib.detectors import Detector

_DEAD_OPTIONS = (
    *("preprocessing", "aggregation", "patchscore", "patchoverlap", "patchsize_aggregate"),
    *("faiss_on_gpu", "faiss_num_workers"),
)


@click.command("patch_core")
@click.option("-b", "--backbone_names", multiple=True, help="timm model; several make an ensemble.")
@click.option("-le", "--layers_to_extract_from", multiple=True, help="Layer; in an ensemble 0.layer2.")
@click.option("--weights", help="File with the backbone's weights, or random.")
@click.option("--pretrain_embed_dimension", type=int, default=1024, show_default=True)
@click.option("--target_embed_dimension", type=int, default=1024, show_default=True)
@click.option("--anomaly_scorer_num_nn", type=int, default=1, show_default=True, help="Nearest neighbours.")
@click.option(
    "--reweight", type=int, default=0, show_default=True, help="Neighbours of the paper's equation 7."
)
@click.option("--patchsize", type=int, default=3, show_default=True)
@click.option("--false_alarm_rate", type=float, default=0.01, show_default=True, help="For the threshold.")
@click.option("--official_batch_norm", is_flag=True, help="Shift batch norms as the official code does.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--preprocessing", type=click.Choice(["mean", "conv"]), help="No effect.")
@click.option("--aggregation", type=click.Choice(["mean", "mlp"]), help="No effect.")
@click.option("--patchscore", help="No effect.")
@click.option("--patchoverlap", type=float, help="No effect.")
@click.option("-pa", "--patchsize_aggregate", type=int, multiple=True, help="No effect.")
@click.option("--faiss_on_gpu", is_flag=True, help="No effect: --device says where.")
@click.option("--faiss_num_workers", type=int, help="No effect: all cores are used.")
@click.pass_context
def patch_core(ctx: click.Context, /, **options: Any) -> tuple[str, MakeMaker]:
    """PatchCore: a memory bank of normal patches."""

    def make(words: Mapping[str, Any], seed: int, device: str) -> Maker:
        warn_of_no_effect(ctx, _DEAD_OPTIONS)
        own = {name: value for name, value in options.items() if name not in _DEAD_OPTIONS}
        return _maker(own, words.get("sampler", {}), seed, device)

    return "detector", make


@click.command("sampler")
@click.argument("name", type=click.Choice(["identity", "greedy_coreset", "approx_greedy_coreset", "random"]))
@click.option(
    *("-p", "--percentage"),
    type=float,
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
def sampler(name: str, percentage: float, buffer: int) -> tuple[str, dict[str, Any]]:
    """How the memory bank is thinned out."""
    return "sampler", {"sampler": name, "coreset": percentage, "buffer": buffer}


def _maker(options: dict[str, Any], sampling: Mapping[str, Any], seed: int, device: str) -> Maker:
    """Return a function that makes a new PatchCore, or an ensemble for several backbones."""
    from anomaly_lib.detectors import Ensemble, PatchCore
    from anomaly_lib.networks.names import DEFAULT_BACKBONE

    names = options.pop("backbone_names") or (DEFAULT_BACKBONE,)
    layers = _layers_of_members(options.pop("layers_to_extract_from"), len(names))
    options["num_nn"] = options.pop("anomaly_scorer_num_nn")

    def member(name: str, member_layers: list[str]) -> PatchCore:
        backbone, _, own_seed = name.partition(".seed-")
        if own_seed and not own_seed.isdecimal():
            raise click.UsageError(f"-b {name}: after .seed- comes a whole number, as in {backbone}.seed-1")
        return PatchCore(
            backbone, member_layers, seed=int(own_seed or seed), device=device, **sampling, **options
        )

    def make() -> "Detector":
        members = [member(name, own) for name, own in zip(names, layers, strict=True)]
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
