"""Whole files of every kind that is read from outside, small ones, and how each is used."""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import timm
import torch
from model_formats import as_format

from anomaly_lib import (
    Ensemble,
    Gaussian,
    PatchCore,
    PatchSVDD,
    Predictions,
    Scores,
    Transform,
    load_detector,
    load_predictions,
    load_results,
)
from anomaly_lib.detectors.patch_svdd.checkpoints import Checkpoints
from anomaly_lib.detectors.patch_svdd.embedding import mean_image
from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder
from anomaly_lib.detectors.patch_svdd.training import Training, TrainingOptions
from anomaly_lib.progress import silent

SMALL = Transform(resize=72, crop=64)
CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}

Use = Callable[[Path], list[np.ndarray]]


@dataclass
class Seed:
    """A folder with whole files, what using them gives, and whether a checksum protects them."""

    name: str
    kind: str
    folder: Path
    use: Use
    result: list[np.ndarray]
    unsealed: bool = False


def pictures() -> torch.Tensor:
    """Return (5, 3, 64, 64) in [0, 1]: four good ones that differ, and one with a spot."""
    torch.manual_seed(0)
    images = 0.4 + 0.1 * torch.rand(5, 3, 64, 64)
    images += torch.linspace(0, 0.3, 64)
    images[4, :, 20:36, 20:36] = 0.95
    return images


IMAGES = pictures()


def scored(folder: Path) -> list[np.ndarray]:
    """Load a model, score with it, save it, and score with what was saved."""
    detector = load_detector(folder, device="cpu")
    scores = detector.score(IMAGES[3:])
    detector.verdicts(scores)
    return [scores.image, scores.maps] if scores.maps is not None else [scores.image]


def encoded(folder: Path) -> list[np.ndarray]:
    """Fit with an official encoder."""
    options: dict[str, Any] = {"S": (64, 32), "threshold_images": 0, "transform": Transform(64, square=True)}
    model = PatchSVDD(weights=folder / "enchier.pkl", **options, **CPU).fit(IMAGES[:1])
    return [model.score(IMAGES[3:]).image]


OPTIONS = TrainingOptions(1e-3, 4, (64, 32), 1e-3, 4, 1, 0, "fp32")


def training() -> tuple[Training, torch.Tensor]:
    pixels = (IMAGES[:1] * 255).byte()
    return Training(pixels, mean_image(pixels), OPTIONS), pixels


def resumed(folder: Path) -> list[np.ndarray]:
    """Go on with a training for an epoch."""
    one, pixels = training()
    Checkpoints(folder, pixels).resume(one, 2)
    if not one.epoch:
        return []
    return [np.array(list(one.run_epoch("epoch", silent).values()))]


def predicted(folder: Path) -> list[np.ndarray]:
    """Read predictions."""
    predictions = load_predictions(folder / "p.npz")
    return [
        *(
            predictions.imagewise_pred,
            predictions.imagewise_gt,
            predictions.fnames,
            predictions.pixelwise_pred,
        ),
        *(predictions.masks, predictions.pixelwise_known, np.array(list(predictions.parts))),
        np.array(predictions.threshold if predictions.threshold == predictions.threshold else -1),
    ]


def tabled(folder: Path) -> list[np.ndarray]:
    """Read a table of results."""
    table = load_results(folder)
    return [table.fillna(-1).to_numpy().astype(float), table.index.to_numpy(str), table.columns.to_numpy(str)]


def seeds(root: Path) -> list[Seed]:
    """Write whole files of all kinds under `root`."""
    root.mkdir()
    torch.manual_seed(3)
    torch.save(timm.create_model("test_resnet").state_dict(), root / "tiny.pth")
    found = [*models(root), *official(root), *encoders(root), *others(root)]
    for seed in found:
        seed.result = seed.use(seed.folder)
    return found


