"""The gradient of a batch, computed in parts that wait for each other only at its end.

torch divides every single operation among the cores, and where a CPU computes in bf16 the threads of a
convolution's gradient wait for each other in loops that no setting ends (oneDNN sums weight gradients so).
Where other programs want the cores, that takes many times as long. Here each thread has a part of the batch
and its operations to itself.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch

Terms = dict[str, torch.Tensor]
"""The loss that is learned from, called ``loss``, and what it is made of."""

# Smaller parts than so many pairs cost more than they save.
_LEAST = 16


class BatchParts:
    """Parts of batches, one for each thread of torch; on a GPU the batch is one part.

    The same number of threads gives the same gradients to the bit: parts are summed in their order.
    """

    def __init__(self, device: torch.device) -> None:
        self._number = torch.get_num_threads() if device.type == "cpu" else 1
        self._map: Callable[..., Iterable[Any]] = map if self._number == 1 else _threads(self._number).map

    def backward(
        self, losses: Callable[[slice, float], Terms], size: int, weights: Sequence[torch.Tensor]
    ) -> Terms:
        """Set the gradients of `weights` for a batch of `size` pairs and return its terms, detached.

        `losses` returns the terms of a part of the batch times its share of the batch, so that they add up.
        """

        def of_part(part: slice) -> tuple[Terms, Sequence[torch.Tensor | None]]:
            terms = losses(part, (part.stop - part.start) / size)
            gradients = torch.autograd.grad(terms["loss"], weights, allow_unused=True)
            return {name: value.detach() for name, value in terms.items()}, gradients

        parts = self._slices(size)
        of_parts = [of_part(parts[0])] if len(parts) == 1 else list(self._map(of_part, parts))
        for number, weight in enumerate(weights):
            weight.grad = _sum(gradients[number] for _, gradients in of_parts)
        names = of_parts[0][0]
        return {name: torch.stack([terms[name] for terms, _ in of_parts]).sum() for name in names}

    def _slices(self, size: int) -> list[slice]:
        number = max(1, min(self._number, size // _LEAST))
        ends = [size * end // number for end in range(number + 1)]
        return [slice(*part) for part in pairwise(ends)]


def _sum(gradients: Iterable[torch.Tensor | None]) -> torch.Tensor | None:
    """Return the sum in the order of the parts, None for a layer that nothing went through."""
    total: torch.Tensor | None = None
    for gradient in gradients:
        if gradient is not None:
            total = gradient if total is None else total + gradient
    return total


def _threads(number: int) -> ThreadPoolExecutor:
    """Return a pool of so many threads whose operations are not divided any further; they end with it."""
    pool, line = ThreadPoolExecutor(number, "part"), threading.Barrier(number)

    def start(_: int) -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # what a thread finds at its first operation holds for it from then on
        line.wait()

    try:
        list(pool.map(start, range(number)))
    except BaseException:
        line.abort()
        raise
    torch.set_num_threads(number)  # that of this thread has not changed, but that of threads to come
    return pool
