"""A run as one page of HTML that needs nothing else: to send, to print, to keep."""

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from anomaly_lib.datasets.images import read_picture
from anomaly_lib.errors import DataError
from anomaly_lib.evaluation.predictions import Predictions, load_predictions
from anomaly_lib.predict import answers_of
from anomaly_lib.progress import Progress, silent
from anomaly_lib.runs.folder import Run, load_results
from anomaly_lib.runs.pages import embedded_picture, write_page
from anomaly_lib.runs.summary import Summary, load_document, summary_in
from anomaly_lib.views.plots import plot_roc, plot_score_histogram
from anomaly_lib.views.plots.embedded import drawn
from anomaly_lib.views.plots.histogram import SCORE_IN_THRESHOLDS
from anomaly_lib.views.plots.marked_picture import marked_picture

# Pictures of the whole page, so that it stays below five megabytes, and at most of a category.
_PICTURES, _OF_A_CATEGORY = 60, 6

_COLUMNS = {
    "instance_auroc": "image AUROC",
    "full_pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "instance_average_precision": "image AP",
    "instance_f1_max": "best image F1",
    "threshold": "threshold",
    "missed_defects": "missed",
    "false_alarms": "false alarms",
}


@dataclass(frozen=True)
class _Category:
    """What the page says of a category."""

    name: str
    summary: Summary | None
    predictions: Predictions | None


def write_report(run: Path, output: Path | None = None, progress: Progress = silent) -> Path:
    """Write the report of the run in the folder `run` and return its file, by default ``report.html`` in it.

    Test images that are no longer where they were are left out, and the page says how many.

    Raises
    ------
    DataError
        When there is no finished run.
    """
    results, document = load_results(run), load_document(run)
    categories = [_category(run, str(name), document) for name in results.index[:-1]]
    most = max(2, min(_OF_A_CATEGORY, _PICTURES // max(1, len(categories))))
    parts = [_head(run, document), _table(results)]
    for number, category in enumerate(categories):
        progress("categories", number, len(categories))
        parts += _of_category(category, most)
    progress("categories", len(categories), len(categories))
    parts.append(_settings(document))
    output = output or run / "report.html"
    write_page(run.resolve().name, parts, output)
    return output


def _category(run: Path, name: str, document: Mapping[str, Any]) -> _Category:
    summary = summary_in(document, name, run)
    file = Run(run).predictions(name)
    return _Category(name, summary, load_predictions(file) if file.exists() else None)


def _of_category(category: _Category, most: int) -> Iterator[str]:
    yield f"<h2>{html.escape(category.name)}</h2>"
    if category.summary:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in category.summary.sentences())
        yield f"<ul>{items}</ul>"
    predictions = None if category.predictions is None else category.predictions.judged
    if predictions is None or not len(predictions.imagewise_pred):
        yield "<p>There are no test images of known truth.</p>"
        return
    yield _curves(predictions)
    if category.summary:
        yield from _examples(predictions, category.summary, most)


def _curves(predictions: Predictions) -> str:
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.7, 1))
    unit = SCORE_IN_THRESHOLDS if predictions.threshold > 0 else "image score"
    predictions = predictions.in_thresholds
    named = {} if math.isnan(predictions.threshold) else {"threshold": predictions.threshold}
    plot_score_histogram(predictions.imagewise_pred, predictions.imagewise_gt, named, unit=unit, ax=left)
    plot_roc(predictions.imagewise_pred, predictions.imagewise_gt, ax=right)
    return _embedded(figure, "image scores and their ROC curve")


def _examples(predictions: Predictions, summary: Summary, most: int) -> Iterator[str]:
    """Yield the worst mistakes, and then the clearest of what was right."""
    gone = 0
    for title, chosen in _chosen(predictions, most):
        shown = []
        for i in chosen:
            file = Path(str(predictions.fnames[i]))
            try:
                picture = read_picture(file)
                shown.append(_marked(picture, predictions, int(i), summary))
            except DataError:
                gone += 1
        if shown:
            yield f"<h3>{title}</h3>" + "".join(shown)
    if gone:
        yield f"<p>{gone} test images are no longer where they were.</p>"


def _chosen(predictions: Predictions, most: int) -> Iterator[tuple[str, np.ndarray]]:
    scores, defective, threshold = predictions.imagewise_pred, predictions.imagewise_gt, predictions.threshold
    alarms = scores >= threshold  # none without a threshold
    groups = (
        ("Missed defects, the lowest scores first", defective & ~alarms, scores),
        ("False alarms, the highest scores first", ~defective & alarms, -scores),
        ("Defects that were found, the highest scores first", defective & alarms, -scores),
        ("Good parts, the lowest scores first", ~defective & ~alarms, scores),
    )
    some = max(1, most // 2)
    for title, mask, order in groups:
        places = np.flatnonzero(mask)
        number = some if title[0] in "MF" else max(1, some // 2)
        yield title, places[np.argsort(order[places], kind="stable")][:number]


def _marked(picture: Image.Image, predictions: Predictions, i: int, summary: Summary) -> str:
    path = Path(str(predictions.fnames[i]))
    scores = predictions.scores.of(np.array([i]))
    [answer] = answers_of(scores, [(path, picture.size)], summary.transform, predictions.threshold)
    return _embedded(marked_picture(np.asarray(picture), answer), str(path))


def _embedded(figure: Figure, name: str) -> str:
    """Return a figure as a picture within the page."""
    return embedded_picture(drawn(figure), name)


def _head(run: Path, document: Mapping[str, Any]) -> str:
    name, words = run.resolve().name, document.get("arguments", [])
    line = " ".join(map(str, words)) if isinstance(words, list) else ""
    said = f"<pre>anomaly {html.escape(line)}</pre>" if line else ""
    return f"<h1>{html.escape(name)}</h1>{said}"


def _table(results: pd.DataFrame) -> str:
    shown = results[[name for name in _COLUMNS if name in results]].rename(columns=_COLUMNS)
    return shown.to_html(
        float_format=lambda value: f"{value:.4g}", na_rep="", border=0, index_names=False, classes="results"
    )


def _settings(document: Mapping[str, Any]) -> str:
    rows = {"seed": document.get("seed"), "python": document.get("python")}
    versions = document.get("versions")
    rows |= versions if isinstance(versions, dict) else {}
    cells = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<h2>Settings and versions</h2><table>{cells}</table>"
