"""Backbones: timm's own features of the layers asked for, in the right places, and in threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.backbone import Backbone, default_layers

TINY = "test_resnet"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def timm_twin(backbone: Backbone, name: str, **options: object) -> torch.nn.Module:
    """Return the plain timm model with the backbone's weights."""
    twin = timm.create_model(name, **options)
    twin.load_state_dict(backbone._network.state_dict())
    return twin.eval()


def normalised(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return (images - mean) / std


# --- Layers ---


def test_an_unknown_layer_lists_the_layers() -> None:
    with pytest.raises(ParameterError, match=r"no layer 'layer9'.*layer1, .*layer4") as error:
        Backbone(TINY, ["layer2", "layer9"], weights="random")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layer", ["global_pool", "fc"])
def test_a_layer_that_gives_no_map_is_refused(images: torch.Tensor, layer: str) -> None:
    with pytest.raises(ParameterError, match=f"layer '{layer}'.*no feature map"):
        Backbone(TINY, [layer], weights="random")(images)


def test_a_layer_that_only_holds_others_is_refused(images: torch.Tensor) -> None:
    backbone = Backbone("xcit_nano_12_p8_224", ["blocks.1", "blocks"], weights="random")
    with pytest.raises(ParameterError, match=r"layer 'blocks' of backbone .* gives no feature map"):
        backbone(images)


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


@pytest.mark.parametrize("name", ["mixer_s32_224", "levit_128s", "inception_v3"])
def test_a_size_that_a_network_cannot_take_is_said_and_the_next_image_taken(name: str) -> None:
    backbone = Backbone(name, weights="random")
    with pytest.raises(
        ParameterError, match=r"does not take this image size, 16 x 48: .*; it was made for"
    ) as error:
        backbone(torch.rand(1, 3, 16, 48))
    assert "\n" not in str(error.value)
    native = torch.rand(1, 3, 224, 224)
    assert len(backbone(native)) == 2


@pytest.mark.parametrize(
    "images",
    [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)],
    ids=["no batch", "grey", "bytes"],
)
def test_what_is_no_batch_of_colour_images_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(ParameterError, match=r"a backbone takes floats in \[0, 1\] of shape \(n, 3,"):
        Backbone(TINY, ["layer1"], weights="random")(images)


