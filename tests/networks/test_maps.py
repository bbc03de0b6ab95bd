"""Layers' outputs become maps (n, c, h, w) by the size of the image and the strides of the network."""

import pytest
import torch
from torch import nn

from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.maps import as_map, token_grids


def network(*strides: int, **attributes: object) -> nn.Module:
    """Return a module that says of itself what timm's networks say."""
    made = nn.Module()
    made.feature_info = [{"reduction": stride} for stride in strides]
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def places(height: int, width: int, prefix: int = 0) -> torch.Tensor:
    """Return tokens (1, prefix + height * width, 2): each its row and column, the prefix -1."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([rows, columns], dim=-1).reshape(1, -1, 2)
    return torch.cat([torch.full((1, prefix, 2), -1), grid], dim=1).float()


def assert_in_place(found: torch.Tensor, height: int, width: int) -> None:
    assert found.dtype == torch.float32
    assert found.shape == (1, 2, height, width)
    assert torch.equal(found.flatten(2).transpose(1, 2), places(height, width))


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(64, 64), (32, 128), (128, 32), (16, 256), (64, 96)])
def test_tokens_lie_row_by_row_on_the_grid_of_the_images_shape(prefix: int, size: tuple[int, int]) -> None:
    height, width = size[0] // 16, size[1] // 16
    tokens = places(height, width, prefix)
    assert_in_place(as_map(tokens, size, network(16, num_prefix_tokens=prefix)), height, width)


def test_a_layer_before_the_prefix_is_added_has_none() -> None:
    found = as_map(places(2, 8), (32, 128), network(16, num_prefix_tokens=1))
    assert_in_place(found, 2, 8)


def test_a_stage_of_another_stride_has_its_own_grid() -> None:
    for stride in (4, 8, 16):
        height, width = 32 // stride, 128 // stride
        assert_in_place(as_map(places(height, width), (32, 128), network(4, 8, 16)), height, width)


def test_a_rest_of_the_image_is_cut_off_or_filled_up() -> None:
    assert list(token_grids(network(16), (100, 150))) == [(6, 9), (7, 10)]
    for height, width in ((6, 9), (7, 10)):
        assert_in_place(as_map(places(height, width), (100, 150), network(16)), height, width)


@pytest.mark.parametrize("number", [1, 5, 15, 17, 64])
def test_a_number_of_tokens_that_is_no_grid_is_refused(number: int) -> None:
    with pytest.raises(
        ParameterError, match=f"gives {number} tokens, which are no grid over images of 32 x 128"
    ):
        as_map(torch.zeros(1, number, 2), (32, 128), network(16, num_prefix_tokens=2))


def test_tokens_of_a_network_without_known_strides_are_refused() -> None:
    with pytest.raises(ParameterError, match="gives 16 tokens"):
        as_map(torch.zeros(1, 16, 2), (64, 64), nn.Module())


def test_maps_lie_as_the_network_says_where_both_ways_have_the_shape() -> None:
    features = torch.rand(1, 16, 16, 16)
    assert torch.equal(as_map(features, (64, 64), network()), features)
    turned = as_map(features, (64, 64), network(output_fmt="NHWC"))
    assert torch.equal(turned, features.permute(0, 3, 1, 2))


@pytest.mark.parametrize("said", ["NCHW", "NHWC"])
def test_maps_lie_in_the_way_that_has_the_shape_whatever_the_network_says(said: str) -> None:
    first = torch.rand(1, 96, 8, 12)
    assert torch.equal(as_map(first, (64, 96), network(output_fmt=said)), first)
    last = first.permute(0, 2, 3, 1)
    assert torch.equal(as_map(last, (64, 96), network(output_fmt=said)), first)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((299, 299), (35, 35)),  # without padding, a border is lost
        ((299, 150), (17, 7)),
        ((100, 150), (13, 19)),
        ((5, 200), (1, 7)),
        ((64, 640), (2, 20)),
    ],
)
def test_maps_with_a_lost_or_added_border_are_maps(size: tuple[int, int], shape: tuple[int, int]) -> None:
    features = torch.rand(1, 48, *shape)
    assert torch.equal(as_map(features, size, network()), features)


def test_what_has_not_the_shape_of_the_image_is_refused() -> None:
    attention = torch.rand(1, 3, 25, 25)
    with pytest.raises(
        ParameterError, match=r"gives \(3, 25, 25\) for images of 64 x 128, which is no feature map"
    ):
        as_map(attention, (64, 128), network())


@pytest.mark.parametrize(
    "output", [None, (torch.rand(1, 2, 4, 4),), torch.rand(1, 2), torch.rand(1, 2, 3, 4, 5)]
)
def test_what_is_neither_map_nor_tokens_is_refused(output: object) -> None:
    with pytest.raises(ParameterError, match="gives no feature map"):
        as_map(output, (32, 32), network())


def test_half_precision_becomes_single() -> None:
    features = torch.rand(1, 48, 4, 4).bfloat16()
    assert torch.equal(as_map(features, (32, 32), network()), features.float())
