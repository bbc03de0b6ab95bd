"""Filling PatchCore's memory bank from a stream of images in bounded memory."""

import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from anomaly_lib.kernels.coreset import random_projection

log = logging.getLogger(__name__)

# The coreset is selected on a random projection to this many dimensions, as in the official code.
PROJECTION = 128

# Patches held before they are thinned out: 200 MB of projections, 500 images of 28 x 28 patches.
BUFFER = 400_000

Maps = Sequence[torch.Tensor]
Embed = Callable[[Maps], torch.Tensor]
Select = Callable[[torch.Tensor, int], torch.Tensor]


class PatchFeatures:
    """Patch features of images, kept as the backbone's maps and embedded again whenever they are wanted.

    The maps are up to fifteen times smaller than the features, and embedding is cheap.
    """

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._batches: list[Maps] = []

    def append(self, maps: Maps) -> None:
        """Add a batch of images by their maps, one (n, c, h, w) a layer."""
        self._batches.append(maps)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield the features (n, h, w, d) of one batch after the other."""
        return map(self._embed, self._batches)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Return the patches (m, d) with the numbers `index` (m,), counted through all images."""
        found = torch.empty(0)
        first = 0
        for features in self:
            flat = features.flatten(0, 2)
            if first == 0:
                found = flat.new_empty(len(index), flat.shape[1])
            here = (index >= first) & (index < first + len(flat))
            found[here] = flat[index[here] - first]
            first += len(flat)
        return found


class MemoryBankBuilder:
    """Collects patches and thins them out, all at once where they fit and in portions where they do not.

    Up to `buffer` patches a portion is everything, and the result is the sampler's on all patches. Beyond,
    with a share to keep, the same share is kept of each portion. With a number of rows, the rows kept so far
    and the next portion are thinned out together (a coreset of coresets): every patch then has a row within
    the sum of the portions' covering radii, instead of one radius.

    Parameters
    ----------
    embed
        From maps, one (n, c, h, w) a layer, to features (n, h, w, d).
    select
        ``select(projected, size)`` returns the rows to keep, of projected patches (n, PROJECTION).
    size
        A share of all patches when at most 1, else a number of rows.
    generator
        Draws the projection.
    buffer
        Patches held before they are thinned out.
    """

    def __init__(
        self, embed: Embed, select: Select, size: float, generator: torch.Generator, buffer: int
    ) -> None:
        self._embed, self._select, self._size, self._generator = embed, select, size, generator
        self._buffer = buffer
        self._portions = 0
        self._clear()

    def add(self, maps: Maps) -> None:
        """Add the next images by their maps."""
        features = self._embed(maps)  # (n, h, w, d)
        if not hasattr(self, "projection"):
            self.projection = random_projection(features.shape[3], PROJECTION, self._generator)
            self.projection = self.projection.to(features.device)
            self.bank = features.new_empty(0, features.shape[3])
            self.projected_bank = features.new_empty(0, PROJECTION)
            self.bank_images = torch.empty(0, dtype=torch.long, device=features.device)
        self._features.append(maps)
        self._projected.append(features.flatten(0, 2) @ self.projection)
        self._patches_an_image = features.shape[1] * features.shape[2]
        self._images += len(features)
        if (self._images - self._first_image) * self._patches_an_image >= self._buffer:
            self._thin_out()

    def finish(self) -> None:
        """Thin out what is left; after this the results are there.

        They are `bank` (m, d), `projected_bank` (m, PROJECTION), `bank_images` (m,), the number of each row's
        image, and `projection` (d, PROJECTION).
        """
        if self._projected:
            self._thin_out()
        if self._portions > 1:
            log.info("the memory bank was thinned out in %d portions to bound the memory", self._portions)

    def _clear(self) -> None:
        self._features = PatchFeatures(self._embed)
        self._projected: list[torch.Tensor] = []
        self._first_image = self._images = getattr(self, "_images", 0)

    def _thin_out(self) -> None:
        carried = len(self.projected_bank) if self._size > 1 else 0
        projected = torch.cat([self.projected_bank[:carried], *self._projected])
        self._projected = []
        wanted = len(projected) * self._size if self._size <= 1 else self._size
        chosen = self._select(projected, min(len(projected), max(1, int(wanted))))
        old, new = chosen[chosen < carried], chosen[chosen >= carried] - carried
        kept = torch.arange(len(self.bank), device=old.device) if self._size <= 1 else old
        self.projected_bank = torch.cat([self.projected_bank[kept], projected[new + carried]])
        del projected  # before the features take its place
        self.bank_images = torch.cat(
            [self.bank_images[kept], self._first_image + new // self._patches_an_image]
        )
        added = self._features.rows(new)
        self.bank = torch.cat([self.bank[kept], added]) if len(kept) else added
        self._portions += 1
        self._clear()
