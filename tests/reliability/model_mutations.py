"""What is done to whole files: damage drawn at random, and attacks that are written down."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_seeds import packed
from safetensors.torch import load_file, save_file

DEEP: Any = 1
for _ in range(25):
    DEEP = [DEEP]
WILD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 2**63, 10**400, -(10**30), 0.5, 1.5, -0.5, 1e-320, 1e308),
    *(
        "",
        "0.5",
        "2",
        "x" * 70_000,
        "../../other",
        "\u0000",
        "\ud800",
        "a\nb",
        "hf-hub:a/b",
        "mahalanobis",
        "random",
    ),
    *(
        [],
        {},
        [1],
        [None],
        ["a"],
        {"a": 1},
        [[1, 2]],
        [1] * 70_000,
        DEEP,
        "layer1",
        [2, 3],
        [64, 64],
        [16, 4],
    ),
)
LITERALS = ("NaN", "Infinity", "-Infinity", "1e400", "-1e999", "0x10", "01", "1_0")


@dataclass(frozen=True)
class Mutation:
    """What is done to a folder; `free`: it may leave something that nothing tells from a whole one."""

    name: str
    kind: str
    apply: Callable[[Path, np.random.Generator], None]
    free: bool = False


def pick(rng: np.random.Generator, choices: Any) -> Any:
    choices = list(choices)
    return choices[int(rng.integers(len(choices)))]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- Bytes ---


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with some flipped, cut, doubled, zeroed or replaced by numbers at the limits."""
    at, length = int(rng.integers(max(1, len(data)))), int(rng.integers(1, 64))
    how = int(rng.integers(6))
    if how == 0:
        changed = bytearray(data)
        for place in rng.integers(max(1, len(data)), size=int(rng.integers(1, 4))):
            changed[int(place) : int(place) + 1] = bytes([int(rng.integers(256))])
        return bytes(changed)
    if how == 1:
        return data[:at]
    if how == 2:
        return data[:at] + data[at : at + length] + data[at:]
    if how == 3:
        return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
    if how == 4:
        return data[:at] + data[at + length :]
    number = struct.pack("<q", pick(rng, (-1, 2**31, 2**40, 2**62, 0, 1)))
    return data[:at] + number + data[at + 8 :]


