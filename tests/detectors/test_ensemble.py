"""Ensembles: the mean of members in units of their own thresholds."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from anomaly_lib import Ensemble, PatchCore, Transform, load_detector
from anomaly_lib.errors import DataError, ModelFileError, ParameterError
from anomaly_lib.evaluation.thresholds import conformal_threshold
from anomaly_lib.kernels.patches import embed_patches
from anomaly_lib.networks.backbone import Backbone

SMALL = Transform(resize=72, crop=64)

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


Member = Callable[..., PatchCore]


@pytest.fixture(scope="module")
def member(tiny_weights: str) -> Member:
    """Return a function that makes a new member on one layer."""
    defaults: dict[str, Any] = {
        **{"backbone": "test_resnet", "weights": tiny_weights, "coreset": 40},
        **{"transform": SMALL, "device": "cpu", "precision": "fp32"},
    }
    return lambda layer, **options: PatchCore(layers=[layer], **{**defaults, **options})


@pytest.fixture(scope="module")
def fitted(member: Member, normal_images: torch.Tensor) -> Ensemble:
    return Ensemble([member("layer2"), member("layer3")]).fit(normal_images)


def test_scores_are_the_mean_in_units_of_the_members_thresholds(
    fitted: Ensemble, defective_images: torch.Tensor
) -> None:
    units = [model.threshold_ for model in fitted.members]
    alone = [model.score(defective_images) for model in fitted.members]
    scores = fitted.score(defective_images)
    assert fitted.units_ == tuple(units)
    wanted = np.mean([score.image / unit for score, unit in zip(alone, units, strict=True)], axis=0)
    assert scores.image == pytest.approx(wanted, rel=1e-6)
    wanted = np.mean([score.maps / unit for score, unit in zip(alone, units, strict=True)], axis=0)
    assert np.allclose(scores.maps, wanted, rtol=1e-5)


def test_the_threshold_is_conformal_over_the_mean_of_the_members_scores(fitted: Ensemble) -> None:
    left_out = [model.calibration_ / model.threshold_ for model in fitted.members]
    assert fitted.threshold_ == pytest.approx(conformal_threshold(np.mean(left_out, axis=0), 0.01), rel=1e-6)


def test_members_are_what_they_would_be_alone(
    member: Member, fitted: Ensemble, normal_images: torch.Tensor, defective_images: torch.Tensor
) -> None:
    alone = member("layer3").fit(normal_images)
    assert alone.threshold_ == fitted.members[1].threshold_
    assert np.array_equal(
        alone.score(defective_images).image, fitted.members[1].score(defective_images).image
    )


def test_one_training_image_gives_typical_distances_as_units(
    member: Member, normal_images: torch.Tensor, defective_images: torch.Tensor, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="at least two normal images"):
        model = Ensemble([member("layer2"), member("layer3", coreset=8)]).fit(normal_images[:1])
    assert model.units_ == tuple(one.memory_bank_.typical_distance() for one in model.members)
    assert math.isnan(model.threshold_)
    model.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert math.isnan(loaded.threshold_)
    assert np.array_equal(loaded.score(defective_images).image, model.score(defective_images).image)


def test_an_ensemble_of_none_and_of_different_transforms_is_refused(member: Member) -> None:
    with pytest.raises(ParameterError, match="at least one member"):
        Ensemble([])
    with pytest.raises(ParameterError, match="same resize and image size"):
        Ensemble([member("layer2"), member("layer3", transform=Transform(80, 64))])


def test_a_transform_given_to_the_ensemble_is_its_members_too(
    member: Member, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    """The shift of official_batch_norm depends on the size."""
    model = Ensemble([member("layer2", official_batch_norm=True)]).with_transform(Transform(100, 96))
    model.fit(normal_images)
    alone = member("layer2", official_batch_norm=True, transform=Transform(100, 96)).fit(normal_images)
    assert model.members[0].transform == Transform(100, 96)
    assert torch.equal(model.members[0].memory_bank_.rows, alone.memory_bank_.rows)


def test_members_are_saved_in_folders_of_their_own(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    files = sorted(
        str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("model.*")
    )
    assert files == [
        "member_0/model.json",
        "member_0/model.safetensors",
        "member_1/model.json",
        "member_1/model.safetensors",
        "model.json",
        "model.safetensors",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    assert isinstance(load_detector(tmp_path / "model" / "member_1", device="cpu"), PatchCore)


def test_damage_of_a_member_is_named(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / "member_1" / "model.json").unlink()
    with pytest.raises(ModelFileError, match="member_1"):
        load_detector(tmp_path / "model", device="cpu")
    document = json.loads((tmp_path / "model" / "model.json").read_text())
    del document["units"]
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match="damaged"):
        load_detector(tmp_path / "model", device="cpu")


def test_one_weights_file_for_all_members_is_refused(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    with pytest.raises(ParameterError, match="omit `weights`"):
        load_detector(tmp_path / "model", device="cpu", weights="file.pth")


# --- Official ensembles ---


@pytest.fixture(scope="module")
def official_folder(normal_images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two members as the official code writes them, the second with the smaller bank."""
    folder = tmp_path_factory.mktemp("official")
    for i, (layer, rows) in enumerate([("blocks.2", 60), ("blocks.4", 25)], start=1):
        backbone = Backbone("tf_efficientnet_lite0", [layer])
        backbone.shift_batch_norm(64)
        features = embed_patches(backbone(normal_images), 3, 1024, 384).flatten(0, 2)
        bank = features[:: len(features) // rows][:rows].contiguous().numpy()
        parameters = {
            "backbone.name": "tf_efficientnet_lite0",
            "layers_to_extract_from": [layer],
            "input_shape": (3, 64, 64),
            "pretrain_embed_dimension": 1024,
            "target_embed_dimension": 384,
            "patchsize": 3,
            "patchstride": 1,
            "anomaly_scorer_num_nn": 5,
        }
        prefix = f"Ensemble-{i}-2_"
        (folder / f"{prefix}patchcore_params.pkl").write_bytes(pickle.dumps(parameters))
        index = faiss.IndexFlatL2(384)
        index.add(bank)
        faiss.write_index(index, str(folder / f"{prefix}nnscorer_search_index.faiss"))
    return folder


def test_an_official_ensemble_is_scaled_by_the_distances_in_its_banks(
    official_folder: Path, defective_images: torch.Tensor
) -> None:
    model = load_detector(official_folder, device="cpu")
    assert isinstance(model, Ensemble)
    assert [len(one.memory_bank_) for one in model.members] == [60, 25]
    assert [one.num_nn for one in model.members] == [1, 1]  # whatever the file says
    assert model.transform == Transform(73, 64)
    assert math.isnan(model.threshold_)
    for one, unit in zip(model.members, model.units_, strict=True):
        bank = one.memory_bank_.rows.double()
        table = (bank[:, None] - bank[None]).square().sum(dim=2).fill_diagonal_(math.inf)
        assert unit == pytest.approx(float(table.amin(dim=1).median()), rel=1e-4)
    alone = [
        one.score(defective_images).image / unit
        for one, unit in zip(model.members, model.units_, strict=True)
    ]
    assert model.score(defective_images).image == pytest.approx(np.mean(alone, axis=0), rel=1e-6)


def test_an_official_ensemble_can_be_saved_as_ours(
    official_folder: Path, defective_images: torch.Tensor, tmp_path: Path
) -> None:
    model = load_detector(official_folder, device="cpu")
    model.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert isinstance(loaded, Ensemble)
    assert np.array_equal(loaded.score(defective_images).image, model.score(defective_images).image)


def test_official_members_of_a_single_row_are_refused(official_folder: Path, tmp_path: Path) -> None:
    """Their rows have no distance to each other that could be a unit."""
    for file in official_folder.glob("*.pkl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        index = faiss.IndexFlatL2(384)
        index.add(np.ones((1, 384), np.float32))
        faiss.write_index(
            index, str(tmp_path / file.name.replace("patchcore_params.pkl", "nnscorer_search_index.faiss"))
        )
    with pytest.raises(DataError, match="no unit for its scores"):
        load_detector(tmp_path, device="cpu")


def test_calibration_scores_are_those_of_the_ensemble_and_are_saved(fitted: Ensemble, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = load_detector(tmp_path / "model", device="cpu")
    assert len(loaded.calibration_) > 0
    assert np.array_equal(loaded.calibration_, fitted.calibration_)
    assert conformal_threshold(loaded.calibration_, loaded.false_alarm_rate) == loaded.threshold_
