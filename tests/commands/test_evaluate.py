"""``anomaly evaluate``: saved models, one for each category or one for all, ours or the official code's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from running import error_of

from anomaly_lib import (
    Gaussian,
    PatchCore,
    Transform,
    commandline_args,
    get_evaluate_args,
    load_predictions,
    load_results,
    read_category,
)
from anomaly_lib.__main__ import main as anomaly
from anomaly_lib.commands.evaluate import main as evaluate

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.fixture(scope="module")
def models(small_data: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a model for each category."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("disc", "ring"):
        model = PatchCore(
            "test_resnet",
            weights=tiny_weights,
            coreset=30,
            transform=Transform(72, 64),
            device="cpu",
            precision="fp32",
        )
        model.fit(read_category(small_data, name).train_images(model.transform)).save(folder / name)
    return {name: folder / name for name in ("disc", "ring")}


def run(
    results: Path,
    data: Path,
    models: list[Path],
    *options: str,
    word: str = "model_loader",
    loader: tuple[str, ...] = (),
    dataset: tuple[str, ...] = ("-d", "disc", "-d", "ring"),
) -> Result:
    paths = [part for model in models for part in ("-p", str(model))]
    words = ["evaluate", "--device", "cpu", *options, str(results), word, *paths, *loader]
    return CliRunner().invoke(anomaly, [*words, "dataset", *dataset, "mvtec", str(data)])


def thresholds(folder: Path) -> list[float]:
    return [
        load_predictions(folder / "predictions" / f"mvtec_{name}.npz").threshold for name in ("disc", "ring")
    ]


def test_each_category_is_scored_by_its_model(
    models: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    result = run(tmp_path / "r", small_data, [models["disc"], models["ring"]])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"Results: {tmp_path / 'r'}"
    lines = (tmp_path / "r" / "results.csv").read_text().splitlines()
    assert lines[0].startswith("Row Names,instance_auroc,full_pixel_auroc,anomaly_pixel_auroc,")
    assert [line.split(",")[0] for line in lines[1:]] == ["mvtec_disc", "mvtec_ring", "Mean"]
    saved = [json.loads((models[name] / "model.json").read_text())["threshold"] for name in ("disc", "ring")]
    assert thresholds(tmp_path / "r") == saved
    assert saved[0] != saved[1]


@pytest.mark.parametrize("word", ["model_loader", "patch_core_loader"])
def test_one_model_serves_all_categories(
    models: dict[str, Path], small_data: Path, tmp_path: Path, word: str
) -> None:
    result = run(tmp_path / "r", small_data, [models["disc"]], word=word, loader=("--faiss_on_gpu",))
    assert result.exit_code == 0, result.output
    assert "--faiss_on_gpu has no effect" in result.stderr
    saved = json.loads((models["disc"] / "model.json").read_text())["threshold"]
    assert thresholds(tmp_path / "r") == [saved, saved]


def test_no_categories_means_all_there_are_and_nothing_is_overwritten(
    models: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    for _ in range(3):
        assert run(tmp_path / "r", small_data, [models["disc"]], dataset=()).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "r_0", "r_1"]
    tables = [load_results(tmp_path / name) for name in ("r", "r_0", "r_1")]
    assert list(tables[0].index) == ["mvtec_disc", "mvtec_ring", "Mean"]
    pd.testing.assert_frame_equal(tables[0], tables[2])


def test_the_model_decides_on_the_size(models: dict[str, Path], small_data: Path, tmp_path: Path) -> None:
    silent = run(tmp_path / "a", small_data, [models["disc"]], dataset=("-d", "disc"))
    assert "fitted at" not in silent.stderr
    file = tmp_path / "a" / "predictions" / "mvtec_disc.npz"
    assert load_predictions(file).pixelwise_pred.shape == (6, 64, 64)
    asked = run(tmp_path / "b", small_data, [models["disc"]], dataset=("-d", "disc", "--imagesize", "48"))
    assert asked.exit_code == 2
    assert "was fitted at resize 72 and image size 64, and its threshold is for that" in asked.stderr
    assert not (tmp_path / "b").exists()


def test_a_model_may_be_evaluated_on_a_category_without_masks(
    models: dict[str, Path], tmp_path: Path, write_category: Callable[..., Path]
) -> None:
    write_category(tmp_path / "data", "part", masks=False)
    result = run(
        tmp_path / "r", tmp_path / "data", [models["disc"]], "--save_segmentation_images", dataset=()
    )
    assert result.exit_code == 0, result.output
    assert "part has no masks" in result.stderr
    row = load_results(tmp_path / "r").loc["mvtec_part"]
    assert np.isnan(row["full_pixel_auroc"])
    assert row["instance_auroc"] == 1
    assert len(list((tmp_path / "r" / "segmentation_images" / "mvtec_part").iterdir())) == 4


def test_the_workshops_way_to_call_it_works(
    models: dict[str, Path], small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = get_evaluate_args(tmp_path / "r", [models["ring"]], ("ring",), data_path=small_data)
    before = sys.argv[:]
    with pytest.raises(SystemExit) as stop, commandline_args(*arguments):
        evaluate()
    assert not stop.value.code
    assert sys.argv == before
    document = json.loads((tmp_path / "r" / "run.json").read_text())
    assert document["arguments"] == arguments[1:]
    assert document["seed"] == 0
    assert "Results: " in capsys.readouterr().out


# --- Errors ---


def test_a_number_of_models_that_does_not_match_is_refused(
    models: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    said = error_of(run(tmp_path / "r", small_data, [models["disc"]] * 3))
    assert "3 models for 2 categories" in said
    assert "one model for each" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("wrong", ["gone", "empty", "damaged"])
def test_a_model_that_is_not_there_is_named(
    models: dict[str, Path], small_data: Path, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "model.json").write_text("{")
    said = error_of(run(tmp_path / "r", small_data, [tmp_path / wrong]))
    assert str(tmp_path / wrong) in said
    assert not (tmp_path / "r").exists()


def test_a_second_model_that_is_not_there_is_found_before_any_work(
    models: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    said = error_of(run(tmp_path / "r", small_data, [models["disc"], tmp_path / "gone"]))
    assert "gone" in said
    assert not (tmp_path / "r").exists()


def test_other_weights_than_at_fit_are_refused(
    models: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    said = error_of(run(tmp_path / "r", small_data, [models["disc"]], loader=("--weights", "random")))
    assert "other weights" in said
    assert "--weights" in said


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        (("-d", "nut"), "disc, ring"),
        (("-d", "disc", "--imagesize", "0"), "--imagesize"),
        (("-d", "disc", "--resize", "32", "--imagesize", "64"), "--resize"),
    ],
)
def test_a_wrong_data_option_is_one_sentence(
    models: dict[str, Path], small_data: Path, tmp_path: Path, dataset: tuple[str, ...], named: str
) -> None:
    assert named in error_of(run(tmp_path / "r", small_data, [models["disc"]], dataset=dataset))
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["r", "model_loader", "-p", "m"], "which images? Add: dataset"),
        (["r", "dataset", "-d", "a", "mvtec", "d"], "which models? Add: model_loader"),
        (["r", "model_loader", "dataset", "-d", "a", "mvtec", "d"], "-p"),
        (["r", "loader"], "loader"),
        (["r"], "RESULTS_PATH alone"),
        ([], "RESULTS_PATH"),
    ],
)
def test_a_missing_word_is_asked_for(
    given: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(anomaly, ["evaluate", *given])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert named.lower() in result.output.lower()
    assert list(tmp_path.iterdir()) == []


# --- Real images ---


@pytest.mark.usefixtures("all_cores")
def test_an_official_model_gives_the_official_codes_metrics(shared_data: Path, tmp_path: Path) -> None:
    official = shared_data / "official_patchcore_bottle"
    result = run(tmp_path / "r", shared_data / "mvtec_ad", [official], dataset=("-d", "bottle"))
    assert result.exit_code == 0, result.output
    predictions = load_predictions(tmp_path / "r" / "predictions" / "mvtec_bottle.npz")
    with np.load(official / "expected_scores.npz") as expected:
        names = ["/".join(Path(str(name)).parts[-4:]) for name in predictions.fnames]
        assert names == expected["fnames"].tolist()
        assert np.allclose(predictions.imagewise_pred, expected["image_scores"], rtol=1e-3)
    row = load_results(tmp_path / "r").loc["mvtec_bottle"]
    assert row["instance_auroc"] == pytest.approx(1.0, abs=1e-6)
    assert row["full_pixel_auroc"] == pytest.approx(0.9799, abs=5e-4)
    assert np.isnan(row["instance_balanced_accuracy"])  # it has no threshold


def test_a_model_without_maps_has_no_pictures_and_says_so(
    small_data: Path, tiny_weights: str, tmp_path: Path
) -> None:
    model = Gaussian(
        "test_resnet",
        weights=tiny_weights,
        distance="ocsvm",
        transform=Transform(64, square=True),
        device="cpu",
    )
    disc = read_category(small_data, "disc")
    model.fit(disc.train_images(model.transform)).save(tmp_path / "m")
    result = run(
        tmp_path / "r",
        small_data,
        [tmp_path / "m"],
        "--save_segmentation_images",
        dataset=("-d", "disc"),
    )
    assert result.exit_code == 0, result.output
    assert "no segmentation images of disc are written: the model makes no maps" in result.stderr
    assert not (tmp_path / "r" / "segmentation_images").exists()
