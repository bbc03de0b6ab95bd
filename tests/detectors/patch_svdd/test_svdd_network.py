"""Patch SVDD's encoder: the official layers, and whole images in one pass as patch by patch."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from anomaly_lib.detectors.patch_svdd.network import (
    HierarchicalEncoder,
    PositionClassifier,
    quadrants,
)
from anomaly_lib.detectors.patch_svdd.official import read_official_patch_svdd


def official_deep(weights: dict[str, torch.Tensor], patches: torch.Tensor) -> torch.Tensor:
    """Embed patches (n, 3, 32, 32) as the official EncoderDeep does, layer by layer."""
    for number in range(1, 9):
        stride = 2 if number == 1 else 1
        weight, bias = weights[f"enc.conv{number}.weight"], weights[f"enc.conv{number}.bias"]
        patches = F.conv2d(patches, weight.double(), bias.double(), stride)
        patches = F.leaky_relu(patches, 0.1) if number < 8 else patches.tanh()
    return patches  # (n, D, 1, 1)


def official_hierarchical(weights: dict[str, torch.Tensor], patches: torch.Tensor) -> torch.Tensor:
    """Embed patches (n, 3, 64, 64) as the official EncoderHier does."""
    corners = [patches[..., i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)]
    upper_left, upper_right, lower_left, lower_right = (official_deep(weights, corner) for corner in corners)
    upper, lower = torch.cat([upper_left, upper_right], dim=3), torch.cat([lower_left, lower_right], dim=3)
    joined = F.conv2d(
        torch.cat([upper, lower], dim=2), weights["conv1.weight"].double(), weights["conv1.bias"].double()
    )
    joined = F.conv2d(
        F.leaky_relu(joined, 0.1), weights["conv2.weight"].double(), weights["conv2.bias"].double()
    )
    return joined.tanh().flatten(1)


def encoder(dimensions: int) -> HierarchicalEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return HierarchicalEncoder(dimensions).requires_grad_(False)


def some_image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2)) - 0.5


@pytest.mark.parametrize("dimensions", [64, 5])
def test_patches_are_embedded_as_by_the_official_code(dimensions: int) -> None:
    network, patches = encoder(dimensions), some_image(64, 128).unfold(3, 64, 32)[0].permute(2, 0, 1, 3)
    weights = network.state_dict()
    assert (network(patches) - official_hierarchical(weights, patches.double())).abs().max() < 1e-5
    small = network.enc(patches[..., :32, 7:39])
    assert small.shape == (len(patches), dimensions, 1, 1)
    assert (small - official_deep(weights, patches[..., :32, 7:39].double())).abs().max() < 1e-5


@pytest.mark.parametrize("dimensions", [64, 5])
@pytest.mark.parametrize(
    ("height", "width"), [(96, 128), pytest.param(97, 101, marks=pytest.mark.slow), (64, 64)]
)
@pytest.mark.parametrize("strides", [{64: 16, 32: 4}, {64: 6, 32: 10}, {32: 2}])
def test_one_pass_over_an_image_gives_every_patch_its_embedding(
    dimensions: int, height: int, width: int, strides: dict[int, int]
) -> None:
    network, image = encoder(dimensions), some_image(height, width)
    found = network.dense(image, strides)
    assert list(found) == list(strides)
    for side, stride in strides.items():
        cut = image.unfold(2, side, stride).unfold(3, side, stride)  # (1, 3, rows, columns, side, side)
        patches = cut[0].permute(1, 2, 0, 3, 4)
        assert found[side].shape == (1, *patches.shape[:2], dimensions)
        embed = network if side == 64 else lambda patch: network.enc(patch).flatten(1)
        expected = torch.stack([embed(row) for row in patches])  # (rows, columns, D)
        assert (found[side][0] - expected).abs().max() < 1e-5


def test_one_pass_equals_patches_on_a_real_image_with_the_official_encoder(shared_data: Path) -> None:
    from anomaly_lib import PatchSVDD, read_category

    network = HierarchicalEncoder().requires_grad_(False)
    network.load_state_dict(read_official_patch_svdd(shared_data / "patch_svdd" / "bottle_enchier.pkl"))
    category = read_category(shared_data / "mvtec_ad", "bottle")
    image = next(iter(category.test_images(PatchSVDD(device="cpu").transform, batch_size=1))) - 0.5
    found = network.dense(image, {64: 16, 32: 4})
    assert found[64].shape == (1, 13, 13, 64)
    assert found[32].shape == (1, 57, 57, 64)
    for row, column in [(0, 0), (3, 11), (12, 12)]:
        patch = image[:, :, 16 * row : 16 * row + 64, 16 * column : 16 * column + 64]
        assert (network(patch) - found[64][:, row, column]).abs().max() < 1e-5
        patch = image[:, :, 16 * row : 16 * row + 32, 16 * column : 16 * column + 32]
        assert (network.enc(patch).flatten(1) - found[32][:, 4 * row, 4 * column]).abs().max() < 1e-5


def test_quadrants_come_row_by_row_of_each_patch() -> None:
    patches = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    split = quadrants(patches)
    assert split.shape == (8, 3, 4, 4)
    for i, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        for patch in range(2):
            assert torch.equal(split[4 * patch + i], patches[patch, :, row : row + 4, column : column + 4])


def test_an_untrained_encoder_tells_patches_apart() -> None:
    embeddings = encoder(16).enc(some_image(64, 64))
    assert embeddings.std(dim=(2, 3)).mean() > 0.05


def test_position_classifier_is_the_official_one() -> None:
    """Its last weights have columns of length one and do not learn; its last bias does."""
    classifier = PositionClassifier(6)
    assert torch.allclose(classifier.fc3.weight.norm(dim=0), torch.ones(128))
    first, second = torch.rand(2, 4, 6)
    hidden = first - second
    for layer in (classifier.fc1, classifier.fc2):
        hidden = F.leaky_relu(hidden @ layer.weight.T + layer.bias, 0.1)
    expected = hidden @ classifier.fc3.weight.T + classifier.fc3.bias
    logits = classifier(first, second)
    assert torch.allclose(logits, expected, atol=1e-6)
    logits.sum().backward()
    assert classifier.fc3.weight.grad is None
    assert classifier.fc3.bias.grad is not None
    assert classifier.fc1.weight.grad is not None