def test_double_precision_images_give_the_features_of_single_precision(images: torch.Tensor) -> None:
    backbone = Backbone(TINY, ["layer2"], weights="random")
    assert torch.equal(backbone(images.double())[0], backbone(images)[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", TINY, "test_vit"])
def test_a_pixel_that_is_not_finite_shows_in_the_features_of_its_image_alone(
    images: torch.Tensor, name: str, value: float
) -> None:
    backbone = Backbone(name, weights="random")
    spoilt = images.clone()
    spoilt[0, 1, 40, 24] = value
    for before, after in zip(backbone(images), backbone(spoilt), strict=True):
        assert after[0].isnan().any()  # an efficientnet-lite would make a 6 of infinity
        assert torch.equal(after[1], before[1])


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


def test_a_shift_of_batch_norms_that_fails_leaves_the_network_as_it_is_used(images: torch.Tensor) -> None:
    backbone = Backbone("inception_v3", ["Mixed_6e"], weights="random")
    with pytest.raises(ParameterError, match="does not take this image size, 20 x 20"):
        backbone.shift_batch_norm(20)
    assert not backbone._network.training


# --- Places: every position of a map belongs to its part of the image ---


@pytest.mark.parametrize(
    ("name", "stride", "size"),
    [
        ("vit_tiny_patch16_224", 16, (64, 96)),
        ("vit_tiny_patch16_224", 16, (32, 128)),  # as many tokens as 64 x 64 has
        ("vit_tiny_patch16_224", 16, (128, 32)),
        ("test_vit", 16, (16, 144)),
        ("deit_tiny_distilled_patch16_224", 16, (64, 96)),  # two prefix tokens
        ("vit_small_patch14_reg4_dinov2", 14, (56, 84)),  # a class token and four registers
        ("vit_small_patch14_reg4_dinov2", 14, (28, 112)),
        ("vit_small_patch16_dinov3", 16, (32, 128)),  # rotary positions
        ("vit_tiny_r_s16_p8_224", 32, (64, 160)),  # a ResNet before the transformer
        ("vit_tiny_r_s16_p8_224", 32, (32, 128)),
        ("convit_tiny", 16, (224, 224)),
        ("samvit_base_patch16_224", 16, (32, 128)),  # channels last without saying so
    ],
)
def test_a_bright_spot_moves_the_token_that_it_is_in(name: str, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, weights="random")
    height, width = size[0] // stride, size[1] // stride
    grey = torch.full((1, 3, *size), 0.5)
    before = backbone(grey)
    for row, column in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (0, width // 2)]:
        bright = grey.clone()
        bright[:, :, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] = 1.0
        for one, other in zip(before, backbone(bright), strict=True):
            change = (other - one).norm(dim=1)[0]
            assert change.shape == (height, width)
            assert divmod(int(change.argmax()), width) == (row, column)


@pytest.mark.parametrize(
    ("name", "strides", "size"),
    [
        ("resnet18", (8, 16), (64, 128)),
        ("swin_tiny_patch4_window7_224", (8, 16), (64, 128)),  # channels last
        ("test_mambaout", (8, 16), (64, 128)),
        ("hieradet_small", (8, 16), (64, 128)),
        ("volo_d1_224", (8, 16), (224, 224)),  # channels last without saying so
        ("xcit_nano_12_p8_224", (8, 8), (32, 128)),  # tokens that overlap; the class token comes late
    ],
)
def test_a_bright_spot_moves_the_part_of_the_map_that_it_is_in(
    name: str, strides: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, weights="random")
    grey = torch.full((1, 3, *size), 0.5)
    before = backbone(grey)
    for top, left in [(0, 0), (0, size[1] - 16), (size[0] - 16, 0), (size[0] - 16, size[1] - 16)]:
        bright = grey.clone()
        bright[:, :, top : top + 16, left : left + 16] = 1.0
        for stride, one, other in zip(strides, before, backbone(bright), strict=True):
            change = (other - one).norm(dim=1)[0]
            assert change.shape == (size[0] // stride, size[1] // stride)
            row, column = divmod(int(change.argmax()), change.shape[1])
            assert abs(row * stride - top) <= 16
            assert abs(column * stride - left) <= 16


def test_tokens_in_the_order_of_windows_are_refused() -> None:
    backbone = Backbone("hiera_tiny_224", weights="random")
    with pytest.raises(
        ParameterError, match=r"layer 'blocks\.2' of backbone 'hiera_tiny_224' gives its tokens in"
    ):
        backbone(torch.rand(1, 3, 224, 224))


# --- Threads ---


def in_threads(backbone: Backbone, batches: list[torch.Tensor], rounds: int) -> None:
    """Assert that each of eight threads gets its own features, to the bit, whatever the others ask for."""
    wanted = [backbone(batch) for batch in batches]
    together = threading.Barrier(8)

    def ask(first: int) -> None:
        torch.set_num_threads(1)
        together.wait()
        for i in range(first, first + rounds):
            maps = backbone(batches[i % len(batches)])
            for ours, alone in zip(maps, wanted[i % len(batches)], strict=True):
                assert torch.equal(ours, alone)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def batches_of(sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1 + i % 2, 3, *size, generator=generator) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (TINY, [(64, 64), (32, 96), (96, 32), (64, 64), (40, 72)]),
        ("test_vit", [(64, 64), (32, 128), (16, 96), (128, 32), (64, 64)]),
        ("tf_efficientnet_lite0", [(64, 64), (32, 96), (64, 64)]),
        ("vit_small_patch16_dinov3", [(32, 64), (64, 32), (16, 48)]),
        # It remembers the distances of its tokens.
        pytest.param("convit_tiny", [(224, 224), (224, 224)], marks=pytest.mark.slow),
    ],
)
def test_eight_threads_share_a_backbone(name: str, sizes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    rounds = 40 if name in (TINY, "test_vit") else 4
    in_threads(Backbone(name, weights="random"), batches_of(sizes), rounds)


def test_eight_threads_share_a_backbone_in_bf16() -> None:
    torch.manual_seed(0)
    backbone = Backbone(TINY, weights="random", precision="bf16")
    in_threads(backbone, batches_of([(64, 64), (32, 96), (96, 32)]), 20)


def test_a_thread_whose_call_fails_disturbs_no_other_and_not_its_own_next_call() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_vit", weights="random")
    good, bad = batches_of([(64, 64), (32, 128)]), torch.rand(1, 3, 64, 70)  # no multiple of 16
    wanted = [backbone(batch) for batch in good]

    def ask(first: int) -> None:
        torch.set_num_threads(1)
        for i in range(first, first + 40):
            if i % 3 == 0:
                with pytest.raises(ParameterError, match="does not take this image size"):
                    backbone(bad)
            assert all(map(torch.equal, backbone(good[i % 2]), wanted[i % 2]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
