"""Industrial visual anomaly detection: train on images of good parts, find what is not like them.

The names below are the public ones. They are imported when first used, so that ``anomaly --help`` need not
wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from anomaly_lib.commands.arguments import ALL_CATEGORIES, commandline_args, get_evaluate_args, get_train_args
from anomaly_lib.folders import data_folder, sample_folder, work_folder
from anomaly_lib.networks.threads import limit_spinning

if TYPE_CHECKING:
    from anomaly_lib.datasets import ImageFiles, find_categories, read_category
    from anomaly_lib.datasets.sample import generate_sample
    from anomaly_lib.datasets.transforms import Transform
    from anomaly_lib.detectors import (
        Detector,
        Ensemble,
        Gaussian,
        PatchCore,
        PatchSVDD,
        Scores,
        load_detector,
    )
    from anomaly_lib.evaluation.predictions import Predictions, load_predictions
    from anomaly_lib.networks.backbone import Backbone
    from anomaly_lib.runs import load_results

limit_spinning()  # read when torch is loaded: threads that spin while they wait starve each other

_WHERE = {
    "Backbone": "networks.backbone",
    "Detector": "detectors",
    "Ensemble": "detectors",
    "Gaussian": "detectors",
    "ImageFiles": "datasets",
    "PatchCore": "detectors",
    "PatchSVDD": "detectors",
    "Predictions": "evaluation.predictions",
    "Scores": "detectors",
    "Transform": "datasets.transforms",
    "find_categories": "datasets",
    "generate_sample": "datasets.sample",
    "load_detector": "detectors",
    "load_predictions": "evaluation.predictions",
    "load_results": "runs",
    "read_category": "datasets",
}

__all__ = [
    "ALL_CATEGORIES",
    "Backbone",
    "Detector",
    "Ensemble",
    "Gaussian",
    "ImageFiles",
    "PatchCore",
    "PatchSVDD",
    "Predictions",
    "Scores",
    "Transform",
    "commandline_args",
    "data_folder",
    "find_categories",
    "generate_sample",
    "get_evaluate_args",
    "get_train_args",
    "load_detector",
    "load_predictions",
    "load_results",
    "read_category",
    "sample_folder",
    "work_folder",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'anomaly_lib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"anomaly_lib.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
