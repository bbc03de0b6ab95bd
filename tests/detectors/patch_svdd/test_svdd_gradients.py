"""Gradients of batches in parts."""

import gc
import threading

import pytest
import torch
from torch import nn

from anomaly_lib.detectors.patch_svdd.gradients import BatchParts, Terms

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Let torch have three threads, and give the test's own number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.fixture
def learning() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(1)), nn.Parameter(torch.randn(2))]


def losses_of(x: torch.Tensor, learning: list[torch.Tensor], sizes: list[tuple[int, int]]):
    """Return what gives the terms of a part, and notes its size and the threads of its operations."""

    def losses(part: slice, share: float) -> Terms:
        sizes.append((part.stop - part.start, torch.get_num_threads()))
        square = ((x[part] @ learning[0] + learning[1]) ** 2).mean() * share
        return {"loss": 2 * square, "square": square}

    return losses


@pytest.mark.parametrize("size", [50, 48, 33])
def test_parts_add_up_to_the_gradient_of_the_batch(threads, learning, size):
    x, sizes = torch.randn(size, 4), []
    whole = 2 * ((x @ learning[0] + learning[1]) ** 2).mean()
    expected = torch.autograd.grad(whole, learning[:2])
    terms = BatchParts(CPU).backward(losses_of(x, learning, sizes), size, learning)
    assert terms["loss"] == pytest.approx(float(whole.detach()), rel=1e-5)
    assert terms["square"] == pytest.approx(float(whole.detach()) / 2, rel=1e-5)
    for weight, gradient in zip(learning, expected, strict=False):
        torch.testing.assert_close(weight.grad, gradient)
    assert learning[2].grad is None
    assert sum(pairs for pairs, _ in sizes) == size
    assert len(sizes) == min(3, size // 16)
    assert {threads for _, threads in sizes} == {1}


def test_a_small_batch_is_one_part_with_all_threads(threads, learning):
    sizes: list[tuple[int, int]] = []
    BatchParts(CPU).backward(losses_of(torch.randn(31, 4), learning, sizes), 31, learning)
    assert sizes == [(31, 3)]


def test_the_same_batch_has_the_same_gradient_to_the_bit(threads, learning):
    x, parts = torch.randn(64, 4), BatchParts(CPU)
    gradients = set()
    for _ in range(20):
        parts.backward(losses_of(x, learning, []), 64, learning)
        gradients.add(tuple(learning[0].grad.tolist()))
    assert len(gradients) == 1


def test_threads_end_with_their_parts_and_leave_torch_as_it_was(threads, learning):
    before = set(threading.enumerate())
    parts = BatchParts(CPU)
    own = set(threading.enumerate()) - before
    assert len(own) == 3
    assert torch.get_num_threads() == 3
    del parts
    gc.collect()
    for thread in own:
        thread.join(5)
    assert not any(thread.is_alive() for thread in own)


def test_an_error_of_a_part_is_raised(threads, learning):
    def losses(part: slice, share: float) -> Terms:
        raise ValueError(f"part from {part.start}")

    with pytest.raises(ValueError, match="part from 0"):
        BatchParts(CPU).backward(losses, 48, learning)
