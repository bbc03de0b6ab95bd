"""Argument lists for the command line, for notebooks that call it.

::

    with commandline_args(*get_train_args("first", ("results", "demo"), ("cloth",))):
        train()
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from anomaly_lib.folders import data_folder


@contextmanager
def commandline_args(*args: str) -> Iterator[None]:
    """Put `args` in the place of ``sys.argv`` within a ``with`` block; restore it whatever happens there."""
    before = sys.argv[:]
    sys.argv[:] = args
    try:
        yield
    finally:
        sys.argv[:] = before


def get_train_args(
    exp_name: str,
    dst_folders: tuple[str | Path, str],
    categories: Sequence[str],
    backbone: str = "tf_efficientnet_lite0",
    patchsize: int = 3,
    image_size: int | None = None,
    resize: int | None = None,
    sampler_percentage: float = 0.1,
    target_embed_dimension: int = 1024,
    anomaly_scorer_num_nn: int = 1,
    *,
    method: str = "patch_core",
    data_path: str | Path | None = None,
    layers: Sequence[str | int] = (),
    contamination: float = 0.0,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the argument list of ``anomaly train`` for one experiment.

    Parameters
    ----------
    exp_name, dst_folders
        The run is written to ``<dst_folders[0]>/<dst_folders[1]>/<exp_name>``, with a number appended when
        that exists.
    categories
        Categories of the data set, one model each.
    backbone, layers
        A timm model and names of its layers; without layers its default ones. Of ``gaussian``, the numbers of
        its levels; without, all.
    image_size, resize
        Side of the centre crop, and the length that the image's shorter side is resized to before, in pixels.
        Without `resize` the crop is always 7/8 of it: 224, the default, of 256, and 280 of 320. ``gaussian``
        and ``patch_svdd`` have one size, of the whole image: by default that which the backbone was made for,
        and 256.
    sampler_percentage
        Share of the patches to keep in the memory bank, or, above 1, their number.
    method
        The detector's word on the command line, ``patch_core``, ``gaussian`` or ``patch_svdd``; only
        ``patch_core`` has the sampler, the dimension, the patch size and the neighbours, and ``patch_svdd``
        has no backbone.
    data_path
        Root of the data set; by default `data_folder()`.
    contamination
        Share of the anomalous test images that are trained on instead, as if they were good.
    options
        Further words for the detector, such as ``("--npca", "--variance_threshold", "0.99")``.
    """
    if method == "patch_core":
        image_size = image_size or 224
        resize = resize or round(image_size * 8 / 7)
    patch_core = {
        "-b": backbone,
        "-le": layers,
        "--pretrain_embed_dimension": 1024,
        "--target_embed_dimension": target_embed_dimension,
        "--anomaly_scorer_num_nn": anomaly_scorer_num_nn,
        "--patchsize": patchsize,
    }
    sampler = ["sampler", "-p", str(sampler_percentage), "approx_greedy_coreset"]
    detectors = {
        "patch_core": ["patch_core", *_options(patch_core), *options, *sampler],
        "gaussian": ["gaussian", *_options({"-a": backbone, "--extract_blocks": layers}), *options],
        "patch_svdd": ["patch_svdd", *options],
    }
    if method not in detectors:
        raise ValueError(f"unknown method {method!r}: use one of {', '.join(detectors)}")
    folders = {"--log_group": exp_name, "--log_project": dst_folders[1]}
    return [
        "command",
        *_options({"--seed": 0}),
        "--save_patchcore_model",
        *_options(folders),
        str(dst_folders[0]),
        *detectors[method],
        *_dataset_args(categories, resize, image_size, data_path, contamination),
    ]


def get_evaluate_args(
    results_dst_folder: str | Path,
    model_paths: Sequence[str | Path],
    categories: Sequence[str],
    resize: int | None = None,
    image_size: int | None = None,
    *,
    data_path: str | Path | None = None,
) -> list[str]:
    """Return the argument list of ``anomaly evaluate`` for saved models.

    Parameters
    ----------
    results_dst_folder
        Where the results are written, with a number appended when it exists.
    model_paths, categories
        One model for each category, in the same order, or one for all.
    resize, image_size
        By default those that each model was fitted with.
    data_path
        Root of the data set; by default `data_folder()`.
    """
    return [
        "command",
        *_options({"--seed": 0}),
        str(results_dst_folder),
        "model_loader",
        *_options({"-p": model_paths}),
        *_dataset_args(categories, resize, image_size, data_path),
    ]


def _dataset_args(
    categories: Sequence[str],
    resize: int | None,
    image_size: int | None,
    data_path: str | Path | None,
    contamination: float = 0.0,
) -> list[str]:
    if isinstance(categories, str):
        raise TypeError(f"categories is the string {categories!r}: give a tuple, ({categories!r},)")
    options = {
        "--resize": resize,
        "--imagesize": image_size,
        "--contamination": contamination or None,
        "-d": categories,
    }
    return ["dataset", *_options(options), "mvtec", str(data_path or data_folder())]


def _options(values: Mapping[str, object]) -> list[str]:
    """Return the words of options by name: one with a list is repeated, one without a value is left out."""
    words = []
    for name, value in values.items():
        if value is None:
            continue
        for item in [value] if isinstance(value, str) or not isinstance(value, Sequence) else value:
            words += [name, str(item)]
    return words
