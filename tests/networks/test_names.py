"""The names of backbones: all that the official scripts use, and what is said of unknown ones."""

import pytest
import timm

from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.names import (
    ALIASES,
    DEFAULT_BACKBONE,
    native_size,
    require_known,
    suggestions,
    timm_name,
)
from anomaly_lib.networks.weights import WEIGHT_PACKAGES

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


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_official_name_is_a_timm_model_with_a_known_tag(name: str) -> None:
    assert timm.is_model(timm_name(name))
    assert timm.get_pretrained_cfg(timm_name(name)) is not None
    require_known(name)


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
        require_known(name)
    assert repr(name) in str(error.value)
    assert named in str(error.value)


def test_suggestions_are_names_that_are_known() -> None:
    said = suggestions("resnet18.nonsense").removeprefix("did you mean ").removesuffix("?").split(", ")
    assert 1 < len(said) <= 5
    for name in said:
        require_known(name)


def test_the_default_backbone_has_its_weights_in_an_installed_package() -> None:
    require_known(DEFAULT_BACKBONE)
    assert DEFAULT_BACKBONE in WEIGHT_PACKAGES


@pytest.mark.parametrize(("name", "size"), [("resnet18", 224), ("efficientnet-b4", 380), ("test_vit", 160)])
def test_the_native_size_is_that_of_the_weights(name: str, size: int) -> None:
    assert native_size(name) == size


def test_the_native_size_of_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ParameterError, match="unknown backbone 'no such thing'"):
        native_size("no such thing")
