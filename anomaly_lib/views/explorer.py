"""A run under the mouse: a threshold to move, its mistakes, and what the model compares a patch with."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from anomaly_lib.errors import AnomalyError, DataError
from anomaly_lib.runs.folder import Run, load_results
from anomaly_lib.views.clickable import ClickablePicture
from anomaly_lib.views.explored import ALARMS, ALL, MISSED, Explored
from anomaly_lib.views.panels import Box, draw_panels, picture_place
from anomaly_lib.views.plots.embedded import jpeg_url

_STEPS = 400  # of the slider


def explore(run: Path | str, category: str | None = None) -> "Explorer":
    """Return what a notebook shows of a run: its images by score, under a threshold that a slider moves.

    A click on an image shows the training patches that are nearest to that place, where the run has saved
    its models and the method compares with patches.

    Parameters
    ----------
    run
        Folder of a run of `train` or of `evaluate`.
    category
        The row of ``results.csv`` to begin with; by default the first.

    Raises
    ------
    DataError
        When there is no finished run, it has no predictions, or no such row.
    """
    folder = Run(Path(run))
    rows = [str(name) for name in load_results(folder.folder).index[:-1]]
    rows = [name for name in rows if folder.predictions(name).exists()]
    if not rows:
        raise DataError(f"no predictions in {run}: its categories have no test images")
    if category is not None and category not in rows:
        raise DataError(f"{category!r} is no row with test images of {run}: there are {', '.join(rows)}")
    return Explorer(folder, rows, category or rows[0])


class Explorer(widgets.VBox):  # type: ignore[misc]
    """See `explore`.

    Attributes
    ----------
    category, slider, kind, images
        What is chosen: the row, the threshold in units of the model's own (raw where it has none), which
        images are listed, and one of them.
    own, optimal
        Buttons that move the slider to the model's own and the F1-optimal threshold.
    histogram, counts, said, panels, neighbours
        What is shown of it.
    """

    _marked: Box | None

    def __init__(self, run: Run, rows: Sequence[str], row: str) -> None:
        self._run, self._marked = run, None
        self.category = widgets.Dropdown(options=rows, value=row, description="category")
        self.slider = widgets.FloatSlider(description="threshold", readout_format=".2f")
        self.slider.layout.flex = "1 1 auto"
        self.own, self.optimal = (_button(name) for name in ("model's own", "F1-optimal"))
        self.kind = widgets.ToggleButtons(options=[ALL, MISSED, ALARMS])
        self.images = widgets.Select(rows=24, layout=widgets.Layout(width="250px", flex="0 0 auto"))
        self.histogram, self.counts, self.said, self.neighbours = (widgets.HTML() for _ in range(4))
        self.panels = ClickablePicture()
        self.images.observe(self._choose, names="value")
        self._open()
        for part, name, follow in (
            (self.category, "value", self._open),
            (self.slider, "value", self._move),
            (self.kind, "value", self._list),
            (self.panels, "clicked", self._click),
        ):
            part.observe(follow, names=name)
        for place, button in enumerate((self.own, self.optimal)):
            button.on_click(lambda _, place=place: self._go_to(place))
        bar = widgets.HBox([self.slider, self.own, self.optimal], layout=widgets.Layout(width="870px"))
        image = widgets.VBox([self.said, self.panels], layout=widgets.Layout(overflow="hidden"))
        below = widgets.HBox([self.images, image])
        several = [self.category] if len(rows) > 1 else []
        super().__init__([*several, bar, self.histogram, self.counts, self.kind, below, self.neighbours])

    def _open(self, _: object = None) -> None:
        """Take over the row that is chosen."""
        explored = Explored(self._run, str(self.category.value))
        self._explored, self._histogram = explored, explored.histogram()
        for button, share in zip((self.own, self.optimal), explored.thresholds, strict=True):
            button.disabled = not np.isfinite(share)
        self.images.options = ()  # none of the other row's is kept
        self._set_slider(explored.scores, explored.start)
        self._move()

    def _set_slider(self, scores: np.ndarray, start: float) -> None:
        low, high = min(start, float(scores.min())), max(start, float(scores.max()))
        margin = 0.02 * (high - low) or 0.5
        with self.slider.hold_trait_notifications():  # the new limits may lie beyond the old ones
            self.slider.min, self.slider.max = low - margin, high + margin
            self.slider.step = (high - low + 2 * margin) / _STEPS
            self.slider.value = start

    def _go_to(self, place: int) -> None:
        self.slider.value = self._explored.thresholds[place]

    def _move(self, _: object = None) -> None:
        """Show what the threshold makes of the images."""
        self.histogram.value = self._histogram.page(self.slider.value)
        self.counts.value = self._explored.counts(self.slider.value)
        self._list()

    def _list(self, _: object = None) -> None:
        """List the images that are asked for, and keep the one that is chosen if it is among them."""
        options = tuple(self._explored.listed(str(self.kind.value), self.slider.value))
        before = self.images.value
        if options != self.images.options:
            self.images.unobserve(self._choose, names="value")
            self.images.options = options  # which chooses none
            numbers = [number for _, number in options]
            self.images.value = before if before in numbers else next(iter(numbers), None)
            self.images.observe(self._choose, names="value")
        if self.images.value == before:
            self._show()
        else:
            self._choose()

    def _choose(self, _: object = None) -> None:
        self._marked, self.neighbours.value = None, ""
        self._show()

    def _show(self) -> None:
        """Show the image that is chosen under the threshold as it is."""
        i = self.images.value
        if i is None:
            self.said.value, self.panels.picture, self.panels.description = "There are none.", "", ""
            return
        self.said.value = self._explored.sentence(i, self.slider.value)
        self.panels.description = self._explored.path(i).name
        try:
            shown = self._explored.shown(i)
        except DataError as error:
            self.said.value += f"<br>{html.escape(str(error))}"
            self.panels.picture = ""
            return
        self.panels.picture = jpeg_url(draw_panels(shown, self.slider.value, self._marked))

    def _click(self, change: dict[str, Any]) -> None:
        """Mark the patch that was clicked, and show the training patches nearest to it."""
        i = self.images.value
        if i is None or not change["new"]:
            return
        try:
            x, y = change["new"]
            place = picture_place(x, y, self._explored.shown(i))
            if place is None:
                return
            self._marked, self.neighbours.value = self._explored.nearest(i, place)
        except AnomalyError as error:
            self._marked, self.neighbours.value = None, html.escape(str(error))
        self._show()


def _button(name: str) -> widgets.Button:
    return widgets.Button(description=name, layout=widgets.Layout(width="auto"))
