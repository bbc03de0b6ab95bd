"""Models as earlier versions wrote them."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file, save_file


def as_format(number: int, folder: Path) -> None:
    """Take away from a model what those of this earlier format did not have."""
    new = (
        "calibration_of",
        "place_of",
        "statistics.",
        *(("calibration", "image_of", "projection") if number == 1 else ()),
    )
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(new)}
    save_file(kept, folder / "model.safetensors")
    description = json.loads((folder / "model.json").read_text())
    for name in ("sha256", "checksum", "input_shape", "images"):
        del description[name]
    del description["transform"]["multiple"]
    description["parameters"].pop("robust", None)
    if number > 1:
        with (folder / "model.safetensors").open("rb") as stream:
            description["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
    (folder / "model.json").write_text(json.dumps({**description, "format": number}))
