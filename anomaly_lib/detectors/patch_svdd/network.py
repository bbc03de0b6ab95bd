"""The networks of Patch SVDD: a hierarchical encoder, dense over whole images, and position classifiers.

Yi and Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and Segmentation", ACCV 2020, section 3.3.
Layers and their names are the official code's, whose state dicts fit.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

SMALL, LARGE = 32, 64
"""Sides of the patches that the two levels of the encoder see, in pixels."""

STEP = 2
"""Pixels between neighbouring outputs of the encoder, from the stride of its first layer."""

POSITIONS = 8
"""Neighbouring patches that the classifiers tell apart."""

_CHANNELS = (3, 32, 64, 128, 128, 64, 32, 32)
_SLOPE = 0.1


class DeepEncoder(nn.Module):
    """Encoder of patches of 32 x 32 pixels: eight 3 x 3 convolutions without padding.

    Without padding, the output at (i, j) of a whole image is the embedding of its patch at pixel (2 i, 2 j):
    one pass gives the embeddings of all patches.
    """

    def __init__(self, dimensions: int = 64) -> None:
        super().__init__()
        for number, (inputs, outputs) in enumerate(pairwise((*_CHANNELS, dimensions)), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, stride=STEP if number == 1 else 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return embeddings (n, D, h', w') in [-1, 1] of images (n, 3, h, w); 1 x 1 of a patch."""
        images = images.contiguous(memory_format=torch.channels_last)
        *hidden, last = self.children()
        for layer in hidden:
            images = F.leaky_relu(layer(images), _SLOPE, inplace=True)
        return torch.tanh(last(images))


class HierarchicalEncoder(nn.Module):
    """Encoder of patches of 64 x 64 pixels from the embeddings of their four quadrants.

    Attributes
    ----------
    enc
        The encoder of the quadrants, which are patches of 32 x 32 pixels.
    """

    def __init__(self, dimensions: int = 64) -> None:
        super().__init__()
        self.enc = DeepEncoder(dimensions)
        self.conv1 = nn.Conv2d(dimensions, 128, 2)
        self.conv2 = nn.Conv2d(128, dimensions, 1)
        # PyTorch's default start shrinks the signal in every layer, to embeddings that differ by 0.001:
        # training loses its first hundreds of steps on that, and bf16 cannot tell them apart at all.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
                nn.init.zeros_(layer.bias)
        # On a CPU several times faster in bf16, and somewhat in fp32.
        self.to(memory_format=torch.channels_last)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (n, D) of patches (n, 3, 64, 64)."""
        embeddings = self.enc(quadrants(patches)).flatten(1)  # (4 n, D)
        squares = embeddings.unflatten(0, (-1, 2, 2)).permute(0, 3, 1, 2)  # (n, D, 2, 2)
        return self._join(self.conv1(squares)).flatten(1)

    def dense(self, images: torch.Tensor, strides: dict[int, int]) -> dict[int, torch.Tensor]:
        """Return the embeddings (n, rows, columns, D) of all patches of images (n, 3, h, w).

        `strides` are the pixels between patches, multiples of 2, for each side of a patch that is wanted. The
        first patch is at the upper left corner; patches lie within the image as a whole.
        """
        lattice = self.enc(images)  # (n, D, h', w'), all patches at even rows and columns
        by_side = {}
        for side, stride in strides.items():
            rows, columns = (1 + (length - side) // stride for length in images.shape[2:])
            at = stride // STEP
            if side == SMALL:
                embeddings = lattice[:, :, ::at, ::at]
            else:  # the quadrants of a patch lie 16 outputs apart
                between = SMALL // STEP
                embeddings = self._join(
                    F.conv2d(lattice, self.conv1.weight, self.conv1.bias, stride=at, dilation=between)
                )
            by_side[side] = embeddings[:, :, :rows, :columns].permute(0, 2, 3, 1)
        return by_side

    def _join(self, joined: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = torch.tanh(self.conv2(F.leaky_relu(joined, _SLOPE)))
        return embeddings


class PositionClassifier(nn.Module):
    """Tells from the embeddings of two neighbouring patches where the second lies, of 8 directions."""

    def __init__(self, dimensions: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dimensions, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, POSITIONS)
        # The official NormalizedLinear: computed without a gradient, so that only its bias learns.
        with torch.no_grad():
            self.fc3.weight /= self.fc3.weight.norm(dim=0, keepdim=True)
        self.fc3.weight.requires_grad_(False)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, 8) of two patches' embeddings (n, D)."""
        hidden = F.leaky_relu(self.fc1(first - second), _SLOPE)
        logits: torch.Tensor = self.fc3(F.leaky_relu(self.fc2(hidden), _SLOPE))
        return logits


def quadrants(patches: torch.Tensor) -> torch.Tensor:
    """Return the quadrants (4 n, 3, k / 2, k / 2) of patches (n, 3, k, k), row by row of each patch."""
    half = patches.shape[2] // 2
    split = patches.unflatten(3, (2, half)).unflatten(2, (2, half))  # (n, 3, 2, k / 2, 2, k / 2)
    ordered: torch.Tensor = split.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    return ordered
