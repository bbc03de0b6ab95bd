"""Backbones: timm's own features of the layers asked for, weights from everywhere, and never random ones."""

import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from anomaly_lib.errors import ParameterError, WeightsError
from anomaly_lib.networks.backbone import ALIASES, WEIGHT_PACKAGES, Backbone, default_layers

TINY = "test_resnet"
HUB_ID = "timm/test_resnet.r160_in1k"
LITE0 = "5e984df53b006fa88a620e735126a673c3b32112374e50228e195c0739c0721d"

# All names of the official scripts but alexnet and bninception, which timm does not have.
# fmt: off
OFFICIAL = [
    "resnet50", "resnet101", "resnext101", "resnet200", "resnest50", "resnetv2_50_bit",
    "resnetv2_50_21k", "resnetv2_101_bit", "resnetv2_101_21k", "resnetv2_152_bit", "resnetv2_152_21k",
    "resnetv2_152_384", "resnetv2_101", "vgg11", "vgg19", "vgg19_bn", "wideresnet50", "wideresnet101",
    "mnasnet_100", "mnasnet_a1", "mnasnet_b1", "densenet121", "densenet201", "inception_v4",
    "vit_small", "vit_base", "vit_large", "vit_r50", "vit_deit_base", "vit_deit_distilled",
    "vit_swin_base", "vit_swin_large", "efficientnet_b7", "efficientnet_b5", "efficientnet_b3",
    "efficientnet_b1", "efficientnetv2_m", "efficientnetv2_l", "efficientnet_b3a",
    # Gaussian-AD's
    "resnet18", "resnet34", *(f"efficientnet-b{i}" for i in range(8)),
]
# fmt: on


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return timm.create_model(TINY).state_dict()


def timm_twin(backbone: Backbone, name: str, **options: object) -> torch.nn.Module:
    """Return the plain timm model with the backbone's weights."""
    twin = timm.create_model(name, **options)
    twin.load_state_dict(backbone._network.state_dict())
    return twin.eval()


def normalised(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return (images - mean) / std


# --- Names and layers ---


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_official_name_is_a_timm_model_with_a_known_tag(name: str) -> None:
    timm_name = ALIASES.get(name, name)
    assert timm.is_model(timm_name)
    assert timm.get_pretrained_cfg(timm_name) is not None


def test_aliases_are_official_names_only() -> None:
    assert set(ALIASES) <= set(OFFICIAL)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("wide_resnet50x", "wide_resnet50_2"),
        ("test_resnet.nonsense", "test_resnet.r160_in1k"),
        ("no such thing", "timm.list_models"),
        ("", "backbone ''"),
    ],
)
def test_an_unknown_name_or_tag_suggests_others(name: str, named: str) -> None:
    with pytest.raises(ParameterError, match="unknown backbone") as error:
        Backbone(name, weights="random")
    assert repr(name) in str(error.value)
    assert named in str(error.value)


def test_an_unknown_layer_lists_the_layers() -> None:
    with pytest.raises(ParameterError, match=r"no layer 'layer9'.*layer1, .*layer4") as error:
        Backbone(TINY, ["layer2", "layer9"], weights="random")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layer", ["global_pool", "fc"])
def test_a_layer_that_gives_no_map_is_refused(images: torch.Tensor, layer: str) -> None:
    with pytest.raises(ParameterError, match=f"layer '{layer}'.*no feature map"):
        Backbone(TINY, [layer], weights="random")(images)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("tf_efficientnet_lite0", ("blocks.2", "blocks.4")),
        ("wide_resnet50_2", ("layer2", "layer3")),
        ("test_vit", ("blocks.3", "blocks.4")),
        ("vgg11", ("features.14", "features.19")),
    ],
)
def test_the_default_layers_are_at_strides_8_and_16(name: str, layers: tuple[str, str]) -> None:
    with torch.device("meta"):
        assert default_layers(timm.create_model(name)) == layers


# --- Features ---


