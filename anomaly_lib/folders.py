"""Where things are kept when the user does not say: the work folder and what lies under it."""

import os
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parent.parent


def work_folder() -> Path:
    """Return the folder for data, models and results.

    ``ANOMALY_WORK`` when it is set; otherwise ``work/`` of the repository that this package was installed
    from, whatever the current directory is; otherwise (a plain ``pip install``) ``./work``.
    """
    if chosen := os.environ.get("ANOMALY_WORK"):
        return Path(chosen).expanduser().absolute()
    if (_REPOSITORY / "pyproject.toml").is_file():
        return _REPOSITORY / "work"
    return Path("work").absolute()


def sample_folder() -> Path:
    """Return where the generated sample data set lives."""
    return work_folder() / "data" / "sample"


def data_folder() -> Path:
    """Return the data set to use by default: ``ANOMALY_DATA``, else ``MVTECPATH``, else the sample."""
    chosen = os.environ.get("ANOMALY_DATA") or os.environ.get("MVTECPATH")
    return Path(chosen).expanduser() if chosen else sample_folder()


def cache_folder() -> Path:
    """Return where downloaded weights are kept."""
    return work_folder() / "cache"
