"""``anomaly train ... gaussian``: its options, its files, and contaminated training images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from running import error_of, run

from anomaly_lib import (
    Backbone,
    Gaussian,
    commandline_args,
    get_train_args,
    load_detector,
    load_predictions,
    load_results,
)
from anomaly_lib.commands.train import main as train
from anomaly_lib.datasets.safe_augmentations import safe_augmentations

Words = Callable[..., list[str]]

SETTINGS = ("image_size", "threshold", "false_alarm_rate", "missed_defects", "false_alarms")


@pytest.fixture(scope="module")
def words(small_data: Path, tiny_weights: str) -> Words:
    """Return a function that gives the words of a small run, with some of them changed."""

    def change(results: Path, *gaussian: str, dataset: tuple[str, ...] = ("-d", "disc")) -> list[str]:
        return [
            *("train", "--device", "cpu", "--save_patchcore_model", str(results)),
            *("gaussian", "-a", "test_resnet", "--weights", tiny_weights, *gaussian),
            *("dataset", "--imagesize", "64", *dataset, "mvtec", str(small_data)),
        ]

    return change


@pytest.fixture(scope="module")
def trained(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on both categories."""
    results = tmp_path_factory.mktemp("results")
    result = run(words(results, "--extract_blocks", "1,2", "--extract_blocks", "3", dataset=()))
    assert result.exit_code == 0, result.output
    return results / "project" / "group"


def test_each_level_has_a_column(trained: Path) -> None:
    results = load_results(trained)
    assert list(results.index) == ["mvtec_disc", "mvtec_ring", "Mean"]
    assert list(results.columns[9:12]) == [f"instance_auroc_level_{level}" for level in (1, 2, 3)]
    assert list(results.columns[12:]) == list(SETTINGS)
    assert results.iloc[:2].notna().all(axis=None)
    assert results.loc["Mean", "full_pixel_auroc"] > 0.9


def test_sigma_rates_are_a_file_of_their_own(trained: Path) -> None:
    table = pd.read_csv(trained / "sigma.csv")
    assert list(table.columns) == [
        "Row Names",
        "level",
        "sigma",
        "threshold",
        "true_positive_rate",
        "false_positive_rate",
    ]
    assert len(table) == 2 * 3 * 8
    predictions = load_predictions(trained / "predictions" / "mvtec_disc.npz")
    assert len(predictions.imagewise_pred) == 6
    for _, level in table.groupby(["Row Names", "level"]):
        assert level["threshold"].is_monotonic_increasing
        assert level["true_positive_rate"].is_monotonic_decreasing
        assert level["false_positive_rate"].is_monotonic_decreasing


def test_a_saved_model_evaluates_to_the_same(trained: Path, small_data: Path, tmp_path: Path) -> None:
    paths = [("-p", str(trained / "models" / f"mvtec_{name}")) for name in ("disc", "ring")]
    loader = ["model_loader", *paths[0], *paths[1]]
    result = run(
        ["evaluate", "--device", "cpu", str(tmp_path / "again"), *loader, "dataset", "mvtec", str(small_data)]
    )
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(load_results(tmp_path / "again"), load_results(trained))
    assert (tmp_path / "again" / "sigma.csv").read_text() == (trained / "sigma.csv").read_text()


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        (("--l2",), {"distance": "l2", "levels": (0, 1, 2, 3, 4), "fold": 0}),
        (("--ocsvm", "--fold", "3"), {"distance": "ocsvm", "fold": 3}),
        (("--sed", "--fold", "all"), {"distance": "sed", "fold": None}),
        (("--npca", "--variance_threshold", "0.5"), {"reduction": "npca", "variance_threshold": 0.5}),
        (("--shared_mean", "--map_levels", "1,2"), {"position_means": False, "map_levels": (1, 2)}),
        (
            ("--augmentations", "flip,noise", "--augment_passes", "1", "--batch_size", "2"),
            {"augment": ("flip", "noise")},
        ),
    ],
)
def test_options_are_the_detector_s(
    words: Words, tmp_path: Path, options: tuple[str, ...], attributes: dict[str, object]
) -> None:
    result = run(words(tmp_path, *options))
    assert result.exit_code == 0, result.output
    model = load_detector(tmp_path / "project" / "group" / "models" / "mvtec_disc", device="cpu")
    assert isinstance(model, Gaussian)
    assert {name: getattr(model, name) for name in attributes} == attributes


@pytest.mark.parametrize(
    ("gaussian", "dataset", "largest"),
    [
        ((), (), 6),  # all test images at once: the default is more
        ((), ("--batch_size", "3"), 3),
        (("--batch_size", "2"), (), 2),
        (("--batch_size", "2"), ("--batch_size", "2"), 2),
    ],
)
def test_the_network_sees_as_many_images_at_a_time_as_asked_for(
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gaussian: tuple[str, ...],
    dataset: tuple[str, ...],
    largest: int,
) -> None:
    seen = []
    features = Backbone.__call__

    def count(backbone: Backbone, images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(images))
        return features(backbone, images)

    monkeypatch.setattr(Backbone, "__call__", count)
    result = run(words(tmp_path, *gaussian, "--fold", "all", dataset=("-d", "disc", *dataset)))
    assert result.exit_code == 0, result.output
    assert max(seen) == largest
    assert sum(seen) == 5 + 6  # to train on and to test