def test_features_of_a_cnn_are_timms(images: torch.Tensor) -> None:
    backbone = Backbone(TINY, ["layer2", "layer3"], weights="random")
    twin = timm_twin(backbone, TINY)
    wanted = twin.forward_intermediates(normalised(backbone, images), indices=[2, 3], intermediates_only=True)
    for ours, theirs in zip(backbone(images), wanted, strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_tokens_of_a_transformer_become_maps(images: torch.Tensor) -> None:
    backbone = Backbone("test_vit", ["blocks.1", "blocks.4"], weights="random")
    twin = timm_twin(backbone, "test_vit", dynamic_img_size=True)
    wanted = twin.forward_intermediates(
        normalised(backbone, images), indices=[1, 4], intermediates_only=True, norm=False
    )
    for ours, theirs in zip(backbone(images), wanted, strict=True):
        assert ours.shape == (2, 64, 4, 4)
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_channels_last_maps_of_a_swin_are_turned(images: torch.Tensor) -> None:
    name = "swin_tiny_patch4_window7_224"
    backbone = Backbone(name, ["layers.1", "layers.2"], weights="random")
    twin = timm_twin(backbone, name, dynamic_img_size=True)
    wanted = twin.forward_intermediates(normalised(backbone, images), indices=[1, 2], intermediates_only=True)
    for ours, theirs in zip(backbone(images), wanted, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_size_that_a_transformer_cannot_take_is_said(images: torch.Tensor) -> None:
    backbone = Backbone("mixer_s32_224", ["blocks.1"], weights="random")
    with pytest.raises(ParameterError, match="does not take this image size"):
        backbone(images)


def test_maps_come_in_the_order_of_the_layers_and_twice_where_asked_twice(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    backbone = Backbone(TINY, ["layer3", "layer2", "layer3"], weights="random")
    third, second, again = backbone(images)
    assert second.shape[2] == 2 * third.shape[2]
    assert torch.equal(third, again)


def test_the_network_stops_after_the_last_layer_asked_for(images: torch.Tensor) -> None:
    backbone = Backbone(TINY, ["layer2", "layer1"], weights="random")
    called = []
    for name in ("layer1", "layer2", "layer3", "layer4", "fc"):
        module = backbone._network.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
    backbone(images)
    assert called == ["layer1", "layer2"]


def test_a_second_call_knows_nothing_of_the_first(images: torch.Tensor) -> None:
    backbone = Backbone(TINY, ["layer2"], weights="random")
    first = backbone(images)[0].clone()
    backbone(images.flip(0))
    assert torch.equal(backbone(images)[0], first)
    assert backbone(images[:1])[0].shape[0] == 1


def test_features_have_no_gradient_and_do_not_change_the_network(images: torch.Tensor) -> None:
    backbone = Backbone(TINY, ["layer2"], weights="random")
    before = {name: tensor.clone() for name, tensor in backbone._network.state_dict().items()}
    assert not backbone(images)[0].requires_grad
    assert all(torch.equal(before[name], now) for name, now in backbone._network.state_dict().items())


def test_bf16_features_are_float32_and_close(images: torch.Tensor) -> None:
    exact, fast = (Backbone(precision=precision)(images) for precision in ("fp32", "bf16"))
    for a, b in zip(exact, fast, strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).norm() / a.norm() < 0.05


def test_the_shift_of_batch_norms_is_a_training_pass_over_an_image_of_ones(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    backbone = Backbone(TINY, ["layer2"], weights="random")
    twin = timm_twin(backbone, TINY)
    wanted = twin.train()
    wanted(torch.ones(1, 3, 64, 64))
    backbone.shift_batch_norm(64)
    ours, theirs = backbone._network.state_dict(), wanted.state_dict()
    for name in ("layer2.0.bn1.running_mean", "layer2.0.bn1.running_var"):
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(ours["layer3.0.bn1.running_var"], torch.ones_like(ours["layer3.0.bn1.running_var"]))
    wanted_map = twin.eval().forward_intermediates(
        normalised(backbone, images), indices=[2], intermediates_only=True
    )[0]
    assert torch.allclose(backbone(images)[0], wanted_map, rtol=1e-3, atol=1e-4)


# --- Weights ---


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


class Malicious:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


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
    assert not trap.exists()


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "empty.pth", "empty.safetensors"])
def test_a_damaged_weights_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"junk" * 9 if name.startswith("junk") else b"")
    with pytest.raises(WeightsError, match=name):
        Backbone(TINY, weights=tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(3)])
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.*(no state dict|do not fit)"):
        Backbone(TINY, weights=tmp_path / "other.pth")


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.pth"):
        Backbone(TINY, weights=tmp_path / "gone.pth")


# --- The hub: in processes of their own, since its client reads the environment when it is imported ---

ASK = """
import logging
from anomaly_lib.networks.backbone import Backbone
from anomaly_lib.errors import WeightsError
try:
    backbone = Backbone("test_resnet", ["layer2"])
    print(backbone.origin, backbone.fingerprint)
except WeightsError as error:
    print("WeightsError:", error)
"""


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one model."""

    def __init__(self, weights: bytes) -> None:
        self.weights = weights
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), HubAnswers)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubAnswers(http.server.BaseHTTPRequestHandler):
    """Answers as huggingface.co does for a file in a repository."""

    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        found = self.path == f"/{HUB_ID}/resolve/main/model.safetensors"
        body = self.server.weights if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        if found:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub(tiny_state: dict[str, torch.Tensor]) -> Iterator[Hub]:
    server = Hub(safetensors.torch.save(tiny_state))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(work: Path, endpoint: str) -> str:
    """Return what a new process says of the weights of the tiny model."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": endpoint, "ANOMALY_WORK": str(work), "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HOME": str(work / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hub_is_asked_once_and_then_its_cache_serves_without_it(
    tmp_path: Path, hub: Hub, tiny_state: dict[str, torch.Tensor]
) -> None:
    safetensors.torch.save_file(tiny_state, tmp_path / "tiny.safetensors")
    fingerprint = Backbone(TINY, weights=tmp_path / "tiny.safetensors").fingerprint
    assert ask(tmp_path / "work", hub.address) == f"hub {fingerprint}"
    assert f"GET /{HUB_ID}/resolve/main/model.safetensors" in hub.asked
    assert list((tmp_path / "work" / "cache").rglob("model.safetensors"))
    asked = len(hub.asked)
    hub.shutdown()
    hub.server_close()
    assert ask(tmp_path / "work", hub.address) == f"hub {fingerprint}"
    assert len(hub.asked) == asked


def test_without_hub_and_cache_one_sentence_says_within_seconds_what_was_tried(tmp_path: Path) -> None:
    start = time.monotonic()
    said = ask(tmp_path / "work", "http://127.0.0.1:9")
    assert time.monotonic() - start < 40  # most of it is the start of python; the hub's client alone takes 45
    assert said.startswith("WeightsError: no weights for backbone 'test_resnet'")
    for word in (str(tmp_path / "work" / "cache"), "hub", "--weights", "tf_efficientnet_lite0"):
        assert word in said
    assert "\n" not in said
