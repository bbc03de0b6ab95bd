"""Command lines by the thousand, made of what click knows of the commands: right, nearly right and wild."""

import os
from dataclasses import dataclass
from pathlib import Path

import click
from hypothesis import strategies as st

from anomaly_lib.__main__ import main

Words = st.SearchStrategy[list[str]]

RIGHT_NUMBERS = ["0", "1", "2", "4", "16", "64", "0.5"]
NUMBERS = [
    *("0", "1", "2", "4", "16", "64", "100", "0.5", "0.99", "-1", "1.5", "1e-300", "1e309", "nan", "-inf"),
    *("1_000", "0x10", "1000000000", "9" * 400, "9" * 5000, f"{2**31}", f"{2**63}", f"{2**64}", "-0", "٣"),
]
ODD_WORDS = [
    *(
        "",
        " ",
        "-",
        "--",
        ",",
        "0,1,2",
        "0,,1",
        "layer1",
        "0.layer2",
        "a\nb",
        "\x1b[31m",
        "\udcff",
        "é" * 300,
    ),
    *("test_resnet", "test_resnet.seed-1", "resnet18", "test_vit", "../..", "flip,noise", "cpu", "cuda:9"),
    *(
        "cuda:99999999999999999999",
        "mps",
        "meta",
        "random",
        "$HOME",
        "*",
        "disc",
        "ring",
        "disc/..",
        "%s",
        "{}",
    ),
]
VALID = {"backbone_names": "test_resnet", "arch": "test_resnet", "archs": "test_resnet", "device": "cpu"}
VALID |= {"subdatasets": "disc", "layers_to_extract_from": "layer2"}


@dataclass(frozen=True)
class Places:
    """Paths of all kinds: the data, the weights, a model, and those that are wrong."""

    data: Path
    weights: str
    encoder: Path
    model: Path
    odd: list[str]


def odd_paths(folder: Path) -> list[str]:
    """Make files, folders and links that are not what they should be, and return the paths of all."""
    (folder / "empty folder").mkdir()
    (folder / "text.json").write_text("text")
    (folder / "dangling").symlink_to(folder / "gone")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).mkdir()
    (folder / "two\nlines").mkdir()
    names = ["empty folder", "text.json", "text.json/below", "dangling", "loop", "pipe", "missing"]
    names += [os.fsdecode(b"\xff\xfe"), "two\nlines", "n" * 300]
    return [*(str(folder / name) for name in names), "nul\0byte", "", "/dev/null", "~nobody/x"]


def lines(places: Places) -> Words:
    """Draw the words of a command line."""
    train = _chained(main.commands["train"], places)  # most of what there is to get wrong
    data = main.commands["data"]
    assert isinstance(data, click.Group)
    others = [_plain(("data", name), command, places) for name, command in data.commands.items()]
    others += [
        _plain((name,), main.commands[name], places)
        for name in ("tables", "demo", "predict", "threshold", "update", "report", "compare")
    ]
    evaluate = _chained(main.commands["evaluate"], places)
    others.append(_chained(main.commands["fit"], places))
    noise = st.lists(st.sampled_from([*main.commands, *ODD_WORDS, "--help"]), max_size=4)
    return st.one_of(train, train, train, evaluate, evaluate, *others, noise)


def _plain(path: tuple[str, ...], command: click.Command, places: Places) -> Words:
    return _own(command, places).map(lambda words: [*path, *words])


def _chained(group: click.Command, places: Places) -> Words:
    """Draw a command's own words, and then words with theirs: mostly those that belong together."""
    assert isinstance(group, click.Group)
    words = {name: _own(word, places).map(lambda own, name=name: [name, *own]) for name, word in
             group.commands.items()}  # fmt: skip
    first = "patch_core" if "patch_core" in words else "model_loader"
    detectors = st.sampled_from([name for name in words if name not in ("dataset", "sampler")])
    images = ["dataset"] if "dataset" in words else []
    usual = st.tuples(detectors, st.booleans()).map(
        lambda drawn: [drawn[0], *(["sampler"] if drawn[1] and drawn[0] == first else []), *images]
    )
    orders = (
        usual | usual | usual.flatmap(st.permutations) | st.lists(st.sampled_from(list(words)), max_size=4)
    )
    chosen = orders.flatmap(lambda names: st.tuples(*(words[name] for name in names)))
    return st.tuples(_own(group, places), chosen).map(
        lambda drawn: [str(group.name), *drawn[0], *(word for part in drawn[1] for word in part)]
    )


def _own(command: click.Command, places: Places) -> Words:
    """Draw some options of a command with their values, and then its arguments."""
    options = [p for p in command.params if isinstance(p, click.Option)]
    needed = [_option(param, places) for param in options if param.required]
    free = [_option(param, places) for param in options if not param.required]
    arguments = [_value(param, places).map(lambda value: [value]) for param in command.params
                 if isinstance(param, click.Argument)]  # fmt: skip
    some = st.lists(st.one_of(free), max_size=3) if free else st.just([])
    return st.tuples(st.tuples(*needed), some, st.tuples(*arguments)).map(
        lambda drawn: [word for part in (*drawn[0], *drawn[1], *drawn[2]) for word in part]
    )


def _option(param: click.Option, places: Places) -> Words:
    names = st.sampled_from([*param.opts, *param.secondary_opts])
    if param.is_flag:
        return names.map(lambda name: [name])
    values = st.tuples(*(_value(param, places) for _ in range(param.nargs)))
    return st.tuples(names, values).map(lambda drawn: [drawn[0], *drawn[1]])


def _value(param: click.Parameter, places: Places) -> st.SearchStrategy[str]:
    """Draw a value of a parameter: seven times out of eight one of its kind, otherwise anything."""
    kind, name = param.type, str(param.name)
    right: st.SearchStrategy[str] = st.sampled_from(RIGHT_NUMBERS)
    if isinstance(kind, click.Choice):
        right = st.sampled_from([str(choice) for choice in kind.choices])
    elif name in VALID:
        right = st.just(VALID[name])
    elif name in ("data_path", "path", "good_folder", "model_paths", "model", "paths", "weights"):
        right = st.just(str(_place(param, places)))
    elif isinstance(kind, click.Path):
        right = st.just("results")
    elif kind.name in ("text", "words"):
        right = st.sampled_from(ODD_WORDS)
    wild = st.sampled_from([*NUMBERS, *ODD_WORDS, *places.odd]) | st.text(max_size=8)
    return st.integers(0, 7).flatmap(lambda number: right if number else wild)


def _place(param: click.Parameter, places: Places) -> Path | str:
    if param.name in ("data_path", "path"):
        return places.data
    if param.name in ("model_paths", "model"):
        return places.model
    if param.name in ("paths", "good_folder"):
        return places.data / "disc" / "test" / "spot"
    return places.encoder if param.required else places.weights
