"""Which device to compute on, and in which precision it is fast."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

from anomaly_lib.errors import ParameterError

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; ``auto`` is the first CUDA device when there is one, else the CPU.

    Raises
    ------
    ParameterError
        When the device is unknown or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ParameterError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ParameterError(
            f"device {name!r} is not available: this machine has {torch.cuda.device_count()} GPUs"
        )
    return device


def pick_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """Return `choice`, or for ``auto`` bf16 where `device` has instructions for it and fp32 elsewhere."""
    if choice not in get_args(PrecisionChoice):
        raise ParameterError(f"precision is {choice!r}: use auto, fp32 or bf16")
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"
    # Without these instructions a CPU emulates bf16, slower than fp32.
    abilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if abilities.get("amx_bf16") or abilities.get("avx512_bf16") else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a network runs in `precision`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
