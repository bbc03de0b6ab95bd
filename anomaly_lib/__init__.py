"""Industrial visual anomaly detection: train on images of good parts, find what is not like them.

The names below are the public ones, and those of `anomaly_lib.views` and `anomaly_lib.commands`. They are
imported when first used, so that ``anomaly --help`` need not wait for torch.
"""

from typing import TYPE_CHECKING

from anomaly_lib.commands.arguments import commandline_args, get_evaluate_args, get_train_args
from anomaly_lib.folders import data_folder, sample_folder, work_folder
from anomaly_lib.lazy import lazy_names
from anomaly_lib.networks.threads import limit_spinning

if TYPE_CHECKING:
    from anomaly_lib.__main__ import main as anomaly
    from anomaly_lib.datasets import (
        Category,
        ImageFiles,
        LabelledImage,
        find_categories,
        read_category,
        read_picture,
    )
    from anomaly_lib.datasets.mvtec import ALL_CATEGORIES
    from anomaly_lib.datasets.own import read_folder, read_table
    from anomaly_lib.datasets.sample import generate_sample
    from anomaly_lib.datasets.transforms import Transform
    from anomaly_lib.detectors import (
        Detector,
        Ensemble,
        Gaussian,
        PatchCore,
        PatchSVDD,
        load_detector,
    )
    from anomaly_lib.detectors.patch_svdd.pairs import Pairs as PatchPairs
    from anomaly_lib.evaluation.predictions import Predictions, Scores, load_predictions
    from anomaly_lib.evaluation.thresholds import f1_optimal_threshold
    from anomaly_lib.networks.backbone import Backbone
    from anomaly_lib.predict import Answer
    from anomaly_lib.runs import load_results
    from anomaly_lib.tables import TableChoice, run_table
    from anomaly_lib.tables import formatted as format_table

limit_spinning()  # read when torch is loaded: threads that spin while they wait starve each other

_WHERE = {
    "ALL_CATEGORIES": "datasets.mvtec.ALL_CATEGORIES",
    "Answer": "predict.Answer",
    "Backbone": "networks.backbone.Backbone",
    "Category": "datasets.Category",
    "Detector": "detectors.Detector",
    "Ensemble": "detectors.Ensemble",
    "Gaussian": "detectors.Gaussian",
    "ImageFiles": "datasets.ImageFiles",
    "LabelledImage": "datasets.LabelledImage",
    "PatchCore": "detectors.PatchCore",
    "PatchPairs": "detectors.patch_svdd.pairs.Pairs",
    "PatchSVDD": "detectors.PatchSVDD",
    "Predictions": "evaluation.predictions.Predictions",
    "Scores": "evaluation.predictions.Scores",
    "TableChoice": "tables.TableChoice",
    "Transform": "datasets.transforms.Transform",
    "anomaly": "__main__.main",
    "f1_optimal_threshold": "evaluation.thresholds.f1_optimal_threshold",
    "find_categories": "datasets.find_categories",
    "format_table": "tables.formatted",
    "generate_sample": "datasets.sample.generate_sample",
    "load_detector": "detectors.load_detector",
    "load_predictions": "evaluation.predictions.load_predictions",
    "load_results": "runs.load_results",
    "read_category": "datasets.read_category",
    "read_folder": "datasets.own.read_folder",
    "read_table": "datasets.own.read_table",
    "read_picture": "datasets.read_picture",
    "run_table": "tables.run_table",
}

__all__ = [
    "ALL_CATEGORIES",
    "Answer",
    "Backbone",
    "Category",
    "Detector",
    "Ensemble",
    "Gaussian",
    "ImageFiles",
    "LabelledImage",
    "PatchCore",
    "PatchPairs",
    "PatchSVDD",
    "Predictions",
    "Scores",
    "TableChoice",
    "Transform",
    "anomaly",
    "commandline_args",
    "data_folder",
    "f1_optimal_threshold",
    "find_categories",
    "format_table",
    "generate_sample",
    "get_evaluate_args",
    "get_train_args",
    "load_detector",
    "load_predictions",
    "load_results",
    "read_category",
    "read_folder",
    "read_picture",
    "read_table",
    "run_table",
    "sample_folder",
    "work_folder",
]

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
