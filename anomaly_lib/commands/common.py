"""What the subcommands share: errors as sentences, progress bars, the data set's options."""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import pandas as pd
from tqdm.auto import tqdm

from anomaly_lib.errors import AnomalyError
from anomaly_lib.progress import Progress

if TYPE_CHECKING:
    from anomaly_lib.runs.sources import MakeDetector

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """What a detector's word of `train` asks for: detectors, and images so many at a time if it says so."""

    make_detector: "MakeDetector"
    batch_size: int | None = None


MakeMethod = Callable[[Mapping[str, Any], int, str], Method]
"""From all words, the seed and the device to the method."""

log = logging.getLogger(__name__)


class UserError(click.ClickException):
    """An error of the user's, printed as one sentence."""

    exit_code = 2


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


def flat(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the items of the lists that a repeated option of `Integers` or `Words` was given."""
    return [item for items in lists for item in items]


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Turn the library's errors into one printed sentence and exit status 2."""
    try:
        yield
    except AnomalyError as error:
        raise UserError(str(error)) from error
    except OSError as error:  # a full disk, a folder that cannot be written, a file in the place of a folder
        raise UserError(f"{error.strerror or error}: {error.filename or 'no file named'}") from error


class ChainedGroup(click.Group):
    """A command in the official scripts' grammar: its own arguments, then words with options of theirs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "chain": True})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with errors as sentences."""
        with errors_as_sentences():
            return super().invoke(ctx)


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print the library's warnings and notices, each as one line, while a command runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("anomaly_lib")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # each sentence once a command
        warnings.showwarning = lambda message, *where, **more: logger.warning("%s", message)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a progress callback that shows a bar for each stage, on a terminal or in a notebook only."""
    bar: tqdm[Any] | None = None

    def show(stage: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None or bar.desc != f"{stage}: ":
            close()
            bar = tqdm(total=total, desc=stage, leave=False, disable=not _somebody_watches())
            bar.desc = f"{stage}: "
        bar.update(done - bar.n)
        if done == total:
            close()

    def close() -> None:
        nonlocal bar
        if bar is not None:
            bar.close()
        bar = None

    try:
        yield show
    finally:
        close()


def _somebody_watches() -> bool:
    """Return whether progress bars would be seen: a log is flooded by them."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def print_results(table: pd.DataFrame, folder: Path) -> None:
    """Print the first columns of a run's results and where everything is."""
    shown = table[["instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc", "aupro"]]
    click.echo(shown.to_string(float_format=lambda value: f"{value:.4f}", na_rep=""))
    click.echo(f"Results: {folder}")


def dataset_options(command: Command) -> Command:
    """Add the options of the word ``dataset`` and its two arguments."""
    decorators = (
        click.option(
            "-d",
            "--subdatasets",
            "--obj",
            "subdatasets",
            multiple=True,
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
        click.option("--batch_size", type=click.IntRange(1), default=8, show_default=True),
        click.option(
            "--contamination",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.0,
            show_default=True,
            help="Share of the anomalous test images that are trained on instead, as if they were good.",
        ),
        click.option("--num_workers", type=int, help="No effect: images are decoded on all cores."),
        click.option("--augment", is_flag=True, help="No effect: gaussian has its own."),
        click.argument("name", type=click.Choice(["mvtec"])),
        click.argument("data_path", type=click.Path(path_type=Path)),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def run_options(command: Command) -> Command:
    """Add the options that ``train`` and ``evaluate`` share."""
    decorators = (
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option("--gpu", type=int, multiple=True, help="Number of a GPU; the same as --device cuda:N."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--save_segmentation_images", is_flag=True, help="Write [image | truth | map] as PNG."),
        click.option("--tensorboard", is_flag=True, help="Write scalars and figures for TensorBoard."),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def chosen_device(device: str, gpu: Sequence[int]) -> str:
    """Return the device for ``--device`` and ``--gpu``; a missing GPU gives the CPU and a warning."""
    import torch

    if not gpu or device != "auto":
        return device
    if gpu[0] < torch.cuda.device_count():
        return f"cuda:{gpu[0]}"
    log.warning("--gpu %d: this machine has no such GPU, running on the CPU", gpu[0])
    return "cpu"


def warn_of_no_effect(ctx: click.Context, names: Sequence[str]) -> None:
    """Say which of the options called `names` were given though they change nothing."""
    for name in names:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            log.warning("--%s has no effect; it is accepted because the official scripts accept it", name)
