"""Weights from a file, a package or the hub: the right ones, or one sentence; never random or in part."""

import contextlib
import hashlib
import http.server
import io
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from anomaly_lib.errors import WeightsError
from anomaly_lib.networks.backbone import Backbone
from anomaly_lib.networks.weights import WEIGHT_PACKAGES, load_network

TINY = "test_resnet"
HUB_ID = "timm/test_resnet.r160_in1k"
LITE0 = "5e984df53b006fa88a620e735126a673c3b32112374e50228e195c0739c0721d"


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return timm.create_model(TINY).state_dict()


def test_the_packages_weights_are_the_known_ones() -> None:
    backbone = Backbone()
    assert backbone.origin == WEIGHT_PACKAGES["tf_efficientnet_lite0"]
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.layers == ("blocks.2", "blocks.4")
    assert backbone.fingerprint == LITE0


@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_larger_networks_have_their_package_too(name: str) -> None:
    backbone = Backbone(name)
    assert backbone.origin == WEIGHT_PACKAGES[name]
    assert backbone.fingerprint != Backbone(name, weights="random").fingerprint


def test_random_weights_are_untrained_and_said_to_be() -> None:
    backbone = Backbone(weights="random")
    assert backbone.origin == "random"
    assert backbone.fingerprint != LITE0


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_a_pth_file_is_read_plain_and_wrapped(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor], wrapped: str | None
) -> None:
    file = tmp_path / "tiny.pth"
    torch.save({wrapped: tiny_state, "epoch": 3} if wrapped else tiny_state, file)
    backbone = Backbone(TINY, weights=file)
    assert backbone.origin == str(file)
    assert all(torch.equal(tiny_state[name], now) for name, now in backbone._network.state_dict().items())


def test_a_safetensors_file_gives_the_same_fingerprint_as_the_pth(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    torch.save(tiny_state, tmp_path / "tiny.pth")
    safetensors.torch.save_file(tiny_state, tmp_path / "tiny.safetensors")
    one, other = (Backbone(TINY, weights=str(tmp_path / f"tiny.{kind}")) for kind in ("pth", "safetensors"))
    assert one.fingerprint == other.fingerprint


def test_tensors_under_other_names_are_taken_in_their_order(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    renamed = {f"module.{i}": tensor for i, tensor in enumerate(tiny_state.values())}
    torch.save(renamed, tmp_path / "tiny.pth")
    backbone = Backbone(TINY, weights=tmp_path / "tiny.pth")
    assert all(torch.equal(tiny_state[name], now) for name, now in backbone._network.state_dict().items())


def test_the_fingerprint_changes_with_one_number(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    torch.save(tiny_state, tmp_path / "a.pth")
    changed = {name: tensor.clone() for name, tensor in tiny_state.items()}
    changed["fc.bias"][0] += 1e-3
    torch.save(changed, tmp_path / "b.pth")
    one, other = (Backbone(TINY, weights=tmp_path / name) for name in ("a.pth", "b.pth"))
    assert one.fingerprint != other.fingerprint


def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    torch.save(tiny_state, tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match=r"tiny\.pth do not fit.*this very architecture"):
        Backbone("test_vit", weights=tmp_path / "tiny.pth")


def test_numbers_of_another_kind_are_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    first = next(iter(tiny_state))
    for kind in (torch.int32, torch.complex64):
        torch.save(tiny_state | {first: tiny_state[first].to(kind)}, tmp_path / "tiny.pth")
        with pytest.raises(WeightsError, match=f"1 of 92 tensors .* shape or type, {first} first"):
            Backbone(TINY, weights=tmp_path / "tiny.pth")


def test_half_precision_weights_are_taken(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tiny_state.items()
    }
    torch.save(halves, tmp_path / "tiny.pth")
    network, _ = load_network(TINY, tmp_path / "tiny.pth")
    assert all(torch.equal(halves[name].float(), now.float()) for name, now in network.state_dict().items())


# --- Files that are damaged or hostile ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor], value: float
) -> None:
    spoilt = tiny_state["layer2.0.conv1.weight"].double()
    spoilt[0, 0, 0, 0] = value  # the last one does not fit into float32
    torch.save(tiny_state | {"layer2.0.conv1.weight": spoilt}, tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match=r"tiny\.pth are damaged: layer2\.0\.conv1\.weight .* not finite"):
        Backbone(TINY, weights=tmp_path / "tiny.pth")


def test_what_the_network_does_not_need_may_be_anything(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    torch.save(tiny_state | {"mask": torch.full((2, 2), -torch.inf)}, tmp_path / "tiny.pth")
    assert Backbone(TINY, weights=tmp_path / "tiny.pth").origin.endswith("tiny.pth")


class Malicious:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    trap = tmp_path / "trap"
    torch.save({**tiny_state, "evil": Malicious(trap)}, tmp_path / "new.pth")
    with (tmp_path / "old.pth").open("wb") as file:
        pickle.dump(Malicious(trap), file)
    for name in ("new.pth", "old.pth"):
        with pytest.raises(WeightsError, match=f"cannot read the weights file .*{name}") as error:
            Backbone(TINY, weights=tmp_path / name)
        assert "\n" not in str(error.value)
        assert "weights_only" not in str(error.value)  # torch explains how to run the code after all
    assert not trap.exists()


def saved(kind: str, state: dict[str, torch.Tensor]) -> bytes:
    """Return the bytes of a file with `state`: ``safetensors``, ``pth`` or torch's ``old`` format."""
    if kind == "safetensors":
        return safetensors.torch.save(state)
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=kind == "pth")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old"])
def test_a_file_cut_off_anywhere_is_one_sentence(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor], kind: str
) -> None:
    whole = saved(kind, tiny_state)
    file = tmp_path / f"cut.{'pth' if kind == 'old' else kind}"
    file.write_bytes(whole)
    Backbone(TINY, weights=file)
    for length in (0, 1, 7, 8, 9, 100, 5000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=f"cannot read the weights file .*{file.name}") as error:
            Backbone(TINY, weights=file)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["safetensors", "pth", "old"])
