"""What all ends agree on: where a site's images are among those of all, and how what is sent is called."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

Tensors = Mapping[str, torch.Tensor]
"""What an end sends another, by name."""


class Turn(NamedTuple):
    """The number of a site's first image, how many it has, and how many all sites have."""

    first: int
    images: int
    total: int
