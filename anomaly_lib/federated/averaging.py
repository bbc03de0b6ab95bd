"""What a director makes of the networks that sites trained: one of Flower's strategies, by name.

Everything is added up in the order of the sites, whichever answers first, so that a run can be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian

from anomaly_lib.errors import ParameterError
from anomaly_lib.federated.messages import array_record, new_message
from anomaly_lib.federated.turns import Tensors

Strategy = Literal["fedavg", "fedavgm", "fedadam", "fedmedian"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

# The director's learning rate of each, and what it has of momentum.
SERVER_RATES = {"fedavgm": 1.0, "fedadam": 1e-3}
SERVER_MOMENTUMS = {"fedavgm": 0.9, "fedadam": 0.9}
_WEIGHT = "num-examples"

# What the strategies keep from round to round, dictionaries of arrays or lists of arrays.
_KEPT = ("m_t", "v_t", "momentum_vector")


@dataclass(frozen=True)
class Averaging:
    """How networks are averaged.

    Attributes
    ----------
    strategy
        ``fedavg``, the mean weighted by the numbers of images (McMahan et al., 2017); ``fedavgm``, with
        momentum (Hsu et al., 2019); ``fedadam``, Adam on the change (Reddi et al., 2021); ``fedmedian``, the
        median of each weight, whatever a minority sends (Yin et al., 2018).
    rate, momentum
        The director's learning rate and momentum, of ``fedavgm`` and ``fedadam``.
    """

    strategy: str = "fedavg"
    rate: float | None = None
    momentum: float | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ParameterError(f"strategy is {self.strategy!r}: give one of {', '.join(STRATEGIES)}")
        for name, value in (("server_rate", self.rate), ("server_momentum", self.momentum)):
            if value is not None and self.strategy not in SERVER_RATES:
                raise ParameterError(f"{name} is {value}: {self.strategy} has none")
        if self.rate is not None and not 0 < self.rate < np.inf:
            raise ParameterError(f"server_rate is {self.rate}: give a number above 0")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ParameterError(f"server_momentum is {self.momentum}: give a number from 0 to below 1")

    def start(self) -> "Average":
        """Return it, before the first round."""
        rate = self.rate or SERVER_RATES.get(self.strategy, 0.0)
        momentum = SERVER_MOMENTUMS.get(self.strategy, 0.0) if self.momentum is None else self.momentum
        # Flower does not choose the sites here: a fraction of none.
        usual: dict[str, Any] = {"fraction_train": 0.0, "weighted_by_key": _WEIGHT}
        made: Mapping[str, Callable[[], FedAvg]] = {
            "fedavg": lambda: FedAvg(**usual),
            "fedavgm": lambda: FedAvgM(server_learning_rate=rate, server_momentum=momentum, **usual),
            "fedadam": lambda: FedAdam(eta=rate, beta_1=momentum, **usual),
            "fedmedian": lambda: FedMedian(**usual),
        }
        return Average(made[self.strategy]())


class Average:
    """Averages from round to round, and what it keeps between them."""

    def __init__(self, strategy: FedAvg) -> None:
        self._strategy = strategy

    def networks(
        self, number: int, before: Tensors, trained: Sequence[tuple[int, Tensors]], grid: Grid
    ) -> dict[str, torch.Tensor]:
        """Return what becomes of the networks `before` round `number`, counted from 1.

        `trained` has the number of images of each site, at least one, and the networks that it returned.
        """
        record = array_record(before)
        vars(self._strategy)["current_arrays"] = record  # of FedAvgM, whose own begins with the first round's
        self._strategy.configure_train(number, record, ConfigRecord(), grid)
        return _averaged(self._strategy, number, trained)

    def state(self) -> dict[str, torch.Tensor]:
        """Return what is kept, by name."""
        named: dict[str, torch.Tensor] = {}
        for name in _KEPT:
            kept = getattr(self._strategy, name, None) or {}
            items = kept.items() if isinstance(kept, dict) else enumerate(kept)
            named |= {f"{name}.{key}": torch.from_numpy(np.array(value)) for key, value in items}
        return named

    def restore(self, state: Tensors) -> None:
        """Go on with what `state` returned."""
        for name in _KEPT:
            kept = {
                key.removeprefix(f"{name}."): value.numpy()
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            if kept:
                as_list = [kept[str(number)] for number in range(len(kept))] if "0" in kept else kept
                setattr(self._strategy, name, as_list)


def weighted_mean(trained: Sequence[tuple[int, Tensors]]) -> dict[str, torch.Tensor]:
    """Return the mean of tensors weighted by numbers of images, as ``fedavg``."""
    return _averaged(Averaging().start()._strategy, 1, trained)


def _averaged(
    strategy: FedAvg, number: int, trained: Sequence[tuple[int, Tensors]]
) -> dict[str, torch.Tensor]:
    replies = [
        new_message(
            RecordDict({"arrays": array_record(tensors), "metrics": MetricRecord({_WEIGHT: float(images)})}),
            "train",
        )
        for images, tensors in trained
    ]
    arrays, _ = strategy.aggregate_train(number, replies)
    assert arrays is not None
    like = trained[0][1]
    return {name: torch.from_numpy(arrays[name].numpy()).to(like[name].dtype) for name in like}
