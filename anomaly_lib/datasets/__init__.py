"""Where images come from."""

from anomaly_lib.datasets.images import ImageFiles, read_picture
from anomaly_lib.datasets.mvtec import Category, LabelledImage, find_categories, read_category

__all__ = ["Category", "ImageFiles", "LabelledImage", "find_categories", "read_category", "read_picture"]
