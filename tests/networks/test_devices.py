"""The choice of device and precision, and what is said of those that are not there."""

import pytest
import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.networks.devices import autocast, pick_device, pick_precision

CPU = torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1", "CPU", "meta", "mps"])
def test_an_unknown_device_is_named_with_those_that_can_be_chosen(name: str) -> None:
    with pytest.raises(ParameterError, match="auto, cpu, cuda or cuda:N") as error:
        pick_device(name)
    assert repr(name) in str(error.value)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ParameterError, match="'cuda:2' is not available: this machine has 2"):
        pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ParameterError, match="'cuda' is not available"):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("abilities", "wanted"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_f": True}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_precision_is_bf16_only_on_a_cpu_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], wanted: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert pick_precision("auto", CPU) == wanted


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_precision_is_bf16_on_gpus_since_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision("auto", torch.device("cuda")) == wanted


def test_a_precision_asked_for_is_taken_and_an_unknown_one_refused() -> None:
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(ParameterError, match="'fp16': use auto, fp32 or bf16"):
        pick_precision("fp16", CPU)  # type: ignore[arg-type]


def test_autocast_computes_products_in_the_precision() -> None:
    ones = torch.ones(2, 2)
    with autocast(CPU, "bf16"):
        assert (ones @ ones).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (ones @ ones).dtype == torch.float32
