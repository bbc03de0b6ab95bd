"""What becomes of networks that several sites trained."""

from typing import Any

import numpy as np
import pytest
import torch

from anomaly_lib.errors import ParameterError
from anomaly_lib.federated.averaging import STRATEGIES, Averaging, weighted_mean
from anomaly_lib.federated.turns import Tensors

GRID: Any = None  # nobody is asked


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"networks.a": torch.full((2, 3), value), "networks.b": torch.tensor(value)}


def values(state: Tensors) -> list[float]:
    return [float(tensor.flatten()[0]) for tensor in state.values()]


def test_fedavg_weighs_by_the_number_of_images() -> None:
    trained = [(10, tensors(1.0)), (30, tensors(3.0)), (60, tensors(-1.0))]
    found = Averaging().start().networks(1, tensors(0.0), trained, GRID)
    assert values(found) == pytest.approx([0.4, 0.4])
    assert all(value.dtype == torch.float32 for value in found.values())
    assert found["networks.a"].shape == (2, 3)
    assert values(weighted_mean(trained)) == pytest.approx([0.4, 0.4])


def test_fedmedian_is_not_moved_by_one_site() -> None:
    trained = [(10, tensors(1.0)), (10, tensors(2.0)), (1000, tensors(1e6))]
    assert values(Averaging("fedmedian").start().networks(1, tensors(0.0), trained, GRID)) == [2.0, 2.0]


def test_fedavgm_goes_on_in_the_direction_it_had() -> None:
    average = Averaging("fedavgm", rate=0.5, momentum=0.9).start()
    first = average.networks(1, tensors(0.0), [(1, tensors(1.0))], GRID)
    assert values(first) == pytest.approx([0.5, 0.5])
    second = average.networks(2, first, [(1, tensors(0.5))], GRID)  # nothing changed at the site
    assert values(second) == pytest.approx([0.5 + 0.5 * 0.9, 0.5 + 0.5 * 0.9])


def test_fedadam_is_the_formula_of_reddi() -> None:
    average = Averaging("fedadam", rate=0.01, momentum=0.9).start()
    found = average.networks(1, tensors(0.0), [(1, tensors(1.0))], GRID)
    m, v = 0.1, 0.0
    strategy = average._strategy
    v = (1 - strategy.beta_2) * 1.0  # type: ignore[attr-defined]
    rate = 0.01 * np.sqrt(1 - strategy.beta_2**2) / (1 - 0.9**2)  # type: ignore[attr-defined]
    assert values(found) == pytest.approx([rate * m / (np.sqrt(v) + 1e-3)] * 2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_goes_on_where_it_was(strategy: str) -> None:
    def round_of(average: Any, number: int, before: Tensors) -> dict[str, torch.Tensor]:
        trained = [(2, {name: 0.9 * value + number for name, value in before.items()}), (1, tensors(2.0))]
        result: dict[str, torch.Tensor] = average.networks(number, before, trained, GRID)
        return result

    whole, state = Averaging(strategy).start(), tensors(0.0)
    for number in (1, 2):
        state = round_of(whole, number, state)
    again = Averaging(strategy).start()
    again.restore(whole.state())
    expected, found = round_of(whole, 3, state), round_of(again, 3, state)
    for name, value in expected.items():
        assert torch.equal(found[name], value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "mean"}, "give one of fedavg"),
        ({"rate": 1.0}, "fedavg has none"),
        ({"strategy": "fedmedian", "momentum": 0.5}, "fedmedian has none"),
        ({"strategy": "fedadam", "rate": 0.0}, "above 0"),
        ({"strategy": "fedavgm", "momentum": 1.0}, "below 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Averaging(**options)
