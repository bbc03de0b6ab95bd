"""Options and types of values that several commands share."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

log = logging.getLogger(__name__)


class Integers(click.ParamType[list[int]]):
    """Whole numbers in one word: 0,1,2."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers."""
        if isinstance(value, list):
            return value
        try:
            return [int(number) for number in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of whole numbers: give one like 0,1,2", param, ctx)


class Words(click.ParamType[list[str]]):
    """Words in one: flip,noise."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the words."""
        return value if isinstance(value, list) else [word.strip() for word in str(value).split(",")]


def flat(ctx: click.Context, param: click.Parameter, lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the items, each once, of the lists that a repeated option of `Integers` or `Words` was given."""
    return list(distinct(ctx, param, [item for items in lists for item in items]))


BATCH = click.IntRange(1, 4096)
"""Images at a time: more than these fit into no memory at the size that networks see."""


class Seed(click.ParamType[int]):
    """A seed that PyTorch and NumPy both take, and every format of file holds."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seed."""
        seed = click.INT.convert(value, param, ctx)
        if not 0 <= seed < 2**63:
            self.fail(f"{seed} is no seed: give a whole number from 0 to 2**63 - 1", param, ctx)
        return int(seed)


class ShareOrNumber(click.ParamType[float]):
    """A share up to 1, or above 1 a whole number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share or the number."""
        size = float(click.FLOAT.convert(value, param, ctx))
        if not (0 < size <= 1 or (size > 1 and size.is_integer())):
            self.fail(f"{value} is neither a share above 0 and up to 1 nor a whole number", param, ctx)
        return size


class NoEffect(click.Option):
    """An option of the official scripts that changes nothing here: accepted, but not in the help.

    The command does not get its value. `instead` says in the warning what does what it once did.
    """

    def __init__(self, names: Sequence[str], *, instead: str = "", **options: Any) -> None:
        super().__init__(names, **options, hidden=True, expose_value=False, callback=self._warn)
        self._instead = instead

    def _warn(self, ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if is_given(ctx, self.name):
            instead = f"; {self._instead}" if self._instead else ""
            log.warning(
                "%s has no effect; it is accepted because the official scripts accept it%s",
                self.opts[-1],
                instead,
            )


class DataSet(click.ParamType[str]):
    """What DATA_PATH is: one of the layouts that are known, or a class that reads it."""

    name = "mvtec|folder|csv|package.module:Class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word."""
        module, _, attribute = str(value).partition(":")
        own = attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))
        if value not in ("mvtec", "folder", "csv") and not own:
            self.fail(f"{value!r} is none of mvtec, folder, csv and package.module:Class", param, ctx)
        return str(value)


def is_given(ctx: click.Context, name: str) -> bool:
    """Return whether the option called `name` stands on the command line."""
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse(ctx: click.Context, names: Sequence[str], reason: str) -> None:
    """Raise an error when one of the options called `names` is given, which would do nothing for `reason`."""
    for param in ctx.command.params:
        if param.name in names and is_given(ctx, param.name):
            raise click.UsageError(f"{' / '.join(param.opts)} has no effect: {reason}", ctx)


def refuse_others(ctx: click.Context, data_set: str) -> None:
    """Raise an error for options of the word ``dataset`` that this kind of data set does not have."""
    if data_set in ("folder", "csv"):
        refuse(ctx, ("subdatasets",), f"a data set of the kind {data_set} is one category")
    if data_set != "folder":
        refuse(ctx, ("abnormal", "masks"), "it is for data sets of the kind folder")
    if data_set not in ("folder", "csv"):
        refuse(ctx, ("test_share",), "it is for data sets of the kinds folder and csv")
    if is_given(ctx, "whole"):
        refuse(ctx, ("imagesize",), "whole pictures have no such size")


def distinct(ctx: click.Context, param: click.Parameter, values: Sequence[T]) -> Sequence[T]:
    """Return the values of a repeated option, which are to differ."""
    for value in values:
        if values.count(value) > 1:
            raise click.BadParameter(f"{value!r} is given {values.count(value)} times: give it once")
    return values


def dataset_options(command: F) -> F:
    """Add the options of the word ``dataset`` and its two arguments."""
    decorators = (
        click.option(
            "-d",
            "--subdatasets",
            "--obj",
            "subdatasets",
            multiple=True,
            callback=distinct,
            help="Category; repeat for several. Default: all in DATA_PATH.",
        ),
        click.option(
            "--resize", type=click.IntRange(1), help="Length of the image's shorter side, in pixels."
        ),
        click.option(
            "--imagesize",
            type=click.IntRange(1),
            help="Side of the square cut from it, in pixels; of gaussian and patch_svdd, of the whole image.",
        ),
        click.option("--batch_size", type=BATCH, help="Images at a time. Default: 8."),
        click.option(
            "--contamination",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.0,
            show_default=True,
            help="Share of the anomalous test images that are trained on instead, as if they were good.",
        ),
        click.option("--num_workers", type=int, cls=NoEffect, instead="images are decoded on all cores"),
        click.option("--augment", is_flag=True, cls=NoEffect, instead="the word gaussian has its own"),
        click.option(
            "--whole",
            is_flag=True,
            help="See whole pictures in their own shape: as of all but mvtec without --imagesize.",
        ),
        click.option(
            "--abnormal",
            type=click.Path(path_type=Path),
            help="Of folder: a folder of pictures with defects, or of such folders, one for each kind.",
        ),
        click.option(
            "--masks",
            type=click.Path(path_type=Path),
            help="Of folder: the masks of the defects, in the same folders.",
        ),
        click.option(
            "--test_share",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.2,
            show_default=True,
            help="Of folder and csv: share of the good pictures to test on, drawn by --seed.",
        ),
        click.argument("name", type=DataSet()),
        click.argument("data_path", type=click.Path(path_type=Path)),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def run_options(command: F) -> F:
    """Add the options that ``train`` and ``evaluate`` share."""
    decorators = (
        device_option,
        click.option(
            "--gpu",
            type=click.IntRange(0),
            multiple=True,
            help="Number of a GPU; the same as --device cuda:N, but without such a GPU the CPU is used.",
        ),
        click.option("--seed", type=Seed(), default=0, show_default=True, help="For all that is drawn."),
        click.option("--save_segmentation_images", is_flag=True, help="Write each test image, marked."),
        click.option("--tensorboard", is_flag=True, help="Write scalars and figures for TensorBoard."),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def augmentation_options(command: F) -> F:
    """Add what says how training images are changed."""
    decorators = (
        click.option(
            "--augmentations",
            type=Words(),
            multiple=True,
            callback=flat,
            help="Changes for all categories, instead of those known for MVTec AD: flip, rotate90, rotate45, "
            "background_edge, noise, as flip,noise or repeated.",
        ),
        click.option(
            "--augment_passes",
            type=click.IntRange(1, 100_000),
            default=100,
            show_default=True,
            help="Times that each image is changed.",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def device_option(command: F) -> F:
    """Add ``--device``."""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")(
        command
    )


def threshold_options(command: F) -> F:
    """Add ``--false_alarm_rate`` and ``--robust``."""
    rate = "Share of good images that the threshold may at most call anomalous."
    robust = "Leave training images out of the threshold, and name them, whose scores are outliers."
    command = click.option("--robust", is_flag=True, help=robust)(command)
    return click.option("--false_alarm_rate", type=float, default=0.01, show_default=True, help=rate)(command)


def precision_option(command: F) -> F:
    """Add ``--precision``."""
    choice = click.Choice(["auto", "fp32", "bf16"])
    text = "auto: bf16 where it is fast."
    return click.option("--precision", type=choice, default="auto", show_default=True, help=text)(command)


def chosen_device(device: str, gpu: Sequence[int]) -> str:
    """Return the device for ``--device`` and ``--gpu``; a missing GPU gives the CPU and a warning."""
    import torch

    if not gpu:
        return device
    if device != "auto":
        raise click.UsageError(f"--gpu {gpu[0]} and --device {device}: give one of them")
    if len(gpu) > 1:
        log.warning("--gpu %d has no effect: the first that is given is used, %d", gpu[1], gpu[0])
    if gpu[0] < torch.cuda.device_count():
        return f"cuda:{gpu[0]}"
    log.warning("--gpu %d: this machine has no such GPU, running on the CPU", gpu[0])
    return "cpu"
