"""Patch features against the official code's own steps, and maps against scipy's filter."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from anomaly_lib.kernels.patches import embed_patches, smooth_maps


def maps(*shapes: tuple[int, int, int], n: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(map(sum, shapes)))
    return [torch.randn(n, *shape, generator=generator) for shape in shapes]


def official(layers: list[torch.Tensor], patchsize: int, pretrain_dim: int, target_dim: int) -> torch.Tensor:
    """Do what patchcore.py and common.py do, step by step: (n, h, w, target_dim), in float64."""
    padding = int((patchsize - 1) / 2)
    patches, grids = [], []
    for layer in layers:
        layer = layer.double()
        unfolded = F.unfold(layer, patchsize, stride=1, padding=padding)
        grids.append([side + 2 * padding - (patchsize - 1) for side in layer.shape[-2:]])
        unfolded = unfolded.reshape(*layer.shape[:2], patchsize, patchsize, -1)
        patches.append(unfolded.permute(0, 4, 1, 2, 3))  # (n, gh * gw, c, p, p)
    height, width = grids[0]
    for i in range(1, len(patches)):
        resized = patches[i].reshape(len(layers[0]), *grids[i], *patches[i].shape[2:])
        resized = resized.permute(0, -3, -2, -1, 1, 2)
        base = resized.shape
        resized = resized.reshape(-1, *resized.shape[-2:])
        resized = F.interpolate(resized[:, None], size=(height, width), mode="bilinear", align_corners=False)
        resized = resized[:, 0].reshape(*base[:-2], height, width).permute(0, -2, -1, 1, 2, 3)
        patches[i] = resized.reshape(len(resized), -1, *resized.shape[-3:])
    pooled = []
    for layer in patches:
        flat = layer.reshape(-1, 1, layer.shape[2:].numel())
        pooled.append(F.adaptive_avg_pool1d(flat, pretrain_dim).squeeze(1))
    stacked = torch.stack(pooled, dim=1)  # (n * gh * gw, layers, pretrain_dim)
    features = F.adaptive_avg_pool1d(stacked.reshape(len(stacked), 1, -1), target_dim)
    return features.reshape(len(layers[0]), height, width, target_dim)


def check(layers: list[torch.Tensor], patchsize: int, pretrain_dim: int, target_dim: int) -> None:
    ours = embed_patches(layers, patchsize, pretrain_dim, target_dim)
    wanted = official(layers, patchsize, pretrain_dim, target_dim)
    assert ours.shape == wanted.shape
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert torch.allclose(ours.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("patchsize", [1, 2, 3, 4, 5])
def test_odd_and_even_patch_sizes(patchsize: int) -> None:
    check(maps((12, 10, 10), (20, 5, 5)), patchsize, 32, 48)


@pytest.mark.parametrize("dim", [384, 1000, 1024])
@pytest.mark.parametrize(
    "shapes",
    [
        [(40, 8, 8)],
        [(40, 8, 8), (112, 4, 4)],
        [(24, 8, 8), (40, 4, 4), (112, 2, 2)],
    ],
)
def test_one_two_and_three_layers_to_the_dimensions_in_use(
    shapes: list[tuple[int, int, int]], dim: int
) -> None:
    check(maps(*shapes), 3, 1024, dim)


@pytest.mark.parametrize(("pretrain_dim", "target_dim"), [(1, 1), (7, 3), (1000, 384), (50, 999), (108, 216)])
def test_dimensions_that_divide_nothing(pretrain_dim: int, target_dim: int) -> None:
    check(maps((12, 6, 6), (17, 3, 3)), 3, pretrain_dim, target_dim)


def test_a_target_larger_than_all_values_together() -> None:
    check(maps((2, 4, 4)), 1, 5, 40)


def test_maps_that_are_not_square() -> None:
    check(maps((8, 9, 5), (12, 5, 3)), 3, 32, 32)


def test_a_deeper_layer_that_is_larger_and_one_of_the_same_size() -> None:
    check(maps((8, 5, 5), (12, 9, 9), (4, 5, 5)), 3, 32, 32)


def test_a_map_of_one_position() -> None:
    check(maps((8, 3, 3), (12, 1, 1)), 3, 16, 16)


def test_maps_in_channels_last_memory() -> None:
    layers = maps((8, 6, 6), (12, 3, 3))
    turned = [layer.contiguous(memory_format=torch.channels_last) for layer in layers]
    assert torch.allclose(embed_patches(turned, 3, 32, 32), embed_patches(layers, 3, 32, 32), atol=1e-6)


def test_an_image_has_the_same_features_in_any_batch() -> None:
    layers = maps((40, 8, 8), (112, 4, 4), n=5)
    together = embed_patches(layers, 3, 1024, 1024)
    alone = torch.cat(
        [embed_patches([layer[i : i + 1] for layer in layers], 3, 1024, 1024) for i in range(5)]
    )
    assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_the_maps_are_left_as_they_are() -> None:
    layers = maps((8, 6, 6), (12, 3, 3))
    before = [layer.clone() for layer in layers]
    embed_patches(layers, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(layers, before, strict=True))


@pytest.mark.parametrize(
    ("grid", "size"),
    [((28, 28), (224, 224)), ((7, 5), (64, 100)), ((40, 28), (33, 57)), ((1, 1), (32, 32)), ((3, 4), (3, 4))],
)
@pytest.mark.parametrize("sigma", [4.0, 1.0])
def test_maps_are_bilinear_upsampling_and_scipys_gaussian(
    grid: tuple[int, int], size: tuple[int, int], sigma: float
) -> None:
    scores = torch.rand(3, *grid, generator=torch.Generator().manual_seed(0)) * 50
    up = F.interpolate(scores.double()[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    wanted = torch.stack([torch.from_numpy(gaussian_filter(image.numpy(), sigma=sigma)) for image in up])
    ours = smooth_maps(scores, size) if sigma == 4.0 else smooth_maps(scores, size, sigma)
    assert ours.shape == (3, *size)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.double(), wanted, rtol=1e-4, atol=1e-4)


def test_a_constant_map_stays_constant_up_to_its_border() -> None:
    assert torch.allclose(smooth_maps(torch.full((1, 4, 4), 3.0), (50, 60)), torch.tensor(3.0))
