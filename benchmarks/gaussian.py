"""What Gaussian's fit adds to decoding the images and running the network, as a ratio in one run.

python benchmarks/gaussian.py DATA_PATH CATEGORY [--rounds 3]
"""

import statistics
from collections.abc import Callable
from pathlib import Path

import click
import torch
from patchcore import seconds as timed

from anomaly_lib import Backbone, Gaussian, read_category
from anomaly_lib.backbones import level_layers
from anomaly_lib.kernels.moments import Moments, shrunk, whitening


@click.command()
@click.argument("data_path", type=click.Path(path_type=Path, exists=True))
@click.argument("category")
@click.option("--rounds", default=3, show_default=True)
def main(data_path: Path, category: str, rounds: int) -> None:
    """Print the median seconds of the network alone, and of fits as multiples of them."""
    parts = read_category(data_path, category)
    transform = Gaussian(device="cpu").transform
    backbone = Backbone(layers=level_layers("tf_efficientnet_lite0"))

    def network() -> None:
        for batch in parts.train_images(transform):
            backbone(batch)

    def fit(fold: int | None) -> None:
        detector = Gaussian(fold=fold, device="cpu", precision="fp32")
        detector.fit(parts.train_images(transform))

    cases: dict[str, Callable[[], None]] = {
        "decode and network alone": network,
        "fit on fold 0": lambda: fit(0),
        "fit on all images": lambda: fit(None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            seconds[name].append(timed(case)[0])
    alone = statistics.median(seconds["decode and network alone"])
    for name, times in seconds.items():
        median = statistics.median(times)
        click.echo(f"{name:26} {median:7.2f} s  {median / alone:5.2f} x  (least {min(times):.2f} s)")
    click.echo(f"{'covariance of 1792, inverse':26} {timed(_covariance)[0]:7.2f} s")


def _covariance() -> None:
    moments = Moments()
    moments.add(torch.randn(200, 1792))
    whitening(shrunk(moments.covariance, moments.shrinkage))


if __name__ == "__main__":
    main()