def test_a_file_with_wrong_bytes_is_one_sentence_or_of_no_harm(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor], kind: str
) -> None:
    whole = saved(kind, tiny_state)
    file = tmp_path / f"wrong.{'pth' if kind == 'old' else kind}"
    rng = random.Random(0)
    for _ in range(40):
        spoilt = bytearray(whole)
        for _ in range(4):  # most of it is tensors; what describes them is at the ends
            place = rng.randrange(9000)
            spoilt[place if rng.random() < 0.5 else -1 - place] = rng.randrange(256)
        file.write_bytes(spoilt)
        with contextlib.suppress(WeightsError):
            network, _ = load_network(TINY, file)
            assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "page.pth", "page.safetensors"])
def test_something_else_under_the_name_of_weights_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>sign in</html>" if name.startswith("page") else b"junk" * 9)
    with pytest.raises(WeightsError, match=name):
        Backbone(TINY, weights=tmp_path / name)


def test_arrays_of_numpy_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays", a=np.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pth")
    with pytest.raises(WeightsError, match=r"cannot read the weights file .*arrays\.pth"):
        Backbone(TINY, weights=tmp_path / "arrays.pth")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"epoch": 3},
        torch.ones(3),
        {"model": {"model": {"model": {}, "epoch": 3}}},
        {"state_dict": {"a": torch.ones(3).to_sparse()}},
        {"a": torch.ones(3, device="meta")},
    ],
    ids=["list", "number", "tensor", "nested dicts", "sparse", "no data"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.*(no state dict|do not fit)"):
        Backbone(TINY, weights=tmp_path / "other.pth")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_no_state_dict(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    torch.save(tiny_state | {next(iter(tiny_state)): nested}, tmp_path / "nested.pth")
    with pytest.raises(WeightsError, match=r"nested\.pth holds no state dict"):
        Backbone(TINY, weights=tmp_path / "nested.pth")


def in_archive(state: dict[str, torch.Tensor], content: bytes, file: Path) -> None:
    """Write the `.pth` of a state dict with another pickle in it, packed."""
    with (
        zipfile.ZipFile(io.BytesIO(saved("pth", state))) as whole,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as changed,
    ):
        for entry in whole.infolist():
            pickled = entry.filename.endswith("data.pkl")
            changed.writestr(entry.filename, content if pickled else whole.read(entry))


def test_dicts_a_hundred_thousand_deep_are_no_state_dict(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    inner, depth = b"X\x05\x00\x00\x00model}", 100_000
    in_archive(tiny_state, b"\x80\x02}" + inner * depth + b"s" * depth + b".", tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"deep\.pth holds no state dict"):
        Backbone(TINY, weights=tmp_path / "deep.pth")


def test_a_small_archive_that_unpacks_to_much_is_not_unpacked(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    file = tmp_path / "bomb.pth"
    in_archive(tiny_state, bytes(200_000_000), file)
    assert file.stat().st_size < 3_000_000
    with pytest.raises(
        WeightsError, match=r"bomb\.pth is too large for this network: 20\d MB, and at most 97 MB"
    ):
        Backbone(TINY, weights=file)


@pytest.mark.parametrize("name", ["huge.pth", "huge.safetensors"])
def test_a_file_far_larger_than_the_network_is_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(WeightsError, match=f"{name} is too large for this network: 1099512 MB"):
        Backbone(TINY, weights=tmp_path / name)


def test_a_training_checkpoint_with_optimizer_and_average_is_not_too_large(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    rest = {str(i): torch.zeros(2_000_000, dtype=torch.float64) for i in range(3)}
    torch.save({"state_dict": tiny_state, "optimizer": rest}, tmp_path / "checkpoint.pth")
    assert Backbone(TINY, weights=tmp_path / "checkpoint.pth").origin.endswith("checkpoint.pth")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "loop", "pipe.safetensors", ""])
def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "folder":
        Path(kind).mkdir()
    elif kind.startswith("pipe"):
        os.mkfifo(kind)
    elif kind == "loop":
        Path(kind).symlink_to(kind)
    with pytest.raises(WeightsError, match=f"no weights file {kind or '.'}: give an existing"):
        Backbone(TINY, weights=kind)


def test_a_name_too_long_for_a_file_is_one_sentence() -> None:
    with pytest.raises(WeightsError, match=r"cannot read the weights file x.*too long"):
        Backbone(TINY, weights="x" * 300)


# --- The cache of the hub ---


def in_cache(work: Path, name: str, content: bytes, *, missing: str = "") -> Path:
    """Write a file as the hub's client keeps it; `missing` is one that the hub is known not to have."""
    folder, commit = work / "cache" / f"models--{HUB_ID.replace('/', '--')}", "0123456789abcdef" * 2
    blob, link = folder / "blobs" / "abc", folder / "snapshots" / commit / name
    for path in (folder / "refs" / "main", blob, link, folder / ".no_exist" / commit / (missing or "_")):
        path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    blob.write_bytes(content)
    link.symlink_to(blob)
    if missing:
        (folder / ".no_exist" / commit / missing).touch()
    return blob


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new work folder that is the one in use."""
    monkeypatch.setenv("ANOMALY_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


def test_weights_in_the_cache_are_used_without_the_hub(
    work: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    in_cache(work, "model.safetensors", safetensors.torch.save(tiny_state))
    network, origin = load_network(TINY, None)
    assert origin == "hub"
    assert all(torch.equal(tiny_state[name], now) for name, now in network.state_dict().items())


def test_where_the_hub_has_no_safetensors_the_cached_pickle_is_used(
    work: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    in_cache(work, "pytorch_model.bin", saved("pth", tiny_state), missing="model.safetensors")
    network, _ = load_network(TINY, None)
    assert all(torch.equal(tiny_state[name], now) for name, now in network.state_dict().items())


@pytest.mark.parametrize("spoil", ["cut", "empty", "other"])
def test_a_damaged_file_in_the_cache_is_named_to_be_deleted(
    work: Path, tiny_state: dict[str, torch.Tensor], spoil: str
) -> None:
    content = {
        "cut": safetensors.torch.save(tiny_state)[:-1],
        "empty": b"",
        "other": safetensors.torch.save({"a": torch.ones(3)}),
    }[spoil]
    blob = in_cache(work, "model.safetensors", content)
    with pytest.raises(WeightsError, match=f"in the cache are damaged .*: delete {blob}") as error:
        load_network(TINY, None)
    assert "\n" not in str(error.value)


def test_weights_of_the_hub_that_are_not_finite_are_refused(
    work: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    spoilt = tiny_state | {"fc.bias": tiny_state["fc.bias"] * torch.nan}
    in_cache(work, "model.safetensors", safetensors.torch.save(spoilt))
    with pytest.raises(WeightsError, match=r"the weights from hub are damaged: fc\.bias .* not finite"):
        load_network(TINY, None)


def test_a_network_that_timm_has_no_weights_of_is_said_at_once(work: Path) -> None:
    with pytest.raises(WeightsError, match=r"timm has no weights for backbone 'botnet50ts_256'.*`weights`"):
        Backbone("botnet50ts_256")


# --- The hub: in processes of their own, since its client reads the environment when it is imported ---

ASK = """
import os
import sys
from anomaly_lib.networks.backbone import Backbone
from anomaly_lib.errors import WeightsError
children = 0
while children < int(sys.argv[1]) and os.fork():  # imports take long, and all are to ask at once
    children += 1
try:
    backbone = Backbone("test_resnet", ["layer2"])
    sys.stdout.write(f"{backbone.origin} {backbone.fingerprint}\\n")  # at once: others write there too
except WeightsError as error:
    print("WeightsError:", error)
if children == int(sys.argv[1]):
    for _ in range(children):
        os.wait()
"""


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one model, which goes wrong in the way that its address says."""

    def __init__(self, weights: bytes) -> None:
        self.weights = weights
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), HubAnswers)

    def address(self, way: str = "whole") -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}"