def models(root: Path) -> list[Seed]:
    """Return models of the four methods, in all formats."""
    tiny: dict[str, Any] = {
        "backbone": "test_resnet",
        "weights": root / "tiny.pth",
        "transform": SMALL,
        **CPU,
    }
    made = {
        "patch_core": PatchCore(coreset=30, **tiny),
        "patch_core reweighted": PatchCore(
            coreset=30, num_nn=2, reweight=3, official_batch_norm=True, **tiny
        ),
        "gaussian": Gaussian(fold=None, **tiny),
        "gaussian pca": Gaussian(
            levels=(2, 3),
            distance="sed",
            reduction="pca",
            variance_threshold=0.9,
            position_means=False,
            **tiny,
        ),
        "gaussian ocsvm": Gaussian(distance="ocsvm", **tiny),
        "patch_svdd": PatchSVDD(D=4, epochs=0, S=(64, 32), transform=SMALL, **CPU),
        "ensemble": Ensemble(
            [PatchCore(layers=[layer], coreset=20, **tiny) for layer in ("layer2", "layer3")]
        ),
    }
    found = []
    for name, detector in made.items():
        detector.fit(IMAGES[:4]).save(root / name)
        found.append(Seed(name, "ensemble" if name == "ensemble" else "model", root / name, scored, []))
        if name in ("patch_core", "gaussian", "patch_svdd"):
            for number in (1, 2):
                older = root / f"{name} of format {number}"
                detector.save(older)
                as_format(number, older)
                found.append(Seed(older.name, "model", older, scored, [], unsealed=True))
    return found


def official(root: Path) -> list[Seed]:
    """Return models as the official PatchCore writes them, of one and of two members."""
    rng = np.random.default_rng(0)
    found = []
    for name, prefixes in {"official": [""], "official ensemble": ["Ensemble-1-2_", "Ensemble-2-2_"]}.items():
        (root / name).mkdir()
        for prefix in prefixes:
            write_official(root / name, prefix, rng.random((9, 16), dtype=np.float32))
        found.append(Seed(name, "official", root / name, scored, [], unsealed=True))
    return found


def write_official(folder: Path, prefix: str, rows: np.ndarray) -> None:
    parameters = {
        "backbone.name": "tf_efficientnet_lite0",
        "layers_to_extract_from": ["blocks.1", "blocks.2"],
        "input_shape": (3, 64, 64),
        "pretrain_embed_dimension": 16,
        "target_embed_dimension": 16,
        "patchsize": 3,
        "patchstride": 1,
        "anomaly_scorer_num_nn": 1,
    }
    (folder / f"{prefix}patchcore_params.pkl").write_bytes(pickle.dumps(parameters, pickle.HIGHEST_PROTOCOL))
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    faiss.write_index(index, str(folder / f"{prefix}nnscorer_search_index.faiss"))


def encoders(root: Path) -> list[Seed]:
    """Return encoders of the official Patch SVDD in both forms that torch writes."""
    state = HierarchicalEncoder(4).state_dict()
    found = []
    for name, zipped in {"encoder": False, "encoder zip": True}.items():
        (root / name).mkdir()
        torch.save(state, root / name / "enchier.pkl", _use_new_zipfile_serialization=zipped)
        found.append(Seed(name, name, root / name, encoded, [], unsealed=True))
    return found


def others(root: Path) -> list[Seed]:
    """Return a checkpoint, predictions and a table of results."""
    one, pixels = training()
    one.run_epoch("epoch", silent)
    Checkpoints(root / "checkpoint", pixels).save(one)
    rng = np.random.default_rng(1)
    maps = rng.random((3, 8, 8), dtype=np.float32)
    predictions = Predictions(
        maps.max(axis=(1, 2)), np.array([False, True, True]), np.array(["a.png", "b.png", "ü.png"]), maps,
        maps[:, None] > 0.9, np.array([True, True, False]), 0.5, parts={"one": Scores(maps[:, 0, 0], maps)},
    )  # fmt: skip
    (root / "predictions").mkdir()
    predictions.save(root / "predictions" / "p.npz")
    (root / "results").mkdir()
    table = "Row Names,instance_auroc,full_pixel_auroc\nmvtec_a,1.0,0.5\nmvtec_b,0.25,\nMean,0.625,0.5\n"
    (root / "results" / "results.csv").write_text(table)
    return [
        Seed("checkpoint", "model", root / "checkpoint", resumed, []),
        Seed("predictions", "predictions", root / "predictions", predicted, [], unsealed=True),
        Seed("results", "results", root / "results", tabled, [], unsealed=True),
    ]


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Return an npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
