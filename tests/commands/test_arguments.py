"""Argument lists for notebooks: the workshop's names and positions, and sys.argv put back in any case."""

import sys
from pathlib import Path

import pytest

from anomaly_lib import ALL_CATEGORIES, commandline_args, get_evaluate_args, get_train_args


def test_the_categories_are_the_fifteen_of_mvtec_ad() -> None:
    assert len(ALL_CATEGORIES) == len(set(ALL_CATEGORIES)) == 15
    assert list(ALL_CATEGORIES) == sorted(ALL_CATEGORIES)


def test_argv_is_replaced_within_and_restored_after() -> None:
    argv, before = sys.argv, sys.argv[:]
    with commandline_args("command", "--option"):
        assert sys.argv == ["command", "--option"]
        assert sys.argv is argv  # whoever holds the list sees the change too
    assert sys.argv == before
    assert sys.argv is argv


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_argv_is_restored_whatever_is_raised(error: type[BaseException]) -> None:
    before = sys.argv[:]
    with pytest.raises(error), commandline_args("command"):
        raise error
    assert sys.argv == before


def test_argv_is_restored_when_the_block_changes_it_and_from_two_levels() -> None:
    before = sys.argv[:]
    with commandline_args("outer"):
        with commandline_args("inner"):
            sys.argv.append("more")
        assert sys.argv == ["outer"]
    assert sys.argv == before


def test_train_args_keep_the_workshops_positions() -> None:
    arguments = get_train_args(
        "exp", ("results", "project"), ("bottle", "cable"), "wideresnet50", 5, 320, 366, 0.01, 512, 3,
        data_path="data", layers=("layer2", "layer3"),
    )  # fmt: skip
    assert " ".join(arguments) == (
        "command --seed 0 --save_patchcore_model --log_group exp --log_project project results "
        "patch_core -b wideresnet50 -le layer2 -le layer3 --pretrain_embed_dimension 1024 "
        "--target_embed_dimension 512 --anomaly_scorer_num_nn 3 --patchsize 5 "
        "sampler -p 0.01 approx_greedy_coreset "
        "dataset --resize 366 --imagesize 320 -d bottle -d cable mvtec data"
    )


def test_train_args_have_defaults_that_serve_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_DATA", "mine")
    words = " ".join(get_train_args("exp", (Path("results"), "project"), ("a",)))
    assert "patch_core -b tf_efficientnet_lite0 --pretrain" in words
    assert "--anomaly_scorer_num_nn 1 --patchsize 3 sampler -p 0.1" in words
    assert words.endswith("dataset --resize 256 --imagesize 224 -d a mvtec mine")


def test_the_resize_follows_the_image_size_as_256_does_224() -> None:
    words = " ".join(get_train_args("exp", ("results", "project"), ("a",), image_size=280))
    assert "--resize 320 --imagesize 280" in words


def test_patch_svdd_has_a_size_and_options_of_its_own() -> None:
    words = " ".join(
        get_train_args(
            "exp", ("r", "p"), ("a",), method="patch_svdd", data_path="d", options=("--epochs", "2")
        )
    )
    assert words.endswith(" p r patch_svdd --epochs 2 dataset -d a mvtec d")
    words = " ".join(
        get_train_args("exp", ("r", "p"), ("a",), method="patch_svdd", data_path="d", image_size=128)
    )
    assert words.endswith(" p r patch_svdd dataset --imagesize 128 -d a mvtec d")


def test_evaluate_args_keep_the_workshops_positions() -> None:
    arguments = get_evaluate_args("results", ["m/a", Path("m/b")], ("a", "b"), 366, 320, data_path="data")
    assert " ".join(arguments) == (
        "command --seed 0 results model_loader -p m/a -p m/b "
        "dataset --resize 366 --imagesize 320 -d a -d b mvtec data"
    )


def test_evaluate_args_leave_the_size_to_the_model() -> None:
    words = " ".join(get_evaluate_args("results", ["m"], ("a",), data_path="data"))
    assert words.endswith("dataset -d a mvtec data")


def test_all_arguments_are_strings() -> None:
    lists = (
        get_train_args("exp", (Path("r"), "p"), ("a",), data_path=Path("d")),
        get_evaluate_args(Path("r"), [Path("m")], ("a",), data_path=Path("d")),
    )
    assert all(isinstance(word, str) for words in lists for word in words)


def test_a_string_in_the_place_of_categories_is_refused() -> None:
    with pytest.raises(TypeError, match=r"\('bottle',\)"):
        get_train_args("exp", ("results", "project"), "bottle")
    with pytest.raises(TypeError, match=r"\('bottle',\)"):
        get_evaluate_args("results", ["m"], "bottle")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'padim'"):
        get_train_args("exp", ("results", "project"), ("a",), method="padim")
