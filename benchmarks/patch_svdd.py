"""Patch SVDD's time and memory, each as a ratio to a plain reference in the same run.

    python benchmarks/patch_svdd.py [--weights enchier.pkl] [--data FOLDER --category NAME] [--output FILE]

The data are MVTec bottle where ``../shared/data`` has it, with the official encoder that lies there, and the
generated sample with an untrained encoder otherwise. The references are what the official code does: patches
are cut out one by one in Python (`PlainPatches`, `PlainPairs`) and embedded in batches by the same layers,
and every query is compared with every row.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from measuring import SHARED, chosen_category, in_a_process_of_its_own, machine, seconds, write_table
from torch.utils.data import DataLoader, Dataset

from anomaly_lib import PatchSVDD
from anomaly_lib.datasets import Category
from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder
from anomaly_lib.detectors.patch_svdd.pairs import DIRECTIONS, NOISE
from anomaly_lib.detectors.patch_svdd.training import Training, TrainingOptions
from anomaly_lib.evaluation.measures import aurocs
from anomaly_lib.kernels.neighbors import NeighborIndex
from anomaly_lib.runs import predictions_of

STRIDES = {64: 16, 32: 4}
EMBEDDED_IMAGES = 2
PLAIN_QUERIES = 4000
STEPS = 5
TERMS = ("position_64", "position_32", "svdd_64", "svdd_32")


class PlainPatches(Dataset[torch.Tensor]):
    """The patches (3, side, side) of images (n, 3, h, w), one at a time."""

    def __init__(self, images: torch.Tensor, side: int, stride: int) -> None:
        self._images, self._side, self._stride = images, side, stride
        self._rows, self._columns = (1 + (length - side) // stride for length in images.shape[2:])

    def __len__(self) -> int:
        return len(self._images) * self._rows * self._columns

    def __getitem__(self, index: int) -> torch.Tensor:
        image, place = divmod(index, self._rows * self._columns)
        top, left = (self._stride * number for number in divmod(place, self._columns))
        return self._images[image, :, top : top + self._side, left : left + self._side]


class PlainPairs(Dataset[tuple[np.ndarray, np.ndarray, int]]):
    """Pairs of patches of images (n, 3, h, w) float32, drawn one at a time as in the official code."""

    def __init__(self, images: np.ndarray, term: str, repeat: int) -> None:
        self._images, self._repeat = images, repeat
        self._kind, _, side = term.partition("_")
        self._side = int(side)
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return self._repeat * len(self._images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        image, side = self._images[index % len(self._images)], self._side
        reach = np.array(image.shape[1:]) - side
        first = self._random.integers(0, reach + 1)
        position = 0
        if self._kind == "svdd":
            move = np.zeros(2, int)
            while not move.any():
                move = self._random.integers(-side // 32, side // 32 + 1, 2)
        else:
            position = self._random.integers(8)
            move = np.array(DIRECTIONS[position]) * (3 * side // 4 + self._random.integers(side // 4, size=2))
        patches = [self._cut(image, corner) for corner in (first, np.clip(first + move, 0, reach))]
        return patches[0], patches[1], position

    def _cut(self, image: np.ndarray, corner: np.ndarray) -> np.ndarray:
        (top, left), side = corner, self._side
        patch = image[:, top : top + side, left : left + side].copy()
        if self._kind == "position":
            patch += self._random.normal(scale=NOISE, size=(3, 1, 1)).astype(np.float32)
            patch += self._random.normal(scale=NOISE, size=patch.shape).astype(np.float32)
        return patch


class PlainTraining(Training):
    """The same training as the official code does it: fp32, the default layout, pairs from data loaders."""

    def feed(self, images: np.ndarray) -> Iterator[dict[str, list[torch.Tensor]]]:
        """Yield batches of all kinds, from a loader with two workers each."""
        loaders = [
            DataLoader(PlainPairs(images, term, 1000), self.options.batch_size, shuffle=True, num_workers=2)
            for term in TERMS
        ]
        for batches in zip(*loaders, strict=True):
            yield dict(zip(TERMS, batches, strict=True))

    def plain_step(self, batches: dict[str, list[torch.Tensor]]) -> float:
        """Do a step on pairs that were cut elsewhere."""
        loss = torch.zeros(())
        for term, (first, second, position) in batches.items():
            kind, _, side = term.partition("_")
            one, other = (plain_embed(self.encoder, patches) for patches in (first, second))
            if kind == "svdd":
                loss = loss + self.options.lambda_value * (one - other).norm(dim=1).mean()
            else:
                loss = loss + F.cross_entropy(self._classifiers[side](one, other), position)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


def plain_embed(encoder: HierarchicalEncoder, patches: torch.Tensor) -> torch.Tensor:
    """Embed patches (n, 3, k, k) as the official networks do: quadrant by quadrant, in the default layout."""
    if patches.shape[-1] == 32:
        for number, layer in enumerate(encoder.enc.children(), start=1):
            patches = F.conv2d(patches, layer.weight.contiguous(), layer.bias, layer.stride)
            patches = F.leaky_relu(patches, 0.1) if number < 8 else patches.tanh()
        return patches.flatten(1)
    corners = [patches[..., i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)]
    quadrants = torch.stack([plain_embed(encoder, corner) for corner in corners], dim=2)  # (n, D, 4)
    joined = F.leaky_relu(encoder.conv1(quadrants.unflatten(2, (2, 2))), 0.1)
    return encoder.conv2(joined).tanh().flatten(1)


@torch.inference_mode()
def embedding(model: PatchSVDD, images: torch.Tensor) -> dict[str, float]:
    """Compare one pass over images (n, 3, h, w) with cutting their patches one by one."""
    encoder = model.patch_banks_.encoder
    encoder.embed(images[:1])
    fast, dense = seconds(lambda: encoder.embed(images))
    centred = images - encoder.mean_image

    def patch_by_patch() -> dict[int, torch.Tensor]:
        return {
            side: torch.cat(
                [
                    plain_embed(encoder._network, patches)
                    for patches in DataLoader(PlainPatches(centred, side, stride), batch_size=2048)
                ]
            )
            for side, stride in STRIDES.items()
        }

    slow, plain = seconds(patch_by_patch)
    difference = max(float((dense[side].flatten(0, 2) - plain[side]).abs().max()) for side in STRIDES)
    return {
        "embed_s_per_image": fast / len(images),
        "embed_plain_s_per_image": slow / len(images),
        "embed_times_faster": slow / fast,
        "embed_largest_difference": difference,
    }


def plain_nearest(queries: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Return the squared distances (n,) to the nearest rows by blocked products in fp32 and a minimum."""
    norms = bank.square().sum(dim=1)
    found = []
    for part in queries.split(1000):
        best = torch.full((len(part),), torch.inf)
        for start in range(0, len(bank), 8192):
            block = slice(start, start + 8192)
            products = torch.addmm(norms[block], part, bank[block].T, alpha=-2)
            best = torch.minimum(best, products.amin(dim=1))
        found.append(best + part.square().sum(dim=1))
    return torch.cat(found)


