"""Runs: load data, fit, score, measure, save; and the folder that a run leaves behind."""

from anomaly_lib.runs.run import DataChoice, Run, Saving, evaluate, load_results, train

__all__ = ["DataChoice", "Run", "Saving", "evaluate", "load_results", "train"]
