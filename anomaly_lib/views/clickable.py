"""A picture in a notebook that says where it is clicked."""

import base64
from typing import ClassVar

import anywidget
import traitlets

_SCRIPT = """
function render({ model, el }) {
  const picture = document.createElement("img");
  picture.style.cursor = "crosshair";
  picture.style.maxWidth = "100%";
  picture.draggable = false;
  function show() {
    picture.src = model.get("picture");
    picture.alt = model.get("description");
  }
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    model.save_changes();
  });
  model.on("change:picture", show);
  model.on("change:description", show);
  show();
  el.appendChild(picture);
}
export default { render };
"""


class ClickablePicture(anywidget.AnyWidget):
    """A picture; `clicked` is where, from (0, 0) in its upper left corner to (1, 1), or empty.

    Attributes
    ----------
    picture
        As a data URL.
    description
        For those who do not see it.
    """

    _esm: ClassVar[str] = _SCRIPT
    picture = traitlets.Unicode("").tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    clicked = traitlets.List(traitlets.Float()).tag(sync=True)


def data_url(encoded: bytes, kind: str) -> str:
    """Return an encoded picture of this kind, ``png`` or ``jpeg``, as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