def searching(model: PatchSVDD, category: Category) -> dict[str, float]:
    """Compare the search for all test patches of 32 pixels with a plain search for some of them."""
    images = category.test_images(model.transform)
    encoder = model.patch_banks_.encoder
    queries = torch.cat([encoder.embed(batch)[32] for batch in images]).flatten(0, 2)
    bank = model.patch_banks_.banks[32]
    fast, (distances, _) = seconds(lambda: NeighborIndex(bank).search(queries))
    some = torch.arange(0, len(queries), max(1, len(queries) // PLAIN_QUERIES))
    plain, expected = seconds(lambda: plain_nearest(queries[some], bank))
    return {
        "queries": len(queries),
        "rows": len(bank),
        "nearest_s": fast,
        "nearest_plain_s": plain / len(some) * len(queries),
        "nearest_times_faster": plain / len(some) * len(queries) / fast,
        "nearest_largest_difference": float(
            (distances[some, 0].sqrt() - expected.clamp(min=0).sqrt()).abs().max()
        ),
    }


def evaluation(category: Category, weights: Path | None, sampling: dict[str, Any]) -> dict[str, float]:
    """Fit the memory banks, score the test images and measure, as ``anomaly evaluate`` does."""
    model = PatchSVDD(weights=weights, epochs=0, threshold_images=0, **sampling)
    fit, _ = seconds(lambda: model.fit(category.train_images(model.transform)))
    score, scores = seconds(lambda: model.score(category.test_images(model.transform)))
    measure, row = seconds(lambda: aurocs(predictions_of(scores, category, model.transform, math.nan)))
    times = {"fit_s": fit, "score_s": score, "measure_s": measure, "evaluate_s": fit + score + measure}
    return {**times, **row}


def training_step(pixels: torch.Tensor, mean: torch.Tensor) -> dict[str, float]:
    """Compare a step on 64 pairs of each kind with the official way, and the cutting of pairs alone.

    The ways take turns, and the median counts, so that other work on the machine meets all of them alike.
    """
    options = TrainingOptions(1e-3, 64, (64, 32), 1e-4, 64, 100, 0, PatchSVDD().precision)
    ours, plain = Training(pixels, mean, options), PlainTraining(pixels, mean, options)
    numbers = cycle(ours._image_numbers())
    feed = iter(plain.feed((pixels.float() / 255 - mean).numpy()))
    ready = next(feed)
    ways: dict[str, Callable[[], Any]] = {
        "step_s": lambda: ours.step(next(numbers)),
        "step_plain_s": lambda: plain.plain_step(next(feed)),
        "step_pairs_s": lambda: _cut_all(ours, next(numbers)),
        "step_plain_without_loader_s": lambda: plain.plain_step(ready),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(STEPS + 1):
        for name, way in ways.items():
            spent, _ = seconds(way)
            took[name] += [spent] if turn else []  # the first is for warming up
    medians = {name: statistics.median(times) for name, times in took.items()}
    return {**medians, "step_times_faster": medians["step_plain_s"] / medians["step_s"]}


def _cut_all(training: Training, numbers: dict[str, torch.Tensor]) -> None:
    for side in (64, 32):
        training._pairs.position(side, numbers[f"position_{side}"])
        training._pairs.svdd(side, numbers[f"svdd_{side}"])


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), help="enchier.pkl of the category.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of categories.")
@click.option("--category", "name", default="bottle", show_default=True)
@click.option(
    "--coreset", default=0.01, show_default=True, help="Share of the patches for a second evaluation."
)
@click.option("--output", type=click.Path(path_type=Path))
def main(weights: Path | None, data: Path | None, name: str, coreset: float, output: Path | None) -> None:
    """Measure, print and write the table."""
    category = chosen_category(data, name)
    official = SHARED / "patch_svdd" / f"{category.name}_enchier.pkl"
    weights = weights or (official if official.exists() else None)
    table = machine(category)
    table["peak_memory_mb"], found = in_a_process_of_its_own(evaluation, category, weights, {})
    table |= found
    sampling = {"sampler": "approx_greedy_coreset", "coreset": coreset}
    peak, found = in_a_process_of_its_own(evaluation, category, weights, sampling)
    table |= {f"coreset_{key}": value for key, value in {"peak_memory_mb": peak, **found}.items()}
    model = PatchSVDD(weights=weights, epochs=0, threshold_images=0)
    model.fit(category.train_images(model.transform))
    table |= searching(model, category)
    images = next(iter(category.test_images(model.transform)))
    table |= embedding(model, images[:EMBEDDED_IMAGES])
    pixels = model._read(category.train_images(model.transform), lambda *_: None)
    table |= training_step(pixels, model.patch_banks_.encoder.mean_image)
    write_table(table, output, "patch_svdd.json")


if __name__ == "__main__":
    main()