def test_two_numbers_of_images_at_a_time_are_refused(words: Words, tmp_path: Path) -> None:
    given = words(tmp_path, "--batch_size", "2", dataset=("-d", "disc", "--batch_size", "3"))
    assert "--batch_size is 2 for the detector and 3 for the dataset" in error_of(run(given))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--pca", "--npca", "--variance_threshold", "0.9"), "--pca and --npca: give one of them"),
        (("--l2", "--ocsvm"), "--l2 and --ocsvm: give one of them"),
        (("--pca",), "--pca needs --variance_threshold, as in --pca --variance_threshold 0.99"),
        (("--npca",), "--npca needs --variance_threshold, as in --npca --variance_threshold 0.99"),
        (
            ("--variance_threshold", "0.9"),
            "--variance_threshold needs --pca or --npca, as in --npca --variance_threshold 0.9",
        ),
        (("--extract_blocks", "1;2"), "'1;2' is no list of whole numbers: give one like 0,1,2"),
        (("--extract_blocks", "7"), "levels are 7 of test_resnet: use 0 to 4"),
        (("--augment",), "it is not known what leaves good parts of 'disc' good"),
        (("--augmentations", "flip,spin"), "augment is 'spin': use one of flip, rotate90"),
        (
            ("--augment_passes", "0"),
            "Invalid value for '--augment_passes': 0 is not in the range 1<=x<=100000",
        ),
        (("--ocsvm", "--map_levels", "4"), "--map_levels has no effect: --ocsvm makes no maps"),
        (("--ocsvm", "--level_maps"), "--level_maps has no effect: --ocsvm makes no maps"),
        (("--shared_mean", "--ocsvm"), "--shared_mean has no effect: --ocsvm makes no maps"),
        (("--augment_passes", "100"), "--augment_passes has no effect: nothing is changed without --augment"),
        (("sampler", "-p", "0.1", "random"), "sampler: Gaussian has no memory bank; omit the word"),
        (("--fold", "5"), "'5' is not one of"),
    ],
)
def test_wrong_options_are_one_sentence_and_leave_no_folder(
    words: Words, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in error_of(run(words(tmp_path, *options)))
    assert list(tmp_path.iterdir()) == []


def test_each_category_has_the_augmentations_that_are_safe_for_it(
    words: Words, write_category: Any, tmp_path: Path
) -> None:
    for name in ("carpet", "screw"):
        write_category(tmp_path / "data", name, train=6, good=1, defects={"spot": 1})
    options = ("--augment", "--augment_passes", "1", "--extract_blocks", "2")
    both = words(tmp_path / "r", *options, dataset=("-d", "carpet", "-d", "screw"))
    result = run([*both[:-1], str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    for name in ("carpet", "screw"):
        folder = tmp_path / "r" / "project" / "group" / "models" / f"mvtec_{name}"
        assert load_detector(folder, device="cpu").augment == safe_augmentations([name])
    assert safe_augmentations(["carpet"]) != safe_augmentations(["screw"])


def test_contamination_is_the_same_in_training_and_evaluation(
    words: Words, small_data: Path, tmp_path: Path
) -> None:
    share = ("--contamination", "0.34", "-d", "disc")
    result = run(words(tmp_path, "--extract_blocks", "2", dataset=share))
    assert result.exit_code == 0, result.output
    folder = tmp_path / "project" / "group"
    trained = load_predictions(folder / "predictions" / "mvtec_disc.npz")
    assert trained.imagewise_gt.sum() == 2  # of three
    model = ["model_loader", "-p", str(folder / "models" / "mvtec_disc")]
    again = run(
        [
            "evaluate",
            "--device",
            "cpu",
            str(tmp_path / "e"),
            *model,
            "dataset",
            *share,
            "mvtec",
            str(small_data),
        ]
    )
    assert again.exit_code == 0, again.output
    evaluated = load_predictions(tmp_path / "e" / "predictions" / "mvtec_disc.npz")
    assert list(evaluated.fnames) == list(trained.fnames)
    assert np.array_equal(evaluated.imagewise_pred, trained.imagewise_pred)


def test_get_train_args_train_gaussian(small_data: Path, tiny_weights: str, tmp_path: Path) -> None:
    arguments = get_train_args(
        "levels",
        (tmp_path, "project"),
        ("ring",),
        backbone="test_resnet",
        layers=(1, 2),
        image_size=64,
        method="gaussian",
        data_path=small_data,
        contamination=0.5,
        options=("--weights", tiny_weights, "--fold", "all"),
    )
    with commandline_args(*arguments), pytest.raises(SystemExit) as ended:
        train()
    assert ended.value.code == 0
    model = load_detector(tmp_path / "project" / "levels" / "models" / "mvtec_ring", device="cpu")
    assert (model.method, model.levels, model.transform.size) == ("gaussian", (1, 2), 64)
    predictions = load_predictions(tmp_path / "project" / "levels" / "predictions" / "mvtec_ring.npz")
    assert predictions.imagewise_gt.sum() == 1
