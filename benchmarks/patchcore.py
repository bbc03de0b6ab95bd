"""PatchCore's time and memory, each as a ratio to a plain reference in the same run.

    pipenv run benchmark [--large] [--data FOLDER --category NAME] [--output FILE]

The data are MVTec bottle where ``../shared/data`` has it, the generated sample otherwise. Absolute times
depend on the machine and on what else it does; ratios much less. ``--large`` adds 1,000 and 5,000 images at a
fixed number of rows, and what filling the memory bank in portions costs; that takes minutes.
"""

import sys
from dataclasses import replace
from pathlib import Path

import click
import torch
from measuring import chosen_category, in_a_process_of_its_own, machine, seconds, write_table

from anomaly_lib import PatchCore
from anomaly_lib.datasets import Category
from anomaly_lib.detectors.patchcore.detector import OFFICIAL_TRANSFORM
from anomaly_lib.detectors.patchcore.memory_bank import PROJECTION
from anomaly_lib.evaluation.measures import aurocs
from anomaly_lib.evaluation.metrics import auroc
from anomaly_lib.kernels.coreset import greedy_coreset, random_projection, start_at_some
from anomaly_lib.runs import predictions_of

PLAIN_SELECTIONS = 200
COPIES_OF = (1000, 5000)
FIXED_ROWS = 20_000
# Coresets, as a share and as a number of rows, and the patches of a portion: some 42 images.
PORTIONED = (0.01, 1639)
PORTION = 33_000


def product_seconds(rows: int, columns: int, depth: int) -> float:
    """Return the time of one fp32 matrix product (rows, depth) x (depth, columns), computed in blocks."""
    right = torch.randn(depth, columns)
    block = torch.randn(4096, depth)
    block @ right
    took, _ = seconds(lambda: [block[: min(4096, rows - i)] @ right for i in range(0, rows, 4096)])
    return took


def plain_coreset(rows: torch.Tensor, size: int, start: torch.Tensor) -> torch.Tensor:
    """Select greedily, one row and one pass over all rows at a time (a matrix-vector product)."""
    distances, chosen = start.clone(), []
    norms = rows.square().sum(dim=1)
    for _ in range(size):
        pick = int(distances.argmax())
        chosen.append(pick)
        torch.minimum(distances, norms + norms[pick] - 2 * (rows @ rows[pick]), out=distances)
    return torch.tensor(chosen)


def features_alone(model: PatchCore, category: Category, train: bool) -> tuple[float, float]:
    """Return the seconds to decode all images, and to run the backbone alone on them."""
    images = (category.train_images if train else category.test_images)(model.transform)
    decode, _ = seconds(lambda: [None for _ in images])
    batches = list(images)
    model.network(batches[0])
    backbone, _ = seconds(lambda: [model.network(batch) for batch in batches])
    return decode, backbone


def benchmark(category: Category, share: float, precision: str) -> dict[str, float]:
    """Return the table of ratios for one category and coreset share."""
    model = PatchCore(coreset=share, precision=precision, transform=OFFICIAL_TRANSFORM)
    model.fit(replace(category, train=category.train[:4]).train_images(model.transform))  # warm up
    fit, _ = seconds(lambda: model.fit(category.train_images(model.transform)))
    score, scores = seconds(lambda: model.score(category.test_images(model.transform)))
    features = model.features(category.train_images(model.transform))
    rows = torch.cat([model.embed(batch.maps).flatten(0, 2) for batch in features])
    generator = torch.Generator().manual_seed(0)
    projected = rows @ random_projection(rows.shape[1], PROJECTION, generator)
    patches, dim, kept = len(rows), rows.shape[1], len(model.memory_bank_)
    del rows
    start = start_at_some(projected, generator)
    fast, chosen = seconds(lambda: greedy_coreset(projected, kept, start))
    some = min(PLAIN_SELECTIONS, kept)
    plain, expected = seconds(lambda: plain_coreset(projected, some, start))
    decode, backbone = features_alone(model, category, train=True)
    test_decode, test_backbone = features_alone(model, category, train=False)
    fit_reference = decode + backbone + product_seconds(patches, kept, PROJECTION)
    test_patches = patches // len(category.train) * len(category.test)
    score_reference = test_decode + test_backbone + product_seconds(test_patches, kept, dim)
    return {
        "train_images": len(category.train),
        "patches": patches,
        "coreset_rows": kept,
        "image_auroc": auroc(scores.image, category.labels),
        "coreset_s": fast,
        "coreset_plain_s": plain / some * kept,
        "coreset_times_faster": plain / some * kept / fast,
        "coreset_same_first_rows": float((chosen[:some] == expected).float().mean()),
        "fit_s": fit,
        "fit_reference_s": fit_reference,
        "fit_ratio": fit / fit_reference,
        "score_ms_per_image": 1000 * score / len(category.test),
        "score_reference_ms_per_image": 1000 * score_reference / len(category.test),
        "score_ratio": score / score_reference,
    }


def fit_and_score(category: Category, coreset: float, precision: str) -> tuple[float, float]:
    """Fit and score in this process; return the seconds of fit and the image AUROC."""
    model = PatchCore(coreset=coreset, precision=precision, transform=OFFICIAL_TRANSFORM)
    fit, _ = seconds(lambda: model.fit(category.train_images(model.transform)))
    scores = model.score(category.test_images(model.transform))
    return fit, auroc(scores.image, category.labels)


def portions(category: Category, precision: str) -> dict[str, float]:
    """Return the AUROCs of memory banks that were filled at once, and in portions."""
    table = {}
    for size in PORTIONED:
        for name, buffer in (("at_once", sys.maxsize), ("in_portions", PORTION)):
            model = PatchCore(coreset=size, precision=precision, buffer=buffer, transform=OFFICIAL_TRANSFORM)
            model.fit(category.train_images(model.transform))
            scores = model.score(category.test_images(model.transform))
            row = aurocs(predictions_of(scores, category, model.transform, model.threshold_))
            table |= {f"{key}_{size}_{name}": value for key, value in row.items()}
    return table


def repeated(category: Category, images: int) -> Category:
    """Return the category with its training images repeated up to `images`."""
    copies = -(-images // len(category.train))
    return replace(category, train=(category.train * copies)[:images])


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of categories.")
@click.option("--category", "name", default="bottle", show_default=True)
@click.option("--share", default=0.1, show_default=True, help="Coreset.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--large", is_flag=True, help="Also 1,000 and 5,000 images, and portions.")
@click.option("--output", type=click.Path(path_type=Path))
def main(
    data: Path | None, name: str, share: float, precision: str, large: bool, output: Path | None
) -> None:
    """Measure, print and write the table."""
    category = chosen_category(data, name)
    table = machine(category)
    table["peak_memory_mb"], _ = in_a_process_of_its_own(fit_and_score, category, share, precision)
    table |= benchmark(category, share, precision)
    if large:
        for images in COPIES_OF:
            peak, (fit, found) = in_a_process_of_its_own(
                fit_and_score, repeated(category, images), FIXED_ROWS, precision
            )
            table |= {f"fit_{images}_s": fit, f"peak_{images}_mb": peak, f"auroc_{images}": found}
        table |= portions(category, precision)
    write_table(table, output, "patchcore.json")


if __name__ == "__main__":
    main()
