"""The word ``patch_svdd`` of ``anomaly train`` and ``anomaly evaluate``, and the run that comes out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from running import completed, error_of, run

from anomaly_lib import PatchSVDD, get_train_args, load_detector, load_predictions, load_results

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")

SMALL = (("--D", "4"), ("--repeat", "1"), ("--batch_size", "4"), ("--S", "16", "16"))
PARTS = [
    f"{kind}_{part}" for part in ("K64", "K32", "sum") for kind in ("instance_auroc", "full_pixel_auroc")
]


def train(results: Path, data: Path, *options: str, run_options: tuple[str, ...] = ()) -> Result:
    words = [
        "train",
        "--device",
        "cpu",
        *run_options,
        str(results),
        "patch_svdd",
        *completed(options, *SMALL),
    ]
    return run([*words, "dataset", "--imagesize", "64", "--obj", "disc", "mvtec", str(data)])


@pytest.fixture(scope="module")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Return the folder of a run that keeps everything, and what the command printed."""
    pytest.importorskip("tensorboard")
    results = tmp_path_factory.mktemp("results")
    keep = ("--save_patchcore_model", "--save_segmentation_images", "--tensorboard", "--seed", "7")
    result = train(results, small_data, "--epochs", "3", "--look_every", "2", run_options=keep)
    assert result.exit_code == 0, result.output
    return results / "project" / "group", result


def test_results_have_the_product_first_and_the_other_maps_after(trained: tuple[Path, Result]) -> None:
    table = load_results(trained[0])
    assert list(table.columns[:3]) == ["instance_auroc", "full_pixel_auroc", "anomaly_pixel_auroc"]
    assert set(PARTS) <= set(table.columns[9:])
    assert table[PARTS].notna().all(axis=None)
    assert len(list((trained[0] / "segmentation_images" / "mvtec_disc").glob("*.png"))) == 6


def test_losses_and_looks_are_kept_for_every_epoch(trained: tuple[Path, Result]) -> None:
    table = pd.read_csv(trained[0] / "training" / "mvtec_disc.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    losses = ["loss", "position_64", "position_32", "svdd_64", "svdd_32"]
    assert list(table.columns[:7]) == ["epoch", "seconds", *losses]
    assert table[losses].notna().all(axis=None)
    looked = table[["instance_auroc", "full_pixel_auroc", *PARTS]].notna()
    assert looked.loc[1].all()
    assert not looked.loc[[0, 2]].any(axis=None)
    assert trained[1].stderr.count("epoch 2 of 3: loss ") == 1


def test_losses_and_looks_are_scalars_of_tensorboard(trained: tuple[Path, Result]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained[0] / "tensorboard" / "mvtec_disc_training"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("instance_auroc_K32")] == [2]


def test_the_saved_model_is_the_one_that_predicted(trained: tuple[Path, Result]) -> None:
    model = load_detector(trained[0] / "models" / "mvtec_disc", device="cpu")
    assert isinstance(model, PatchSVDD)
    assert (model.D, model.S, model.epochs, model.seed) == (4, (16, 16), 3, 7)
    predictions = load_predictions(trained[0] / "predictions" / "mvtec_disc.npz")
    assert predictions.pixelwise_pred.shape == (6, 64, 64)
    assert predictions.threshold == model.threshold_


def test_a_size_that_is_not_the_models_is_refused_before_the_folder_is_made(
    trained: tuple[Path, Result], small_data: Path, tmp_path: Path
) -> None:
    words = ["evaluate", "--device", "cpu", str(tmp_path / "r"), "model_loader", "-p"]
    words += [str(trained[0] / "models" / "mvtec_disc"), "dataset", "--imagesize", "128", "-d", "disc"]
    result = run([*words, "mvtec", str(small_data)])
    assert "its mean image is of that size" in error_of(result)
    assert "is evaluated at" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_trained_here_is_no_official_encoder(
    trained: tuple[Path, Result], small_data: Path, tmp_path: Path
) -> None:
    model = trained[0] / "models" / "mvtec_disc"
    refused = error_of(evaluate(tmp_path / "r", small_data, "patch_svdd", "--weights", str(model)))
    assert "a model that was trained here is evaluated with: model_loader -p" in refused
    missing = error_of(evaluate(tmp_path / "r", small_data, "patch_svdd", "--weights", "none.pkl"))
    assert "model_loader" not in missing


@pytest.mark.slow
def test_checkpoints_stand_under_the_category_and_training_goes_on_from_them(
    small_data: Path, tmp_path: Path
) -> None:
    looks = ("--look_every", "1")
    options = ("--checkpoints", str(tmp_path / "checkpoints"), "--checkpoint_every", "2", *looks)
    assert train(tmp_path, small_data, "--epochs", "2", *options).exit_code == 0
    checkpoints = (tmp_path / "checkpoints" / "mvtec_disc").glob("epoch_*")
    assert [path.name for path in checkpoints] == ["epoch_00002"]
    result = train(tmp_path, small_data, "--epochs", "3", *options)
    assert result.exit_code == 0, result.output
    assert "going on after epoch 2" in result.stderr
    table = pd.read_csv(tmp_path / "project" / "group_0" / "training" / "mvtec_disc.csv")
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table.notna().all(axis=None)
    assert train(tmp_path / "whole", small_data, "--epochs", "3", *looks).exit_code == 0
    whole = pd.read_csv(tmp_path / "whole" / "project" / "group" / "training" / "mvtec_disc.csv")
    assert "instance_auroc" in whole
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), whole.drop(columns="seconds"))
    assert train(tmp_path, small_data, "--epochs", "3", *options).exit_code == 0
    finished = pd.read_csv(tmp_path / "project" / "group_1" / "training" / "mvtec_disc.csv")
    pd.testing.assert_frame_equal(finished.drop(columns="seconds"), table.drop(columns="seconds"))
    fewer = train(tmp_path, small_data, "--epochs", "1", *options)
    assert "epochs is 1: the checkpoint" in error_of(fewer)
    refused = train(tmp_path, small_data, "--epochs", "3", "--lr", "0.5", *options)
    assert "lr 0.0001 (now 0.5)" in error_of(refused)
    checkpoint = tmp_path / "checkpoints" / "mvtec_disc" / "epoch_00003"
    no_model = evaluate(tmp_path / "r", small_data, "model_loader", "-p", str(checkpoint))
    assert "holds no model but a checkpoint of a training" in error_of(no_model)
    assert not (tmp_path / "r").exists()