def in_the_head(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with damage to the first three hundred, where the sizes are."""
    return damaged(data[:300], rng) + data[300:]


def to_some_file(
    change: Callable[[bytes, np.random.Generator], bytes],
) -> Callable[[Path, np.random.Generator], None]:
    def apply(folder: Path, rng: np.random.Generator) -> None:
        file = pick(rng, files(folder))
        file.write_bytes(change(file.read_bytes(), rng))

    return apply


BYTES = [
    Mutation("bytes", "bytes", to_some_file(damaged)),
    Mutation("first bytes", "bytes", to_some_file(in_the_head)),
]


# --- Our models ---


def sealed(folder: Path, document: dict[str, Any] | None = None) -> None:
    """Write a description, by default the one that is there, with the checksums of what is there."""
    file = folder / "model.json"
    document = json.loads(file.read_text()) if document is None else document
    tensors = folder / "model.safetensors"
    if isinstance(document, dict) and "sha256" in document and tensors.exists():
        document["sha256"] = hashlib.sha256(tensors.read_bytes()).hexdigest()
    if isinstance(document, dict) and "checksum" in document:
        rest = {name: value for name, value in document.items() if name != "checksum"}
        document["checksum"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(document))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all containers with each of their keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def in_the_description(folder: Path, rng: np.random.Generator) -> None:
    """Replace, remove, rename or add a value anywhere; the checksums are made anew."""
    file = pick(rng, sorted(folder.rglob("model.json")))
    document = json.loads(file.read_text())
    container, key = pick(rng, places(document))
    how = int(rng.integers(6))
    if how == 0 and isinstance(container, dict):
        del container[key]
    elif how == 1 and isinstance(container, dict):
        container[f"{key}_"] = container.pop(key)
    elif how == 2 and isinstance(container, dict):
        container[pick(rng, ("odd", "device", "members", "__class__", ""))] = pick(rng, WILD)
    elif how == 3 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = pick(
            rng, (container[key] + 1, -container[key], container[key] * 1000, float(container[key]))
        )
    else:
        container[key] = pick(rng, WILD)
    sealed(file.parent, document)


def a_literal(folder: Path, rng: np.random.Generator) -> None:
    """Put what JSON does not know in place of a number."""
    file = pick(rng, sorted(folder.rglob("model.json")))
    document = json.loads(file.read_text())
    document.pop("checksum", None)
    container, key = pick(rng, places(document))
    container[key] = "<<here>>"
    file.write_text(json.dumps(document).replace('"<<here>>"', pick(rng, LITERALS)))


def bytes_behind_the_checksum(folder: Path, rng: np.random.Generator) -> None:
    """Damage the tensors' file and make its checksum anew."""
    file = pick(rng, sorted(folder.rglob("model.safetensors")))
    change = pick(rng, (damaged, in_the_head))
    file.write_bytes(change(file.read_bytes(), rng))
    sealed(file.parent)


Tensors = dict[str, torch.Tensor]


def _numbers(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    value = pick(rng, (1e38, -1e38, 0.0, 1e-38, -1.0, 2.0**62))
    if tensors[name].dtype == torch.uint8:
        value = abs(value) % 255
    if tensors[name].dtype == torch.int64:
        value = int(max(-(2.0**62), min(value, 2.0**62)))
    tensors[name] = torch.full_like(tensors[name], value)


def _not_finite(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    if tensors[name].is_floating_point() and tensors[name].numel():
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[int(rng.integers(tensors[name].numel()))] = pick(
            rng, (torch.nan, torch.inf, -torch.inf)
        )


def _shape(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    tensor = tensors[name]
    shapes = [tensor.reshape(-1), tensor[None], tensor.reshape(-1, 1), tensor[..., None]]
    shapes += [tensor[:0], tensor[:1], tensor[1:], torch.cat([tensor, tensor])] if tensor.ndim else []
    tensors[name] = pick(rng, shapes).contiguous()


def _dtype(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    types = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
    )
    tensors[name] = tensors[name].to(pick(rng, (*types, torch.bool, torch.float8_e4m3fn)))


def _removed(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    del tensors[name]


def _added(tensors: Tensors, name: str, rng: np.random.Generator) -> None:
    tensors[pick(rng, (f"{name}_", "odd", "calibration2", "a.b.c"))] = tensors[name].clone()


def of_a_tensor(
    change: Callable[[Tensors, str, np.random.Generator], None],
) -> Callable[[Path, np.random.Generator], None]:
    def apply(folder: Path, rng: np.random.Generator) -> None:
        file = pick(rng, sorted(folder.rglob("model.safetensors")))
        tensors = load_file(file)
        change(tensors, pick(rng, sorted(tensors)), rng)
        save_file(tensors, file)
        sealed(file.parent)

    return apply


_MODEL = [
    *(Mutation("description", "json", in_the_description, free=True) for _ in range(4)),
    Mutation("literal", "json", a_literal),
    Mutation("bytes behind the checksum", "tensors", bytes_behind_the_checksum, free=True),
    Mutation("numbers", "tensors", of_a_tensor(_numbers), free=True),
    Mutation("not finite", "tensors", of_a_tensor(_not_finite)),
    # Fewer rows, or flat moments of a layer of one weight, are nothing that can be told.
    Mutation("shape", "tensors", of_a_tensor(_shape), free=True),
    Mutation("type", "tensors", of_a_tensor(_dtype)),
    Mutation("removed", "tensors", of_a_tensor(_removed)),
    Mutation("added", "tensors", of_a_tensor(_added)),
]


# --- Others' ---


def official_parameter(folder: Path, rng: np.random.Generator) -> None:
    file = pick(rng, sorted(folder.glob("*params.pkl")))
    parameters = pickle.loads(file.read_bytes())
    value = pick(rng, [value for value in WILD if value != "\ud800"])
    parameters[pick(rng, sorted(parameters))] = value
    file.write_bytes(pickle.dumps(parameters, pick(rng, (0, 1, 2, 3, 4, 5))))


def prediction_array(folder: Path, rng: np.random.Generator) -> None:
    with np.load(folder / "p.npz") as whole:
        arrays = {name: whole[name] for name in whole}
    name = pick(rng, sorted(arrays))
    array = arrays[name]
    changes: list[Any] = [
        *(array[None], array.reshape(-1), array.astype(str), np.array("0.5"), np.array(True), np.array(None)),
        *(array.astype(bool).astype("V1") if array.dtype.kind != "U" else array, np.zeros((0,), np.float32)),
    ]
    if array.dtype.kind == "f":
        changes += [
            array * np.nan,
            array + np.inf,
            array.astype("f2"),
            array.astype(complex),
            array.astype(">f4"),
        ]
    if array.dtype.kind == "b":
        changes += [array.view(np.uint8), (array.view(np.uint8) + 2).view(bool), array.astype(float)]
    arrays[name] = pick(rng, changes)
    if rng.random() < 0.1:
        del arrays[name]
    (folder / "p.npz").write_bytes(packed(arrays))


def result_cell(folder: Path, rng: np.random.Generator) -> None:
    file = folder / "results.csv"
    cells = [line.split(",") for line in file.read_text().splitlines()]
    row, column = int(rng.integers(len(cells))), int(rng.integers(3))
    cells[row][column] = pick(
        rng, ("", "nan", "inf", "-inf", "1e400", "x", "True", "1,2", '"', "\x00", "Mean", "0x1")
    )
    file.write_text("\n".join(map(",".join, cells)))


KINDS = {
    "model": _MODEL,
    "ensemble": _MODEL,
    "official": [Mutation("parameter", "pickle", official_parameter, free=True)] * 3,
    "predictions": [Mutation("array", "npz", prediction_array, free=True)] * 3,
    "results": [Mutation("cell", "csv", result_cell, free=True)] * 2,
}


# --- Written down ---


def replaced(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


def no_files(name: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield what may be in place of a file."""
    yield "folder", replaced(name, lambda path: path.mkdir())
    yield "pipe", replaced(name, os.mkfifo)
    yield "dangling link", replaced(name, lambda path: path.symlink_to("nowhere"))
    yield "link to itself", replaced(name, lambda path: path.symlink_to(path))
    yield "device", replaced(name, lambda path: path.symlink_to("/dev/zero"))
    yield "empty file", replaced(name, lambda path: path.write_bytes(b""))


def json_text(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "model.json"
        document = json.loads(file.read_text())
        document.pop("checksum", None)
        file.write_bytes(change(json.dumps(document).encode()))

    return apply


def header(change: Callable[[dict[str, Any]], Any], tail: bytes = b"") -> Callable[[Path], None]:
    """Change the header of the tensors' file; the checksums are made anew."""

    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        document = json.loads(data[8 : 8 + length])
        text = change(document)
        text = text if isinstance(text, bytes) else json.dumps(document).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :] + tail)
        sealed(folder)

    return apply


def entry(name: str, **changes: Any) -> Callable[[Path], None]:
    return header(lambda document: document[name].update(changes))


def sparse(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(10 * 2**30)
    document = json.loads((folder / "model.json").read_text()) | {"format": 1}
    document.pop("sha256"), document.pop("checksum")
    (folder / "model.json").write_text(json.dumps(document))


def description(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        document = json.loads((folder / "model.json").read_text())
        sealed(folder, document | {name: change(document[name]) for name, change in changes.items()})

    return apply


def member_elsewhere(folder: Path) -> None:
    (folder / "member_1").rename(folder.parent / "elsewhere")
    (folder / "member_1").symlink_to("../elsewhere")


HYPER_PARAMETERS: dict[str, Any] = {
    "target_embed_dimension": 8,
    "pretrain_embed_dimension": 10**9,
    "patchsize": 10**6,
    "num_nn": 31,
    "layers": [],
    "coreset": 10**400,
    "weights": ["a"],
}


def of_models() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    for name in ("model.json", "model.safetensors"):
        for what, make in no_files(name):
            yield "model", f"{what} for {name}", make
    yield "model", "a name twice", json_text(lambda text: text.replace(b"{", b'{"threshold": 1e9, ', 1))
    yield "model", "byte order mark", json_text(lambda text: b"\xef\xbb\xbf" + text)
    yield "model", "no UTF-8", json_text(lambda text: text.replace(b"patch_core", b"patch\xff\xfe"))
    yield "model", "deep", json_text(lambda text: b'{"a":' * 100_000)
    yield "model", "huge length", lambda folder: header(lambda _: None)(folder) or (  # type: ignore[func-returns-value]
        folder / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + b"{}")  # fmt: skip
    yield (
        "model",
        "overlap",
        header(lambda doc: doc["image_of"].update(data_offsets=doc["projection"]["data_offsets"])),
    )
    yield (
        "model",
        "out of the file",
        entry("memory_bank", data_offsets=[0, 2**40], shape=[2**38 // 1024, 1024]),
    )
    yield "model", "negative offsets", entry("memory_bank", data_offsets=[-8, 0])
    yield "model", "huge shape", entry("memory_bank", shape=[2**62, 2**62])
    yield "model", "negative shape", entry("memory_bank", shape=[-1, -30720])
    yield "model", "no dimensions", entry("memory_bank", shape=[])
    for dtype in ("F8_E4M3", "BF16", "U8", "BOOL", "F64", "I64", "", 5, None, "f32"):
        yield "model", f"type {dtype!r}", entry("memory_bank", dtype=dtype)
    yield "model", "further entry", entry("memory_bank", odd=1)
    yield "model", "no dictionary", header(lambda _: b"[1]")
    yield (
        "model",
        "tensor twice",
        header(lambda doc: json.dumps(doc).replace("{", '{"calibration": {}, ', 1).encode()),
    )
    yield "model", "bytes behind", header(lambda _: None, tail=b"more")
    yield "model", "10 GB of nothing", sparse
    for value in ("0.5", True, 1e400, [], {}, 10**400):
        yield "model", f"threshold {str(value)[:9]!r}", description(threshold=lambda _, value=value: value)
    yield "model", "further geometry", description(transform=lambda old: old | {"odd": 1})
    yield "model", "less geometry", description(transform=lambda old: {"resize": 64, "crop": 64})
    yield "model", "odd geometry", description(transform=lambda old: old | {"square": "yes"})
    for wrong in ({"fingerprint": 5}, {"origin": None}, {"origin": ""}):
        yield "model", f"backbone {wrong}", description(backbone=lambda old, wrong=wrong: old | wrong)
    yield "model", "no backbone", description(backbone=lambda old: {})
    yield "model", "another method", description(method=lambda old: "gaussian")
    for name, value in HYPER_PARAMETERS.items():
        yield (
            "model",
            f"{name} {str(value)[:9]}",
            description(parameters=lambda old, n=name, v=value: old | {n: v}),
        )


def of_ensembles() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    for members in (0, 1, 3, 10**9, "2", True, 2.0, None):
        yield "ensemble", f"members {members!r}", description(members=lambda _, value=members: value)
    for units in ([], [1.0], [1.0, 0], [1.0, -1], [1, "2"], [1, None], [1, 1e-40], {}, [1, 2, 3], "12"):
        yield "ensemble", f"units {units!r}", description(units=lambda _, value=units: value)
    yield "ensemble", "another geometry", description(transform=lambda old: old | {"resize": 80})
    yield "ensemble", "member elsewhere", member_elsewhere
    yield "ensemble", "member of itself", lambda folder: (
        (folder / "member_1").rename(folder / "old"), (folder / "member_1").symlink_to(".")
    )[0] and None  # fmt: skip


PICKLES = {
    "doubling tuples": b"\x80\x02}"
    + b"(X\x01\x00\x00\x00a)"
    + b"".join(b"q\x01h\x01h\x01\x86" for _ in range(40))
    + b"u.",
    "doubling key": b"\x80\x02}N" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"K\x01s.",
    "doubling lists": b"\x80\x02" + b"".join(b"]q\x01(h\x01h\x01e" for _ in range(40)) + b".",
    "huge LONG4": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "huge BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<q", 2**40) + b".",
    "huge BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<q", 2**62) + b".",
    "huge reference": b"\x80\x02}r\xff\xff\xff\x7f.",
    "huge text reference": b"}p99999999999\n.",
    "persistent id": b"\x80\x02K\x01Q.",
    "persistent text": b"Pevil\n.",
    "next buffer": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05\x97\x98.",
    "frame": b"\x80\x04\x95" + struct.pack("<q", 2**62) + b"}.",
    "function": b"cos\nsystem\n(X\x09\x00\x00\x00touch hittR.",
    "method": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "instance": b"(ios\nsystem\n.",
    "extension": b"\x82\x01.",
    "digits": b"L" + b"9" * 100_000 + b"L\n.",
}


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def stored_tensor(numel: int, shape: bytes = b"K\x01\x85") -> bytes:
    """Return an encoder in the older form, of one tensor that says it has so many numbers."""
    number = b"\x8a\x08" + struct.pack("<q", numel)
    storage = (
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number
        + b"NtQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\x00" + shape + b"K\x00\x85\x89)tR"
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    return head + b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s.\x80\x02]X\x01\x00\x00\x000a."


OTHERS = (
    ("official", "patchcore_params.pkl"),
    ("official", "nnscorer_search_index.faiss"),
    ("encoder", "enchier.pkl"),
    ("predictions", "p.npz"),
    ("results", "results.csv"),
)


def of_others() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    for kind, name in OTHERS:
        for what, make in no_files(name):
            yield kind, f"{what} for {name}", make
    for name, content in PICKLES.items():
        yield "official", name, written("patchcore_params.pkl", content)
        yield "encoder", f"{name} as encoder", written("enchier.pkl", content)
        inside = zipped({"archive/data.pkl": content, "archive/version": b"3\n"})
        yield "encoder zip", f"{name} in a zip", written("enchier.pkl", inside)
    yield "official", "long parameters", written("patchcore_params.pkl", pickle.dumps({"a": "b" * 2**21}))
    bomb = zipped(
        {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(2**27), "archive/version": b"3\n"}
    )
    yield "encoder zip", "zip bomb", written("enchier.pkl", bomb)
    yield "encoder", "long encoder", written("enchier.pkl", bytes(2**25))
    for numel in (2**40, 2**62, -1, 2**25):
        yield "encoder", f"tensor of {numel}", written("enchier.pkl", stored_tensor(numel))
    for called in (
        b"cbuiltins\nbytearray\n",
        b"ctorch\nTensor\n",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    ):
        huge = b"\x80\x02" + called + b"\x8a\x08" + struct.pack("<q", 2**40) + b"\x85R."
        yield (
            "encoder zip",
            f"{called!r}",
            written("enchier.pkl", zipped({"archive/data.pkl": huge, "archive/version": b"3"})),
        )
    claim = io.BytesIO()
    np.lib.format.write_array_header_1_0(claim, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    names = ("imagewise_pred", "imagewise_gt", "fnames", "pixelwise_pred", "pixelwise_gt", "pixelwise_known",
             "threshold", "optimal_threshold")  # fmt: skip
    yield (
        "predictions",
        "claimed shape",
        written("p.npz", zipped({f"{name}.npy": claim.getvalue() for name in names}, 0)),
    )
    yield (
        "predictions",
        "packed zeros",
        written("p.npz", zipped({f"{name}.npy": bytes(2**27) for name in names[:1]})),
    )
    objects = packed({name: np.array([print], dtype=object) for name in names})
    yield "predictions", "objects", written("p.npz", objects)
    yield "results", "no table", written("results.csv", b"\x00" * 1000)
    yield "results", "long", written("results.csv", b"Row Names,a\n" + b"1,2\n" * 2**23)


def strangers() -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield the kind of seed, the name and the doing of what must be refused."""
    yield from of_models()
    yield from of_ensembles()
    yield from of_others()
