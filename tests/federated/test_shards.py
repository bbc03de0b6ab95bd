"""Dealing out a category: every image to one site."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_lib import Category, read_category
from anomaly_lib.datasets import read_picture
from anomaly_lib.errors import ParameterError
from anomaly_lib.federated.shards import round_robin, skewed

Deal = Callable[[Category, int], list[Category]]


@pytest.fixture(scope="module")
def category(write_category: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Category:
    root = tmp_path_factory.mktemp("shards")
    write_category(root, "disc", train=7, good=4, defects={"spot": 3, "blot": 2, "dent": 2})
    for number, path in enumerate(sorted((root / "disc" / "train" / "good").iterdir())):
        pixels = np.asarray(read_picture(path)) // 2 + 12 * (number * 3 % 7)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return read_category(root, "disc")


@pytest.mark.parametrize("deal", [round_robin, skewed])
@pytest.mark.parametrize("sites", [1, 2, 3, 7])
def test_every_image_is_at_one_site(category: Category, deal: Deal, sites: int) -> None:
    shards = deal(category, sites)
    assert len(shards) == sites
    assert sorted(path for shard in shards for path in shard.train) == sorted(category.train)
    paths = [image.path for shard in shards for image in shard.test]
    assert sorted(paths) == sorted(image.path for image in category.test)
    sizes = [len(shard.train) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert {shard.name for shard in shards} == {"disc"}


def test_images_are_dealt_out_in_turn(category: Category) -> None:
    first, second = round_robin(category, 2)
    assert first.train == category.train[::2]
    assert second.train == category.train[1::2]
    assert first.test == category.test[::2]


def test_skewed_sites_differ_in_brightness_and_defects(category: Category) -> None:
    shards = skewed(category, 3)
    means = [[np.asarray(read_picture(path)).mean() for path in shard.train] for shard in shards]
    assert max(means[0]) < min(means[1])
    assert max(means[1]) < min(means[2])
    kinds = [{image.defect for image in shard.test if image.anomalous} for shard in shards]
    assert kinds == [{"blot"}, {"dent"}, {"spot"}]
    assert all(any(not image.anomalous for image in shard.test) for shard in shards)


@pytest.mark.parametrize("deal", [round_robin, skewed])
@pytest.mark.parametrize("sites", [0, 8])
def test_a_site_without_images_is_refused(category: Category, deal: Deal, sites: int) -> None:
    with pytest.raises(ParameterError, match="at least one"):
        deal(category, sites)
