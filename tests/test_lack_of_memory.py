"""Whatever is being read when memory runs out is not called damaged: the error passes through as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anomaly_lib import Backbone, load_detector, load_predictions, load_results, read_picture
from anomaly_lib.datasets import formats
from anomaly_lib.detectors import files, official
from anomaly_lib.detectors.official import read_official_patchcore
from anomaly_lib.detectors.patch_svdd import official as official_encoder
from anomaly_lib.detectors.patch_svdd.official import read_official_patch_svdd
from anomaly_lib.networks import weights

LACKS = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    OSError(12, "Cannot allocate memory"),
)


def model(folder: Path) -> None:
    (folder / "model.json").write_text(json.dumps({"format": 1, "method": "patchcore"}))
    (folder / "model.safetensors").write_bytes(b"")


def official_model(folder: Path) -> None:
    (folder / "patchcore_params.pkl").write_bytes(b"")


# What is read, what makes it, and what in it asks for memory: a module, by whose name, and the function.
DOORS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], object, str]] = {
    "picture": (
        lambda folder: read_picture(folder / "a.png"),
        lambda folder: Image.new("RGB", (4, 4)).save(folder / "a.png"),
        formats,
        "_picture",
    ),
    "predictions": (
        lambda folder: load_predictions(folder / "a.npz"),
        lambda folder: np.savez(folder / "a.npz", a=1),
        np.lib.format,
        "read_magic",
    ),
    "results": (
        load_results,
        lambda folder: (folder / "results.csv").write_text("Row Names\n"),
        pd,
        "read_csv",
    ),
    "model": (load_detector, model, files, "parse_json"),
    "official model": (read_official_patchcore, official_model, official, "require_plain_pickle"),
    "official encoder": (
        lambda folder: read_official_patch_svdd(folder / "enchier.pkl"),
        lambda folder: (folder / "enchier.pkl").write_bytes(b""),
        official_encoder,
        "read_within",
    ),
    "weights": (
        lambda folder: Backbone("test_resnet", weights=folder / "w.pth"),
        lambda folder: (folder / "w.pth").write_bytes(b""),
        torch,
        "load",
    ),
    "downloaded weights": (
        lambda folder: Backbone("resnet18"),
        lambda folder: None,
        weights,
        "_check_hub_answers",
    ),
}


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: type(lack).__name__)
@pytest.mark.parametrize("door", DOORS)
def test_a_lack_of_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str, lack: Exception
) -> None:
    read, make, place, name = DOORS[door]
    make(tmp_path)

    def fail(*arguments: object, **options: object) -> None:
        raise lack

    monkeypatch.setattr(place, name, fail)
    with pytest.raises(type(lack)) as error:
        read(tmp_path)
    assert error.value is lack


@pytest.mark.parametrize("lack", LACKS[:2], ids=lambda lack: type(lack).__name__)
def test_a_network_that_finds_no_memory_is_not_given_a_wrong_size(tiny_weights: str, lack: Exception) -> None:
    backbone = Backbone("test_resnet", weights=tiny_weights)

    def fail(*arguments: object) -> None:
        raise lack

    backbone._network.register_forward_pre_hook(fail)
    with pytest.raises(type(lack)) as error:
        backbone(torch.zeros(1, 3, 64, 64))
    assert error.value is lack
