"""Runs: load data, fit, score, measure, save; and the folder that a run leaves behind."""

from anomaly_lib.runs.folder import Run, load_results, new_run_folder
from anomaly_lib.runs.run import Saving, evaluate, predictions_of, train
from anomaly_lib.runs.sources import NewDetector, SavedDetector

__all__ = [
    "NewDetector",
    "Run",
    "SavedDetector",
    "Saving",
    "evaluate",
    "load_results",
    "new_run_folder",
    "predictions_of",
    "train",
]
