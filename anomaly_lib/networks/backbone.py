"""A pretrained network as a function: images in, feature maps of named layers out.

Every timm model works by its name. Its weights are the business of `anomaly_lib.networks.weights`, and the
form of its features that of `anomaly_lib.networks.maps`.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import EfficientNet, ResNet
from torch import nn

from anomaly_lib.errors import ModelFileError, ParameterError, first_line, pass_on_lack_of_memory
from anomaly_lib.networks.devices import Precision, autocast
from anomaly_lib.networks.maps import as_map
from anomaly_lib.networks.names import DEFAULT_BACKBONE, native_size, require_known, timm_name
from anomaly_lib.networks.weights import fingerprint, load_network


class Backbone:
    """A frozen network that returns the feature maps of some of its layers; threads may share one.

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
        require_known(name)
        self.name = name
        self.device = torch.device(device)
        self.precision = precision
        self._network, self.origin = load_network(timm_name(name), weights)
        self._network.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self.fingerprint = fingerprint(self._network)
        config: dict[str, Any] = self._network.pretrained_cfg  # type: ignore[assignment]
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        self.layers = tuple(layers) or default_layers(self._network)
        self._call = threading.local()  # `captured`: what the layers gave, by name, in the call of a thread
        for layer in self.layers:
            self._watch(layer)

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature map (n, channels, h, w), float32, of each layer, in the order of `layers`.

        `images` is (n, 3, h, w), float in [0, 1]. The network runs no further than the last layer needed.
        Where a pixel is not finite, the features around it are nan.

        Raises
        ------
        ParameterError
            When the images are not (n, 3, h, w), when the network does not take their size, or when a layer
            gives no feature map.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ParameterError(
                "a backbone takes floats in [0, 1] of shape (n, 3, height, width), not "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        with autocast(self.device, self.precision):
            outputs = self._outputs(self._normalised(images))
        size = (images.shape[2], images.shape[3])
        return [self._as_map(layer, outputs.get(layer), size) for layer in self.layers]

    def require_same(self, saved: Mapping[str, str], folder: Path) -> None:
        """Raise `ModelFileError` when the model saved in `folder` was fitted with other weights than these.

        `saved` has the `origin` and the `fingerprint` of the backbone that it was fitted with.
        """
        if self.fingerprint != saved["fingerprint"]:
            raise ModelFileError(
                f"the model in {folder} was fitted with other weights of {self.name} (from "
                f"{saved['origin']}) than are found here ({self.origin}): give the file that it was fitted "
                "with as `weights`"
            )

    @torch.no_grad()
    def shift_batch_norm(self, size: int) -> None:
        """Do to the batch-norm statistics what the official PatchCore does before its first image.

        It learns the channel counts from an image of ones (1, 3, size, size), in training mode, which moves
        the running statistics of every batch norm by a tenth. Its memory banks hold features of that network,
        so whoever wants its scores has to do the same, and only once, before the first image and before any
        other thread has the backbone.
        """
        self._network.train()
        try:
            self._outputs(torch.ones(1, 3, size, size, device=self.device))
        finally:
            self._network.eval()

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor(self.mean, device=self.device).reshape(3, 1, 1)
        std = torch.tensor(self.std, device=self.device).reshape(3, 1, 1)
        normalised = (images.to(self.device, torch.float32) - mean) / std
        # A network may make something finite of infinity (ReLU6 of it is 6), but never of nan.
        normalised = normalised.masked_fill(~normalised.isfinite(), torch.nan)
        return normalised.contiguous(memory_format=torch.channels_last)

    def _outputs(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what each of the layers gives for normalised images, by name; the rest is not computed."""
        captured: dict[str, torch.Tensor] = {}
        self._call.captured = captured
        try:
            self._network(images)
        except _AllCapturedError:
            pass
        except torch.AcceleratorError:
            raise
        except (AssertionError, RuntimeError, ValueError) as error:  # how timm's networks refuse a size
            pass_on_lack_of_memory(error)
            reason, native = first_line(error).rstrip("."), native_size(self.name)
            raise ParameterError(
                f"backbone {self.name!r} does not take this image size, {images.shape[2]} x "
                f"{images.shape[3]}: {reason}; it was made for {native} x {native}"
            ) from error
        finally:
            del self._call.captured
        return captured

    def _watch(self, layer: str) -> None:
        modules = dict(self._network.named_modules())
        if layer not in modules:
            names = ", ".join(name for name in modules if name and name.count(".") <= 1)
            raise ParameterError(
                f"backbone {self.name!r} has no layer {layer!r}; among its layers are: {names}"
            )
        call, number = self._call, len(set(self.layers))

        def capture(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            call.captured[layer] = output
            if len(call.captured) == number:
                raise _AllCapturedError

        modules[layer].register_forward_hook(capture)

    def _as_map(self, layer: str, output: object, size: tuple[int, int]) -> torch.Tensor:
        try:
            return as_map(output, size, self._network)
        except ParameterError as error:
            raise ParameterError(f"layer {layer!r} of backbone {self.name!r} {error}") from None


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
        network = timm.create_model(timm_name(name))
    if isinstance(network, EfficientNet):
        return ("bn1", *(f"blocks.{stage}" for stage in range(len(network.blocks))), "bn2")
    if isinstance(network, ResNet):
        return ("maxpool", *(f"layer{stage}" for stage in range(1, 5)))
    stages = getattr(network, "feature_info", None)
    if not stages:
        raise ParameterError(f"backbone {name!r} has no feature pyramid: use another, or name its layers")
    return tuple(stage["module"] for stage in stages)
