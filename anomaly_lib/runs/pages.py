"""Pages of HTML that need no other file: they can be sent, printed and kept."""

import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from anomaly_lib.files import new_file
from anomaly_lib.views.plots.embedded import jpeg_url

_QUALITY, _WIDTH = 78, 900

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; }
body { padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 }
h2 { border-top: 1px solid #ccc; padding-top: 1.2rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
td, th { padding: .25rem .6rem; text-align: right }
th { border-bottom: 1px solid #888; font-weight: 600 }
td:first-child, th:first-child { text-align: left }
table.results tr:last-child > * { border-top: 1px solid #ccc; border-bottom: 0 }
img { max-width: 100%; height: auto; display: block; margin: .6rem 0 }
figure { margin: 0; break-inside: avoid }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px }
ul { padding-left: 1.2rem }
@media print {
  body { max-width: none; margin: 0; font-size: 11px }
  h2, h3 { break-after: avoid }
  table { font-size: 9px }
}
"""


def write_page(title: str, parts: Sequence[str], file: Path) -> None:
    """Write a page of these parts of HTML, whole or not at all; it runs no script and asks for nothing."""
    with new_file(file) as unfinished:
        unfinished.write_text(_page(title, parts), encoding="utf-8")


def embedded_picture(picture: Image.Image, name: str) -> str:
    """Return a picture as HTML that holds it, at most as wide as the page."""
    shown = picture.convert("RGB")
    shown.thumbnail((_WIDTH, 4 * _WIDTH))
    return f'<figure><img alt="{html.escape(name)}" src="{jpeg_url(shown, _QUALITY)}"></figure>'


def _page(title: str, parts: Sequence[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
