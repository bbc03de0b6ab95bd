"""What Gaussian's fit adds to decoding the images and running the network, as a ratio in one run.

pipenv run benchmark-gaussian [--data FOLDER --category NAME] [--rounds 3] [--output FILE]
"""

import statistics
from collections.abc import Callable
from pathlib import Path

import click
import torch
from measuring import chosen_category, machine, seconds, write_table

from anomaly_lib import Backbone, Gaussian
from anomaly_lib.detectors.gaussian.moments import Moments, shrunk, whitening
from anomaly_lib.networks.backbone import level_layers


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of categories.")
@click.option("--category", "name", default="bottle", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path))
def main(data: Path | None, name: str, rounds: int, output: Path | None) -> None:
    """Measure, print and write the median seconds of the network alone, and of fits as multiples of them."""
    parts = chosen_category(data, name)
    transform = Gaussian(device="cpu").transform
    backbone = Backbone(layers=level_layers("tf_efficientnet_lite0"))

    def network() -> None:
        for batch in parts.train_images(transform):
            backbone(batch)

    def fit(fold: int | None) -> None:
        detector = Gaussian(fold=fold, device="cpu", precision="fp32")
        detector.fit(parts.train_images(transform))

    cases: dict[str, Callable[[], None]] = {
        "network": network,
        "fit_fold_0": lambda: fit(0),
        "fit_all_images": lambda: fit(None),
    }
    times: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):  # in turn, since the machine's load changes
        for case, work in cases.items():
            times[case].append(seconds(work)[0])
    table = machine(parts)
    for case in cases:
        table[f"{case}_s"] = statistics.median(times[case])
        table[f"{case}_ratio"] = table[f"{case}_s"] / table["network_s"]
    table["covariance_of_1792_and_inverse_s"] = seconds(_covariance)[0]
    write_table(table, output, "gaussian.json")


def _covariance() -> None:
    moments = Moments()
    moments.add(torch.randn(200, 1792))
    whitening(shrunk(moments.covariance, moments.shrinkage))


if __name__ == "__main__":
    main()