class HubAnswers(http.server.BaseHTTPRequestHandler):
    """Answers as huggingface.co does for a file in a repository, or nearly."""

    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        way, _, path = self.path[1:].partition("/")
        self.server.asked.append(f"{self.command} {path}")
        found = path == f"{HUB_ID}/resolve/main/model.safetensors" and way != "gone"
        weights = self.server.weights
        body = (b"<html>sign in</html>" if way == "page" else weights) if found else b""
        self.send_response(200 if found else 404)
        longer = 100 if way == "longer" and not with_body else 0
        self.send_header("Content-Length", str(len(body) + longer))
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(weights).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if way == "cut" else body)
            self.close_connection = True


@pytest.fixture
def hub(tiny_state: dict[str, torch.Tensor]) -> Iterator[Hub]:
    server = Hub(safetensors.torch.save(tiny_state))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub_answer(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> str:
    """Return what a process says that has the weights of the hub."""
    safetensors.torch.save_file(tiny_state, tmp_path / "tiny.safetensors")
    return f"hub {Backbone(TINY, weights=tmp_path / 'tiny.safetensors').fingerprint}"


def start(work: Path, endpoint: str, *, children: int = 0) -> subprocess.Popen[str]:
    """Start a process that asks for the weights of the tiny model, at once with so many children."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": endpoint, "ANOMALY_WORK": str(work), "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(work / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", ASK, str(children)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(process: subprocess.Popen[str]) -> str:
    """Return what a started process says in the end."""
    with process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output.strip()


@pytest.mark.slow
def test_the_hub_is_asked_once_and_then_its_cache_serves_without_it(
    tmp_path: Path, hub: Hub, hub_answer: str
) -> None:
    assert answer(start(tmp_path / "work", hub.address())) == hub_answer
    assert f"GET {HUB_ID}/resolve/main/model.safetensors" in hub.asked
    assert list((tmp_path / "work" / "cache").rglob("model.safetensors"))
    asked = len(hub.asked)
    hub.shutdown()
    hub.server_close()
    assert answer(start(tmp_path / "work", hub.address())) == hub_answer
    assert len(hub.asked) == asked


@pytest.mark.slow
def test_processes_that_download_at_the_same_time_all_get_the_weights(
    tmp_path: Path, hub: Hub, hub_answer: str
) -> None:
    said = answer(start(tmp_path / "work", hub.address(), children=3))
    assert said.splitlines() == [hub_answer] * 4
    assert hub.asked.count(f"GET {HUB_ID}/resolve/main/model.safetensors") == 1


@pytest.mark.slow
def test_a_download_that_goes_wrong_is_one_sentence(tmp_path: Path, hub: Hub) -> None:
    ways = ("cut", "longer", "gone")
    processes = [start(tmp_path / way, hub.address(way)) for way in ways]
    for way, said in zip(ways, map(answer, processes), strict=True):
        assert said.startswith("WeightsError: no weights for backbone 'test_resnet'"), said
        for word in (str(tmp_path / way / "cache"), "hub", "`weights`", "tf_efficientnet_lite0"):
            assert word in said
        assert "\n" not in said


@pytest.mark.slow
def test_a_wrong_page_instead_of_weights_is_named_and_replaced_once_it_is_deleted(
    tmp_path: Path, hub: Hub, hub_answer: str
) -> None:
    said = answer(start(tmp_path / "work", hub.address("page")))
    assert said.startswith("WeightsError: the weights of backbone 'test_resnet' in the cache are damaged")
    assert "\n" not in said
    file = Path(said.split("delete ")[1].split(",")[0])
    assert file.read_bytes() == b"<html>sign in</html>"
    file.unlink()
    assert answer(start(tmp_path / "work", hub.address())) == hub_answer


@pytest.mark.slow
def test_without_hub_and_cache_one_sentence_says_within_seconds_what_was_tried(tmp_path: Path) -> None:
    begin = time.monotonic()
    said = answer(start(tmp_path / "work", "http://127.0.0.1:9"))
    assert time.monotonic() - begin < 40  # most of it is the start of python; the hub's client alone takes 45
    assert said.startswith("WeightsError: no weights for backbone 'test_resnet'")
    for word in (str(tmp_path / "work" / "cache"), "hub", "`weights`", "tf_efficientnet_lite0"):
        assert word in said
    assert "\n" not in said
