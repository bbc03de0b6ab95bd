"""The names of backbones: timm's, with or without a tag, and those of the official scripts."""

import re
from typing import Any

import timm

from anomaly_lib.errors import ParameterError

# The one whose weights are installed with this package.
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


def timm_name(name: str) -> str:
    """Return timm's name of the backbone `name`.

    Examples
    --------
    >>> timm_name("efficientnet-b4"), timm_name("convnext_tiny")
    ('tf_efficientnet_b4.aa_in1k', 'convnext_tiny')
    """
    return ALIASES.get(name, name)


def require_known(name: str) -> None:
    """Raise `ParameterError` when no backbone is called `name`."""
    try:
        timm.get_pretrained_cfg(timm_name(name))  # timm.is_model overlooks a wrong tag
        known = timm.is_model(timm_name(name))
    except RuntimeError:
        known = False
    if not known:
        raise ParameterError(f"unknown backbone {name!r}: {suggestions(name)}")


def suggestions(name: str) -> str:
    """Return the end of a sentence that says which backbones have a name like the unknown `name`."""
    of_other_tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
    close = of_other_tags or timm.list_models(f"*{name.strip('*')[:8]}*")
    return f"did you mean {', '.join(close[:5])}?" if close else "see timm.list_models() for the names"


def native_size(name: str) -> int:
    """Return the side of the square images, in pixels, that the network `name` was made for."""
    require_known(name)
    config: Any = timm.get_pretrained_cfg(timm_name(name))
    return int(config.input_size[-1])


def side_multiple(name: str) -> int:
    """Return what the sides of an image should be multiples of for the network `name`, in pixels.

    32, the stride of most networks' last maps, or the side of a transformer's patches that 32 is no multiple
    of.
    """
    patch = re.search(r"patch(\d+)", timm_name(name))
    side = int(patch[1]) if patch else 1
    return 32 if 32 % side == 0 else side
