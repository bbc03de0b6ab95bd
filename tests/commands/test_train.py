"""``anomaly train``: the official grammar, errors as one sentence, and the run that comes out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from running import completed, error_of, run

from anomaly_lib import (
    Ensemble,
    PatchCore,
    commandline_args,
    get_train_args,
    load_detector,
    load_predictions,
    load_results,
)
from anomaly_lib.commands.train import main as train

Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def words(small_data: Path, tiny_weights: str) -> Words:
    """Return a function that gives the words of a small run, with some of them changed."""

    def change(
        results: Path,
        *options: str,
        patch_core: tuple[str, ...] = ("-b", "test_resnet"),
        sampler: tuple[str, ...] = ("-p", "0.2", "approx_greedy_coreset"),
        dataset: tuple[str, ...] = ("-d", "disc"),
        data: Path | None = None,
    ) -> list[str]:
        return [
            *("train", *completed(options, ("--device", "cpu")), str(results)),
            *("patch_core", *completed(patch_core, ("--weights", tiny_weights))),
            *("sampler", *sampler),
            *("dataset", *completed(dataset, ("--resize", "72"), ("--imagesize", "64"))),
            *("mvtec", str(data or small_data)),
        ]

    return change


@pytest.fixture(scope="module")
def trained(words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Return the folder of a run on both categories that keeps everything, and what the command printed."""
    pytest.importorskip("tensorboard")
    results = tmp_path_factory.mktemp("results")
    options = ("--save_patchcore_model", "--save_segmentation_images", "--tensorboard", "--seed", "3")
    names = ("--log_group", "small", "--log_project", "Project")
    result = run(words(results, *options, *names, dataset=("-d", "ring", "-d", "disc")))
    assert result.exit_code == 0, result.output
    return results / "Project" / "small", result


# --- A run ---


def test_the_run_leaves_the_documented_files(trained: tuple[Path, Result]) -> None:
    folder, _ = trained
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith(("tensorboard", "segmentation_images"))}
    assert files == {
        "results.csv",
        "run.json",
        *(f"predictions/mvtec_{name}.npz" for name in ("disc", "ring")),
        *(f"training/mvtec_{name}.json" for name in ("disc", "ring")),
        *(
            f"models/mvtec_{name}/model.{kind}"
            for name in ("disc", "ring")
            for kind in ("json", "safetensors")
        ),
    }
    assert len(list((folder / "segmentation_images" / "mvtec_disc").glob("*.png"))) == 6
    assert len(list((folder / "segmentation_images" / "mvtec_ring").glob("*.png"))) == 4
    assert (folder / "segmentation_images" / "mvtec_disc" / "disc_test_blot_000.png").exists()
    for row in ("mvtec_disc", "mvtec_ring"):
        assert len(list((folder / "tensorboard" / row).glob("events*"))) == 1


def test_results_have_the_official_header_and_rows(trained: tuple[Path, Result]) -> None:
    lines = (trained[0] / "results.csv").read_text().splitlines()
    assert lines[0].startswith("Row Names,instance_auroc,full_pixel_auroc,anomaly_pixel_auroc,")
    assert [line.split(",")[0] for line in lines[1:]] == ["mvtec_ring", "mvtec_disc", "Mean"]
    assert (load_results(trained[0])["instance_auroc"] == 1).all()


