"""Pictures within a page: as addresses that hold them."""

import base64
import io

from matplotlib.figure import Figure
from PIL import Image


def drawn(figure: Figure) -> Image.Image:
    """Return a figure as an RGB picture, 100 pixels an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return Image.open(file).convert("RGB")


def jpeg_url(picture: Image.Image, quality: int = 90) -> str:
    """Return an RGB picture as an address for the ``src`` of an image in HTML."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