def test_the_help_names_both_numbers_of_s() -> None:
    words = ["train", "results", "patch_svdd", "--help"]
    assert "--S S64 S32" in run(words).output


@pytest.mark.parametrize(("buffer", "said"), [((), 0), (("--buffer", "100"), 1)])
def test_a_buffer_is_said_to_have_no_effect(
    small_data: Path, tmp_path: Path, buffer: tuple[str, ...], said: int
) -> None:
    result = train(tmp_path, small_data, "--epochs", "1", "sampler", *buffer, "random")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("--buffer has no effect; patch_svdd") == said


def test_the_argument_list_of_notebooks_works(small_data: Path, tmp_path: Path) -> None:
    words = get_train_args(
        "exp", (tmp_path, "notebook"), ("disc",), method="patch_svdd", image_size=64, data_path=small_data,
        options=completed(("--epochs", "1"), *SMALL),
    )  # fmt: skip
    assert run(["train", *words[1:]]).exit_code == 0
    assert (tmp_path / "notebook" / "exp" / "models" / "mvtec_disc" / "model.json").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--K", "48"), "K is 48"),
        (("--S", "16", "3"), "S is 3"),
        (("--repeat", "0"), "repeat is 0"),
        (("--lr", "nan"), "lr is nan"),
        (("--checkpoint_every", "1"), "--checkpoint_every has no effect: there are no checkpoints without"),
        (
            ("--threshold_images", "0", "--false_alarm_rate", "0.1"),
            "--false_alarm_rate has no effect: there is no threshold with --threshold_images 0",
        ),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_it(
    small_data: Path, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    assert named in error_of(train(tmp_path, small_data, *options))
    assert list(tmp_path.iterdir()) == []


# --- Official encoders ---


def evaluate(results: Path, data: Path, *words: str) -> Result:
    given = ["evaluate", "--device", "cpu", str(results), *words, "dataset", "--imagesize", "64"]
    return run([*given, "-d", "disc", "-d", "ring", "mvtec", str(data)])


def test_an_official_encoder_is_evaluated_on_each_category(
    encoder_file: Path, small_data: Path, tmp_path: Path
) -> None:
    result = evaluate(
        tmp_path / "r", small_data, "patch_svdd", "--weights", str(encoder_file), "--S", "16", "8"
    )
    assert result.exit_code == 0, result.output
    table = load_results(tmp_path / "r")
    assert list(table.index) == ["mvtec_disc", "mvtec_ring", "Mean"]
    assert set(PARTS) <= set(table.columns)
    predictions = load_predictions(tmp_path / "r" / "predictions" / "mvtec_ring.npz")
    assert predictions.pixelwise_pred.shape == (4, 64, 64)
    assert np.isnan(predictions.threshold)
    assert not (tmp_path / "r" / "training").exists()


def test_an_official_encoder_may_have_a_coreset_and_a_threshold(
    encoder_file: Path, small_data: Path, tmp_path: Path
) -> None:
    words = ("patch_svdd", "--weights", str(encoder_file), "--threshold_images", "4", "--S", "16", "8")
    result = evaluate(tmp_path / "r", small_data, *words, "sampler", "-p", "0.5", "random")
    assert result.exit_code == 0, result.output
    assert np.isfinite(load_predictions(tmp_path / "r" / "predictions" / "mvtec_disc.npz").threshold)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("patch_svdd", "--weights", "{tmp}/none.pkl"), "none.pkl"),
        (("patch_svdd", "--weights", "{file}", *("--weights", "{file}") * 2), "3 models for 2 categories"),
        (("patch_svdd", "--weights", "{file}", "model_loader", "-p", "m"), "which models?"),
        (("model_loader", "-p", "m", "sampler", "random"), "has its memory bank already"),
        (("patch_svdd",), "--weights"),
        (
            ("patch_svdd", "--weights", "{file}", "--false_alarm_rate", "0.1"),
            "--false_alarm_rate has no effect",
        ),
    ],
)
def test_a_wrong_line_is_one_sentence(
    encoder_file: Path, small_data: Path, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    given = [word.format(tmp=tmp_path, file=encoder_file) for word in words]
    assert named in error_of(evaluate(tmp_path / "r", small_data, *given))
    assert not (tmp_path / "r").exists()
