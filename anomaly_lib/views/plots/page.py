"""A figure of many images, packed as tightly as a printed page."""

from matplotlib.axes import Axes

from anomaly_lib.views.plots.style import FONT_SIZE, INK, detached_figure

# In inches
MARGIN, GAP = 0.05, 0.08  # around all panels and between two
LINE = 0.25  # of text


class Page:
    """A figure that is filled from the top in inches, because no layout engine packs images this tightly."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = detached_figure(width, height)
        self.width, self.height, self.top = width, height, 0.0

    def down(self, inches: float) -> None:
        """Go on further below."""
        self.top += inches

    def text(
        self, left: float, text: str, *, below: float = 0.0, size: float = FONT_SIZE, weight: str = "normal"
    ) -> None:
        """Write from the left in the middle of the next line."""
        y = 1.0 - (self.top + below + LINE / 2) / self.height
        self.figure.text(
            left / self.width,
            y,
            text,
            fontsize=size,
            weight=weight,
            color=INK,
            va="center_baseline",
            parse_math=False,
        )

    def panel(self, left: float, width: float, height: float, *, below: float = 0.0) -> Axes:
        """Make axes without ticks at the current height."""
        bottom = self.height - self.top - below - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        ax = self.figure.add_axes(box)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        return ax
