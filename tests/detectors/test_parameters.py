"""Hyper-parameters: each is declared, checked and saved, and none can be forgotten."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from anomaly_lib import Detector, Gaussian, PatchCore, PatchSVDD, load_detector
from anomaly_lib.detectors.files import read_description
from anomaly_lib.detectors.parameters import Choice, Each, Interval, Optional, Text, Whole, parameter_names
from anomaly_lib.errors import ParameterError

DETECTORS = [PatchCore, Gaussian, PatchSVDD]
# Declared by nothing but their own conversion in the constructor.
CHECKED_ELSEWHERE = {"transform", "device", "checkpoints"}

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


@pytest.mark.parametrize("kind", DETECTORS)
def test_every_parameter_of_the_constructor_is_declared(kind: type[Detector]) -> None:
    assert set(kind.constraints) == set(parameter_names(kind)) - CHECKED_ELSEWHERE


@pytest.mark.parametrize("kind", DETECTORS)
def test_what_is_not_saved_is_a_parameter(kind: type[Detector]) -> None:
    assert kind.unsaved <= set(parameter_names(kind))


# Of each method, values other than the defaults.
OTHERS: dict[type[Detector], dict[str, Any]] = {
    PatchCore: {
        "backbone": "test_resnet", "layers": ["layer1"], "pretrain_embed_dimension": 30,
        "target_embed_dimension": 20, "patchsize": 1, "sampler": "random", "coreset": 9, "buffer": 200,
        "num_nn": 2, "reweight": 3, "false_alarm_rate": 0.2, "robust": True, "official_batch_norm": True,
        "seed": 4, "precision": "fp32",
    },
    Gaussian: {
        "backbone": "test_resnet", "levels": [1, 2], "distance": "sed", "reduction": "pca",
        "variance_threshold": 0.9, "fold": 1, "position_means": False, "map_levels": [2], "level_maps": True,
        "augment": ["flip"], "augment_passes": 1, "false_alarm_rate": 0.2, "robust": True, "seed": 4,
        "precision": "fp32",
    },
    PatchSVDD: {
        "lambda_value": 0.5, "D": 3, "K": 32, "S": [32, 16], "epochs": 1, "repeat": 1, "lr": 0.01,
        "batch_size": 3, "sampler": "random", "coreset": 7, "false_alarm_rate": 0.2, "robust": True,
        "threshold_images": 3, "seed": 4, "precision": "fp32",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", DETECTORS)
def test_every_parameter_is_saved_and_loaded(
    kind: type[Detector], tiny_weights: str, normal_images: torch.Tensor, tmp_path: Path
) -> None:
    """A parameter that the test does not know fails it, so that none is forgotten here either."""
    values = OTHERS[kind]
    weights: dict[str, Any] = {} if kind is PatchSVDD else {"weights": tiny_weights}
    assert set(values) | {"weights"} == set(parameter_names(kind)) - kind.unsaved
    defaults = inspect.signature(kind).parameters
    assert all(values[name] != defaults[name].default for name in values)
    kind(**values, **weights, device="cpu").fit(normal_images).save(tmp_path / "model")  # type: ignore[arg-type]
    saved = read_description(tmp_path / "model")["parameters"]
    assert saved == {**values, "weights": weights.get("weights")}
    loaded = load_detector(tmp_path / "model", device="cpu")
    for name, value in values.items():
        attribute = getattr(loaded, name)
        assert (list(attribute) if isinstance(attribute, tuple) else attribute) == value


@pytest.mark.parametrize(
    ("constraint", "value", "sentence"),
    [
        (Whole(1), 0, "it is 0: it must be at least 1"),
        (Whole(0), -1, "it is -1: it must not be negative"),
        (Whole(0, 9), 10, "it is 10: it must be at most 9"),
        (Whole(0), 1.0, "it is 1.0: it must be a whole number"),
        (Whole(0), True, "it is True: it must be a whole number"),
        (Whole(0), "1", "it is '1': it must be a whole number"),
        (Interval(0, 1), 1.0, "it is 1.0: it must be between 0 and 1"),
        (Interval(0, 1), 0, "it is 0: it must be between 0 and 1"),
        (Interval(0), math.nan, "it is nan: it must be finite and positive"),
        (Interval(0, closed=True), math.inf, "it is inf: it must be finite and not negative"),
        (Interval(0, 1), "0.5", "it is '0.5': it must be a number"),
        (Interval(0, 1), None, "it is None: it must be a number"),
        (Choice((64, 32)), 48, "it is 48: use 64 or 32"),
        (Choice(("a", "b", "c")), "d", "it is 'd': use one of a, b, c"),
        (Choice((True, False)), 1, "it is 1: use True or False"),
        (Choice((0, 1, 2)), True, "it is True: use one of 0, 1, 2"),
        (Choice(("a", "b")), ["a"], r"it is \['a'\]: use a or b"),
        (Text(), "", "it is '': it must be a word"),
        (Text(), 3, "it is 3: it must be a word"),
        (Optional(Whole(1)), 0, "it is 0: it must be at least 1"),
        (Each(Whole(1)), (2, 0), "it is 0: it must be at least 1"),
        (Each(Whole(1)), 2, "it is 2: it must be a list"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(
    constraint: Any, value: Any, sentence: str
) -> None:
    with pytest.raises(ParameterError, match=f"^{sentence}$"):
        constraint.require("it", value)


@pytest.mark.parametrize(
    ("constraint", "value"),
    [
        (Whole(1), 1), (Whole(0, 9), 9), (Interval(0, 1), 0.5), (Interval(0, closed=True), 0),
        (Interval(0), 3),
        (Choice((64, 32)), 32), (Text(), "a"), (Optional(Whole(1)), None), (Each(Whole(1)), ()),
    ],
)  # fmt: skip
def test_a_value_that_is_allowed_passes(constraint: Any, value: Any) -> None:
    constraint.require("it", value)
