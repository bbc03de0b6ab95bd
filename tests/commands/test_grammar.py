"""How command lines are read: nothing on them is ignored in silence."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from running import error_of, run

from anomaly_lib.__main__ import main
from anomaly_lib.commands.grammar import StrictCommand


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command and word of `anomaly` with its path."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from tree(inner, (*path, name))


COMMANDS = dict(tree(main))
OPTIONS = [
    (path, param)
    for path, command in COMMANDS.items()
    for param in command.params
    if isinstance(param, click.Option) and not param.is_eager
]
SINGLE = [
    pytest.param(COMMANDS[path], param, id=f"{path} {param.opts[-1]}")
    for path, param in OPTIONS
    if not param.multiple and (param.secondary_opts or not param.is_flag)
]


def test_every_command_is_strict() -> None:
    assert {"train", "train patch_core", "evaluate dataset", "data sample", "tables", "demo"} <= set(COMMANDS)
    assert not [path for path, command in COMMANDS.items() if not isinstance(command, StrictCommand)]


@pytest.mark.parametrize(("command", "param"), SINGLE)
def test_every_option_with_one_value_is_given_once(command: click.Command, param: click.Option) -> None:
    values = [] if param.is_flag else ["1"] * param.nargs
    with pytest.raises(click.UsageError, match="is given 2 times: give it once"):
        command.make_context("command", [param.opts[0], *values, param.opts[-1], *values])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("train --seed 1 --seed 1 r", "--seed is given 2 times: give it once"),
        ("train r sampler -p 0.1 --percentage 0.2 -p 0.3 random", "-p / --percentage is given 3 times"),
        ("train r patch_svdd --S 16 4 --S 16 8", "--S is given 2 times"),
        ("evaluate r dataset --resize 100 --resize=200", "--resize is given 2 times"),
        ("tables 1 r d --augment --no-augment", "--augment / --no-augment is given 2 times"),
        ("demo --quick --full", "--quick / --full is given 2 times"),
        ("data sample --seed 1 --seed 2", "--seed is given 2 times"),
    ],
)
def test_an_option_that_is_given_again_is_refused(line: str, named: str) -> None:
    assert named in error_of(run(line.split()))


@pytest.mark.parametrize(
    "line", ["train --tensorboard --tensorboard r", "train --save_model --save_patchcore_model r"]
)
def test_a_plain_flag_says_the_same_however_often(line: str) -> None:
    assert "RESULTS_PATH alone" in error_of(run(line.split()))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("train r patch_core sampler random patch_core", "patch_core is given twice"),
        ("train r sampler random patch_core sampler identity", "sampler is given twice"),
        ("train r dataset mvtec d patch_core dataset mvtec e", "dataset is given twice"),
        ("evaluate r model_loader -p m patch_core_loader -p n", "patch_core_loader is given twice"),
        ("evaluate r patch_svdd --weights w patch_svdd --weights v", "patch_svdd is given twice"),
    ],
)
def test_a_second_word_of_a_kind_is_refused(line: str, named: str) -> None:
    assert error_of(run(line.split())) == f"{named}: give each word once"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train r patch_core --obj a", "patch_core has no option --obj: its place is right after dataset"),
        ("train r dataset -p 0.1", "dataset has no option -p: its place is right after sampler"),
        (
            "train r sampler --batch_size 3",
            "sampler has no option --batch_size: its place is right after gaussian or patch_svdd or dataset",
        ),
        ("train r dataset --seed=3", "dataset has no option --seed: its place is before RESULTS_PATH"),
        ("train --patchsize 3 r", "train has no option --patchsize: its place is right after patch_core"),
        (
            "evaluate r dataset --weights w",
            "dataset has no option --weights: "
            "its place is right after model_loader or patch_core_loader or patch_svdd",
        ),
        ("train r dataset mvtec d --resize 3", "--resize comes too late: its place is right after dataset"),
        ("train r dataset mvtec d --seed=3", "--seed=3 comes too late: its place is before RESULTS_PATH"),
    ],
)
def test_an_option_in_the_wrong_place_is_sent_to_the_right_one(line: str, said: str) -> None:
    assert error_of(run(line.split())) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train r patch_core --precisio 3", "No such option '--precisio'."),
        ("train --seeds 3 r", "No such option '--seeds'. Did you mean '--seed'?"),
        ("train r dataset mvtec d --nonsense", "No such option '--nonsense'."),
    ],
)
def test_an_option_that_nothing_has_is_left_to_click(line: str, said: str) -> None:
    assert error_of(run(line.split())).startswith(said)


@pytest.mark.parametrize("words", ["train {} patch_core", "evaluate {} model_loader", "evaluate {} dataset"])
def test_a_word_shows_its_help_with_and_without_results_path(words: str) -> None:
    asked = [run([*words.format(path).split(), "--help"]) for path in ("results", "")]
    assert [result.exit_code for result in asked] == [0, 0]
    assert asked[0].output == asked[1].output
    assert f"{words.split()[-1]} [OPTIONS]" in asked[0].output


def test_help_is_shown_whatever_options_stand_before_it() -> None:
    word, late = (
        run(f"train patch_core{more} --help".split()) for more in ("", " -b resnet18 --patchsize 5")
    )
    assert late.output == word.output
    assert (
        "--help" in run(["train", "r", "patch_core", "--patchsize", "3", "--patchsize", "5", "--help"]).output
    )


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train patch_core -b resnet18 dataset mvtec d", "patch_core"),
        ("train dataset mvtec d", "dataset"),
        ("evaluate model_loader -p m dataset mvtec d", "model_loader"),
    ],
)
def test_a_word_in_the_place_of_results_path_is_named(
    line: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error_of(run(line.split())) == f"RESULTS_PATH is missing: '{word}' stands in its place"
    assert list(tmp_path.iterdir()) == []


def test_results_may_have_the_name_of_a_word() -> None:
    line = ["train", "sampler", "patch_core", "dataset", "mvtec", "nowhere"]
    assert "no data at nowhere" in error_of(run(line))


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_explains_all_options_but_those_without_effect(path: str) -> None:
    shown = run([*path.split(), "--help"]).output.split()
    for param in [param for place, param in OPTIONS if place == path]:
        names = {param.opts[-1], f"{param.opts[-1]},"}
        assert bool(names & set(shown)) != param.hidden
        assert param.hidden or param.help


def test_a_line_that_is_wrong_so_far_can_be_completed() -> None:
    completion = ShellComplete(main, {}, "anomaly", "_ANOMALY_COMPLETE")
    wrong = [
        "--seed",
        "1",
        "--seed",
        "2",
        "results",
        "patch_core",
        "--nonsense",
        "sampler",
        "random",
        "sampler",
    ]
    assert "dataset" in [item.value for item in completion.get_completions(["train", *wrong, "random"], "da")]


# --- Options that would do nothing, and sizes that no machine has ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "r gaussian --batch_size 4 dataset --batch_size 2 mvtec DATA",
            "--batch_size is 4 for the detector and 2",
        ),
        ("--save_segmentation_images r gaussian --ocsvm dataset mvtec DATA", "--ocsvm makes no maps"),
        (
            "r patch_svdd --epochs 3 --look_every 4 dataset mvtec DATA",
            "--look_every has no effect: there are only 3",
        ),
        ("r gaussian --extract_blocks 1,1 dataset mvtec DATA", "1 is given 2 times"),
        ("r gaussian --augmentations flip,flip dataset mvtec DATA", "'flip' is given 2 times"),
        ("--log_group .. r patch_core dataset mvtec DATA", "'..' does not lie below RESULTS_PATH"),
        ("--log_project /p r patch_core dataset mvtec DATA", "'/p' does not lie below RESULTS_PATH"),
        ("r", "RESULTS_PATH alone does not say what to do: add words"),
        ("r patch_core --patchsize 100000 dataset mvtec DATA", "patchsize is 100000: it must be at most 33"),
        ("r patch_core --target_embed_dimension 1000000000 dataset mvtec DATA", "it must be at most 65536"),
        ("r patch_core --pretrain_embed_dimension 1000000000 dataset mvtec DATA", "it must be at most 65536"),
        ("r patch_core --anomaly_scorer_num_nn 1000000000 dataset mvtec DATA", "it must be at most 10000"),
        ("r patch_core --reweight 1000000000 dataset mvtec DATA", "it must be at most 10000"),
        (
            "r patch_core dataset --batch_size 1000000000 mvtec DATA",
            "'--batch_size': 1000000000 is not in the range",
        ),
        ("r patch_core dataset --resize 1000000 mvtec DATA", "--resize 1000000 must be"),
        (
            "r gaussian --augment --augment_passes 1000000000 dataset mvtec DATA",
            "--augment_passes|it must be at most",
        ),
        ("r patch_svdd --epochs 1000000000000 dataset mvtec DATA", "it must be at most 1000000"),
        ("r patch_svdd --D 1000000000 dataset mvtec DATA", "it must be at most 4096"),
        ("r patch_svdd --repeat 1000000000 dataset mvtec DATA", "it must be at most 100000"),
        ("r patch_svdd --batch_size 1000000000 dataset mvtec DATA", "it must be at most 65536"),
    ],
)
def test_what_does_nothing_or_fits_nowhere_is_refused_before_any_work(
    line: str, said: str, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("DATA", str(small_data)) for word in line.split()]
    error = error_of(run(["train", *words]))
    assert any(part in error for part in said.split("|")), error
    assert not list(tmp_path.iterdir())


def test_the_same_size_of_batches_twice_is_no_contradiction(small_data: Path, tmp_path: Path) -> None:
    line = ["train", str(tmp_path), "gaussian", "--batch_size", "4", "-a", "gone", "dataset"]
    error = error_of(run([*line, "--batch_size", "4", "mvtec", str(small_data)]))
    assert "unknown backbone 'gone'" in error


def test_a_fold_of_a_table_is_given_once(small_data: Path, tmp_path: Path) -> None:
    error = error_of(run(["tables", "1", str(tmp_path), str(small_data), "--fold", "0,1", "--fold", "1"]))
    assert "'--fold': 1 is given 2 times: give it once" in error
