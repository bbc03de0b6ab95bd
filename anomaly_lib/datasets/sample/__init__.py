"""Generated photographs of a small production, so that everything runs before any data is downloaded."""

from anomaly_lib.datasets.sample.generate import SAMPLE_CATEGORIES, generate_sample

__all__ = ["SAMPLE_CATEGORIES", "generate_sample"]
