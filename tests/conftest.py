"""Small data sets made of numpy and PIL, and an environment in which nothing outside of the tests is seen."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from anomaly_lib.networks.threads import considerate
from anomaly_lib.progress import silent

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

WriteCategory = Callable[..., Path]

# What takes long by its nature: `pytest -m "not slow"` leaves it out. Single tests are marked where they are.
SLOW_FOLDERS = {"browser", "container", "reliability"}
SLOW_FIXTURES = {"all_cores", "demo", "executed", "generated", "shared_data"}  # executed: a notebook


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what lies in a slow folder, asks for a slow fixture, or is torture."""
    for item in items:
        signs = {*item.path.parts, *getattr(item, "fixturenames", ())}
        if signs & (SLOW_FOLDERS | SLOW_FIXTURES) or item.get_closest_marker("torture"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's folders and the internet out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANOMALY_WORK", str(tmp_path_factory.mktemp("work")))
        patch.delenv("ANOMALY_DATA", raising=False)
        patch.delenv("MVTECPATH", raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True, scope="session")
def _signals() -> None:
    """Heed the end of the terminal even where the tests were started to outlive it (``nohup``)."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Keep tiny computations on one core: sharing them out costs more than it saves."""
    torch.set_num_threads(1)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Compute on all cores during a test, which other programs may want too."""
    torch.set_num_threads(os.cpu_count() or 1)
    with considerate(silent):
        yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the repository."""
    if not (SHARED_DATA / "mvtec_ad" / "bottle").is_dir():
        pytest.skip("the real images of ../shared/data are not here")
    return SHARED_DATA


def picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a part with a ring on a noisy ground: (height, width, 3) uint8 for size (width, height)."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    ring = 90 * np.exp(-(((radius - min(size) / 3) / 4) ** 2))
    noise = rng.normal(0, 6, (height, width, 3))
    return (80 + ring[..., None] + noise).clip(0, 255).astype(np.uint8)


def write_category_files(
    root: Path,
    name: str,
    *,
    train: int = 4,
    good: int = 2,
    defects: Mapping[str, int] | None = None,
    masks: bool = True,
    size: tuple[int, int] = (72, 72),
    seed: int = 0,
) -> Path:
    """Write one category in the layout of MVTec AD and return its folder; a defect is a bright square."""
    rng = np.random.default_rng(seed)
    defects = {"spot": 2} if defects is None else defects
    folder = root / name

    def save(pixels: np.ndarray, *parts: str) -> None:
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for i in range(train):
        save(picture(rng, size), "train", "good", f"{i:03d}.png")
    for i in range(good):
        save(picture(rng, size), "test", "good", f"{i:03d}.png")
    for defect, number in defects.items():
        for i in range(number):
            pixels, mask = picture(rng, size), np.zeros(size[::-1], np.uint8)
            top, left = rng.integers(size[1] // 4, size[1] // 2), rng.integers(size[0] // 4, size[0] // 2)
            area = np.s_[top : top + size[1] // 5, left : left + size[0] // 5]
            pixels[area], mask[area] = (250, 240, 60), 255
            save(pixels, "test", defect, f"{i:03d}.png")
            if masks:
                save(mask, "ground_truth", defect, f"{i:03d}_mask.png")
    return folder


@pytest.fixture(scope="session")
def write_category() -> WriteCategory:
    """Return `write_category_files`."""
    return write_category_files


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of two small categories, ``disc`` and ``ring``; only to be read."""
    root = tmp_path_factory.mktemp("small data")
    write_category_files(root, "disc", train=5, good=3, defects={"blot": 1, "spot": 2}, seed=1)
    write_category_files(root, "ring", seed=2)
    return root


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with weights, drawn once, for timm's ``test_resnet``, which takes milliseconds."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = timm.create_model("test_resnet")
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(network.state_dict(), file)
    return str(file)


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with an untrained encoder as the official Patch SVDD writes it."""
    from anomaly_lib.detectors.patch_svdd.network import HierarchicalEncoder

    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = HierarchicalEncoder(6).state_dict()
    file = tmp_path_factory.mktemp("official") / "enchier.pkl"
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file


@pytest.fixture(scope="session")
def normal_images() -> torch.Tensor:
    """Return six pictures of good parts, (6, 3, 64, 64) in [0, 1]."""
    rng = np.random.default_rng(3)
    pixels = np.stack([picture(rng, (64, 64)) for _ in range(6)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="session")
def defective_images(normal_images: torch.Tensor) -> torch.Tensor:
    """Return three pictures with a square of another colour at rows 24 to 40 and columns 16 to 32."""
    images = normal_images[:3].flip(3).clone()
    images[:, :, 24:40, 16:32] = torch.tensor([1.0, 0.9, 0.2])[:, None, None]
    return images


class Recorder:
    """A progress callback that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.calls.append((stage, done, total))

    def last(self) -> dict[str, tuple[int, int]]:
        """Return what was last said of each stage: done and total."""
        return {stage: (done, total) for stage, done, total in self.calls}


@pytest.fixture
def recorder() -> Any:
    """Return a new `Recorder`."""
    return Recorder()