def test_the_table_and_the_folder_are_printed_and_warnings_are_lines(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    lines = result.stdout.splitlines()
    assert lines[-1] == f"Results: {folder}"
    disc = [line for line in lines if line.startswith("mvtec_disc: ")]
    assert disc[0] == "mvtec_disc: fitted on 5 pictures"
    assert "leaves out up to" in disc[1]
    assert disc[2].endswith(".png decides")
    assert disc[3].endswith("of 3 good parts called anomalous")
    assert any("instance_auroc" in line for line in lines)
    assert any(line.startswith("Mean") for line in lines)
    assert "normal images are too few" in result.stderr
    assert all(".py:" not in line for line in result.stderr.splitlines())


def test_nothing_is_drawn_where_no_terminal_is(trained: tuple[Path, Result]) -> None:
    for text in (trained[1].stderr, trained[1].stdout):
        assert "\r" not in text
        assert "it/s" not in text
        assert "%|" not in text


def test_predictions_are_readable_without_pickle(trained: tuple[Path, Result]) -> None:
    file = trained[0] / "predictions" / "mvtec_disc.npz"
    with np.load(file, allow_pickle=False) as arrays:
        assert {"imagewise_pred", "imagewise_gt", "fnames", "pixelwise_pred", "pixelwise_gt"} <= set(arrays)
        assert {"optimal_threshold", "threshold"} <= set(arrays)
        assert arrays["pixelwise_pred"].shape == (6, 64, 64)


def test_the_model_is_the_one_that_predicted(trained: tuple[Path, Result]) -> None:
    folder, _ = trained
    model = load_detector(folder / "models" / "mvtec_disc", device="cpu")
    assert isinstance(model, PatchCore)
    assert model.seed == 3
    assert model.coreset == 0.2
    assert (model.transform.resize, model.transform.size) == (72, 64)
    predictions = load_predictions(folder / "predictions" / "mvtec_disc.npz")
    assert predictions.threshold == model.threshold_
    from anomaly_lib.datasets import ImageFiles

    scores = model.score(ImageFiles([Path(str(name)) for name in predictions.fnames], model.transform))
    assert np.array_equal(scores.image, predictions.imagewise_pred)


def test_nothing_is_kept_that_was_not_asked_for_and_nothing_is_overwritten(
    words: Words, tmp_path: Path
) -> None:
    for _ in range(3):
        assert run(words(tmp_path)).exit_code == 0
    folders = sorted(path.name for path in (tmp_path / "project").iterdir())
    assert folders == ["group", "group_0", "group_1"]
    for folder in folders:
        files = {str(path.relative_to(tmp_path / "project" / folder)) for path in tmp_path.rglob("*")
                 if path.is_file() and folder in path.parts}  # fmt: skip
        assert files == {"results.csv", "run.json", "predictions/mvtec_disc.npz"}
    tables = [load_results(tmp_path / "project" / folder) for folder in folders]
    assert tables[0].equals(tables[1])


def test_the_words_may_come_in_any_order(words: Words, tmp_path: Path) -> None:
    given = words(tmp_path, patch_core=("-b", "test_resnet", "--anomaly_scorer_num_nn", "2"))
    detector, sampler, dataset = (given.index(word) for word in ("patch_core", "sampler", "dataset"))
    others = [*given[dataset:], *given[sampler:dataset], *given[detector:sampler]]
    for order in (given, [*given[:detector], *others]):
        result = run(order)
        assert result.exit_code == 0, result.output
    folders = [tmp_path / "project" / name for name in ("group", "group_0")]
    one, other = (load_predictions(folder / "predictions" / "mvtec_disc.npz") for folder in folders)
    assert np.array_equal(one.imagewise_pred, other.imagewise_pred)
    assert load_results(folders[0]).equals(load_results(folders[1]))


def test_options_without_effect_are_accepted_and_warned_of_once(words: Words, tmp_path: Path) -> None:
    dead = ("--preprocessing", "conv", "--aggregation", "mlp", "--patchscore", "max", "--patchoverlap", "0.5")
    dead += ("-pa", "3", "-pa", "5", "--faiss_on_gpu", "--faiss_num_workers", "4")
    given = words(
        tmp_path,
        patch_core=("-b", "test_resnet", *dead),
        dataset=("-d", "disc", "--num_workers", "3", "--augment"),
    )
    result = run(given)
    assert result.exit_code == 0
    official = "has no effect; it is accepted because the official scripts accept it"
    for name in (
        "preprocessing",
        "aggregation",
        "patchscore",
        "patchoverlap",
        "patchsize_aggregate",
        "faiss_on_gpu",
        "faiss_num_workers",
        "num_workers",
        "augment",
    ):
        assert result.stderr.count(f"--{name} {official}") == 1
    assert f"--faiss_on_gpu {official}; --device says where\n" in result.stderr
    assert "has no effect" not in run(words(tmp_path)).stderr


def test_a_gpu_that_is_not_there_is_warned_of(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    given = [word for word in words(tmp_path, "--gpu", "0") if word not in ("--device", "cpu")]
    result = run(given)
    assert result.exit_code == 0
    assert "--gpu 0: this machine has no such GPU, running on the CPU" in result.stderr
    assert result.stderr.count("--gpu") == 1


def test_of_several_gpus_the_first_is_used_and_the_others_are_warned_of(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    given = words(tmp_path, "--gpu", "3", "--gpu", "5")
    result = run([word for word in given if word not in ("--device", "cpu")])
    assert result.exit_code == 0
    assert result.stderr.count("--gpu 5 has no effect: the first that is given is used, 3") == 1
    assert "--gpu 3: this machine has no such GPU" in result.stderr


def test_several_backbones_make_an_ensemble_with_layers_of_their_own(words: Words, tmp_path: Path) -> None:
    several = ("-b", "test_resnet.seed-7", "-b", "test_resnet", "-le", "0.layer1", "-le", "1.layer2")
    several += ("-le", "1.layer3")
    result = run(words(tmp_path, "--save_patchcore_model", "--seed", "5", patch_core=several))
    assert result.exit_code == 0, result.output
    model = load_detector(tmp_path / "project" / "group" / "models" / "mvtec_disc", device="cpu")
    assert isinstance(model, Ensemble)
    assert [member.layers for member in model.members] == [("layer1",), ("layer2", "layer3")]
    assert [member.seed for member in model.members] == [7, 5]


def test_tensorboard_without_its_package_is_warned_of(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    result = run(words(tmp_path, "--tensorboard"))
    assert result.exit_code == 0
    assert "install the package tensorboard" in result.stderr


def test_a_category_without_test_images_is_trained_all_the_same(
    words: Words, tmp_path: Path, write_category: Callable[..., Path]
) -> None:
    write_category(tmp_path / "data", "bare", good=0, defects={})
    given = words(tmp_path, "--save_patchcore_model", dataset=("-d", "bare"), data=tmp_path / "data")
    result = run(given)
    assert result.exit_code == 0, result.output
    assert "bare has no test images" in result.stderr
    lines = (tmp_path / "project" / "group" / "results.csv").read_text().splitlines()
    assert lines[1].startswith("mvtec_bare" + "," * 9 + ",64.0,")
    assert (tmp_path / "project" / "group" / "models" / "mvtec_bare" / "model.json").exists()


# --- From a notebook ---


def test_the_workshops_way_to_call_it_works_and_notes_its_arguments(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANOMALY_DATA", str(small_data))
    before = sys.argv[:]
    arguments = get_train_args(
        "exp", (tmp_path, "notebook"), ("disc",), image_size=64, sampler_percentage=0.1
    )
    with pytest.raises(SystemExit) as stop, commandline_args(*arguments):
        train()
    assert not stop.value.code
    assert sys.argv == before
    document = json.loads((tmp_path / "notebook" / "exp" / "run.json").read_text())
    assert document["arguments"] == arguments[1:]
    assert (tmp_path / "notebook" / "exp" / "models" / "mvtec_disc" / "model.json").exists()
    assert "Results: " in capsys.readouterr().out


# --- Errors ---


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patch_core": ("-b", "resnet1x")}, ("resnet1x", "unknown backbone")),
        ({"patch_core": ("-b", "test_resnet.nonsense")}, ("test_resnet.nonsense",)),
        ({"patch_core": ("-b", "test_resnet", "-le", "layer9")}, ("layer9", "layer3")),
        ({"patch_core": ("-b", "test_resnet", "-le", "fc")}, ("'fc'", "no feature map")),
        ({"patch_core": ("-b", "test_resnet.seed-x")}, ("test_resnet.seed-x",)),
        ({"patch_core": ("-b", f"test_resnet.seed-{2**63}")}, ("-b", f"{2**63} is no seed")),
        (
            {"patch_core": ("-b", "test_resnet", "-b", "test_vit", "-le", "layer2")},
            ("-le layer2", "0.layer2"),
        ),
        ({"patch_core": ("-b", "test_resnet", "-b", "test_vit", "-le", "2.layer2")}, ("-le 2.layer2",)),
        ({"patch_core": ("-b", "test_vit")}, ("do not fit",)),
        ({"patch_core": ("-b", "test_resnet", "--weights", "gone.pth")}, ("gone.pth",)),
        ({"patch_core": ("-b", "test_resnet", "--patchsize", "0")}, ("patchsize", "0")),
        ({"patch_core": ("-b", "test_resnet", "--anomaly_scorer_num_nn", "0")}, ("num_nn", "0")),
        ({"patch_core": ("-b", "test_resnet", "--anomaly_scorer_num_nn", "9999")}, ("9999 neighbours",)),
        ({"patch_core": ("-b", "test_resnet", "--reweight", "1")}, ("reweight", "1")),
        ({"patch_core": ("-b", "test_resnet", "--false_alarm_rate", "1.5")}, ("false_alarm_rate", "1.5")),
        ({"patch_core": ("-b", "test_resnet", "--precision", "fp8")}, ("fp8", "bf16")),
        ({"patch_core": ("-b", "test_resnet", "--preprocessing", "magic")}, ("magic",)),
        ({"patch_core": ("-b", "test_resnet", "--no_such_option")}, ("no_such_option",)),
        ({"sampler": ("-p", "0", "random")}, ("-p", "0 is neither a share")),
        ({"sampler": ("-p", "1.5", "random")}, ("-p", "1.5 is neither a share")),
        ({"sampler": ("-p", "0.1", "identity")}, ("-p", "has no effect", "keeps all patches")),
        ({"sampler": ("-p", "x", "random")}, ("'x'",)),
        ({"sampler": ("best",)}, ("best", "approx_greedy_coreset")),
        ({"dataset": ("-d", "nut")}, ("'nut'", "disc, ring")),
        ({"dataset": ("-d", "disc", "--obj", "disc")}, ("-d", "'disc' is given 2 times: give it once")),
        ({"dataset": ("-d", "disc", "--resize", "0")}, ("--resize", "0")),
        ({"dataset": ("-d", "disc", "--imagesize", "100")}, ("100", "72", "--resize")),
        ({"dataset": ("-d", "disc", "--batch_size", "0")}, ("--batch_size", "0")),
        ({"dataset": ("-d", "disc", "--train_val_split", "0")}, ("train_val_split", "0")),
        ({"data": Path("nowhere")}, ("nowhere", "anomaly data sample")),
        ({"data": Path(__file__)}, ("no data at",)),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_it(
    words: Words, tmp_path: Path, changes: dict[str, object], named: tuple[str, ...]
) -> None:
    said = error_of(run(words(tmp_path, **changes)))
    assert all(word in said for word in named), said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--device", "gpu"), ("gpu", "cuda:N")),
        (("--device", "cuda:99"), ("cuda:99", "not available")),
        (("--gpu", "x"), ("'x'",)),
        (("--gpu", "-1"), ("--gpu", "-1")),
        (("--gpu", "0"), ("--gpu 0 and --device cpu: give one of them",)),
        (("--seed", "x"), ("'x'",)),
        (("--seed", "-1"), ("--seed", "-1 is no seed", "from 0 to 2**63 - 1")),
        (("--seed", str(2**63)), ("--seed", f"{2**63} is no seed")),
        (("--log_group", "x" * 300), ("cannot write results",)),
    ],
)
def test_a_wrong_option_of_the_run_is_one_sentence_too(
    words: Words, tmp_path: Path, options: tuple[str, ...], named: tuple[str, ...]
) -> None:
    said = error_of(run(words(tmp_path, *options)))
    assert all(word in said for word in named), said


@pytest.mark.parametrize("value", ["inf", "1e400"])
def test_an_infinite_share_is_one_sentence_too(words: Words, tmp_path: Path, value: str) -> None:
    assert "-p" in error_of(run(words(tmp_path, sampler=("-p", value, "random"))))


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("patch_core", "which detector? Give one of: patch_core"),
        ("dataset", "which images? Add: dataset"),
    ],
)
def test_a_missing_word_is_asked_for(words: Words, tmp_path: Path, left_out: str, named: str) -> None:
    given = words(tmp_path)
    start, middle, end = given.index("patch_core"), given.index("sampler"), given.index("dataset")
    given = given[:start] + given[middle:] if left_out == "patch_core" else given[:end]
    assert named in error_of(run(given))


def test_two_detectors_are_one_too_many(words: Words, tmp_path: Path) -> None:
    assert "which detector? Give one of" in error_of(run([*words(tmp_path), "gaussian"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given",
    [
        ["train"],
        ["train", "results"],
        ["train", "results", "patch_cor"],
        ["train", "results", "dataset", "-d", "disc", "mvtec"],
        ["train", "results", "dataset", "-d", "disc", "coco", "data"],
        ["train", "results", "sampler"],
        ["trian"],
        ["train", "--no-such-option"],
    ],
)
def test_an_incomplete_or_misspelt_line_is_a_usage_error(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(given)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert "Usage: " in result.output
    assert list(tmp_path.iterdir()) == []


def test_broken_data_is_one_sentence_that_names_the_file(
    words: Words, tmp_path: Path, write_category: Callable[..., Path]
) -> None:
    broken = write_category(tmp_path / "data", "part") / "train" / "good" / "002.png"
    broken.write_bytes(broken.read_bytes()[:500])
    said = error_of(run(words(tmp_path / "r", dataset=("-d", "part"), data=tmp_path / "data")))
    assert str(broken) in said


def test_results_under_a_file_are_refused(words: Words, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "cannot write results to" in error_of(run(words(tmp_path / "file")))


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_core": ("-b", "resnet1x")},
        {"patch_core": ("-b", "test_resnet", "--reweight", "1")},
        {"dataset": ("-d", "disc", "--imagesize", "100")},
    ],
)
def test_wrong_options_leave_no_empty_run_behind(
    words: Words, tmp_path: Path, changes: dict[str, tuple[str, ...]]
) -> None:
    error_of(run(words(tmp_path, **changes)))
    assert list(tmp_path.iterdir()) == []


# --- As a program ---

PROGRAM = """
import sys, time
from anomaly_lib.runs import run
def measure(*arguments):
    print("measuring", file=sys.stderr, flush=True)
    time.sleep(60)
run.measure = measure
from anomaly_lib.__main__ import main
main()
"""


@pytest.mark.slow
def test_ctrl_c_ends_it_without_traceback_and_without_half_files(words: Words, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words(tmp_path, "--save_patchcore_model")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # What runs in the background of a script ignores Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "measuring" in line:
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, "".join(said) + rest
    assert "Traceback" not in rest
    assert "Aborted!" in rest
    files = sorted(str(path.relative_to(tmp_path / "project" / "group")) for path in tmp_path.rglob("*")
                   if path.is_file())  # fmt: skip
    assert files == [
        "models/mvtec_disc/model.json",
        "models/mvtec_disc/model.safetensors",
        "training/mvtec_disc.json",
    ]
    assert load_detector(tmp_path / "project/group/models/mvtec_disc", device="cpu").threshold_ > 0


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys; from anomaly_lib.__main__ import main; main(['train', '--help'], standalone_mode=False)"
    )
    program += "; print([name for name in ('torch', 'timm', 'faiss') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for word in ("patch_core", "sampler", "dataset", "--save_segmentation_images"):
        assert word in done.stdout


# --- The official argument list on real images ---


@pytest.mark.usefixtures("all_cores")
def test_the_official_argument_list_gives_the_official_result(shared_data: Path, tmp_path: Path) -> None:
    line = (
        f"--gpu 0 --seed 0 --save_patchcore_model --log_group IM224 --log_project MVTecAD_Results {tmp_path} "
        "patch_core -b tf_efficientnet_lite0 -le blocks.2 -le blocks.4 --faiss_on_gpu "
        "--pretrain_embed_dimension 1024 --target_embed_dimension 1024 --anomaly_scorer_num_nn 1 "
        "--patchsize 3 "
        "sampler -p 0.01 approx_greedy_coreset "
        f"dataset --resize 256 --imagesize 224 -d bottle mvtec {shared_data / 'mvtec_ad'}"
    )
    result = CliRunner().invoke(train, line.split())
    assert result.exit_code == 0, result.output
    folder = tmp_path / "MVTecAD_Results" / "IM224"
    row = load_results(folder).loc["mvtec_bottle"]
    assert row["instance_auroc"] == pytest.approx(1.0, abs=0.005)
    assert row["full_pixel_auroc"] == pytest.approx(0.9799, abs=0.005)
    assert load_detector(folder / "models" / "mvtec_bottle", device="cpu").threshold_ > 0


@pytest.mark.parametrize(("number", "said"), [("10", True), ("101", False), ("0.1", False)])
def test_a_number_of_patches_that_may_be_meant_as_per_cent_is_pointed_out(
    words: Words, tmp_path: Path, number: str, said: bool
) -> None:
    result = run(words(tmp_path, sampler=("-p", number, "approx_greedy_coreset")))
    assert result.exit_code == 0, result.output
    assert ("-p 10 keeps 10 patches; a share of 10 % is -p 0.1" in result.stderr) == said
