"""Several processes and threads at once on the same folders and detectors: nothing is lost or mixed up."""

import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from process_attacks import Command, Forked, fork, leftovers, require_whole, small_sample

from anomaly_lib import PatchCore, PatchSVDD, load_detector
from anomaly_lib.detectors import Detector, Gaussian
from anomaly_lib.files import locked, new_file, replace_folder, sweep_unfinished

many = pytest.mark.parametrize("number", [3, pytest.param(8, marks=pytest.mark.torture)])


def begun(words: list[str], number: int, folder: Path) -> list[Forked]:
    return [fork(words, folder / f"said_{i}") for i in range(number)]


def succeed(forks: list[Forked]) -> None:
    assert [one.wait() for one in forks] == [0] * len(forks), [one.said.read_text() for one in forks]


@many
@pytest.mark.parametrize("name", ["gaussian", "evaluate"])
def test_runs_that_start_at_once_have_a_folder_each(
    name: str, number: int, all_commands: dict[str, Command], tmp_path: Path
) -> None:
    to = tmp_path / "place"
    succeed(begun(all_commands[name](to), number, tmp_path))
    tables = [file.read_bytes() for file in to.rglob("results.csv")]
    assert len(tables) == number
    assert len(set(tables)) == 1
    require_whole(to)
    assert leftovers(to) == []


@many
def test_tables_at_once_keep_every_row(number: int, all_commands: dict[str, Command], tmp_path: Path) -> None:
    to = tmp_path / "place"
    words = all_commands["tables"](to)
    at = words.index("0,1")
    forks = [fork([*words[:at], str(i % 5), *words[at + 1 :]], tmp_path / f"said_{i}") for i in range(number)]
    succeed(forks)
    runs = pd.read_csv(to / "tables" / "table1_runs.csv")
    assert len(runs) == 2 * 3 * min(number, 5)  # categories, distances, folds
    assert not runs.duplicated(["distance", "category", "fold"]).any()
    assert leftovers(to) == []


@many
def test_one_of_several_generates_the_sample_and_the_others_wait(
    number: int, all_commands: dict[str, Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly_lib.datasets.sample import generate

    for constant in ("TRAIN", "TEST_GOOD", "TEST_DEFECTIVE"):
        monkeypatch.setattr(generate, constant, getattr(generate, constant))
    small_sample()
    to = tmp_path / "place"
    succeed(begun(all_commands["sample"](to), number, tmp_path))
    require_whole(to)
    assert sorted(path.name for path in (to / "sample").iterdir()) == [
        *(".lock", "cloth", "connector", "gear", "steel"),
    ]
    assert leftovers(to) == []


def test_a_second_training_with_the_same_checkpoints_ends_with_a_sentence(
    all_commands: dict[str, Command], tmp_path: Path
) -> None:
    to = tmp_path / "place"
    with locked(to / "checkpoints" / "mvtec_disc"):
        [refused] = begun(all_commands["patch_svdd"](to), 1, tmp_path)
        assert refused.wait() == 2
    assert "checkpoints/mvtec_disc is in use by another process" in refused.sentence()
    succeed(begun(all_commands["patch_svdd"](to), 1, tmp_path))
    require_whole(to)


@many
def test_a_model_that_several_save_is_whole_whenever_it_is_read(
    number: int,
    all_commands: dict[str, Command],
    tmp_path: Path,
    normal_images: torch.Tensor,
    tiny_weights: str,
) -> None:
    detectors = [
        Gaussian("test_resnet", weights=tiny_weights, seed=i, fold=None, device="cpu").fit(normal_images)
        for i in range(number)
    ]
    model = tmp_path / "model"
    detectors[0].save(model)
    threads = [threading.Thread(target=lambda d=d: [d.save(model) for _ in range(5)]) for d in detectors]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        load_detector(model, device="cpu")
    assert leftovers(tmp_path) == []


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    with new_file(tmp_path / "a.txt") as file, replace_folder(tmp_path / "b") as folder:
        (folder / "inner").write_text("text")
        file.write_text("text")
        sweep_unfinished(tmp_path)
        assert file.exists()
        assert (folder / "inner").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b"]


@pytest.mark.parametrize("threads", [3, pytest.param(8, marks=pytest.mark.torture)])
@pytest.mark.parametrize("method", ["gaussian", "patch_core", "patch_svdd"])
def test_a_detector_in_several_threads_scores_as_in_one(
    method: str, threads: int, normal_images: torch.Tensor, defective_images: torch.Tensor, tiny_weights: str
) -> None:
    makers = {
        "gaussian": lambda: Gaussian("test_resnet", weights=tiny_weights, fold=None, device="cpu"),
        "patch_core": lambda: PatchCore("test_resnet", weights=tiny_weights, device="cpu"),
        "patch_svdd": lambda: PatchSVDD(epochs=1, repeat=1, S=(32, 16), D=4, device="cpu", precision="fp32"),
    }
    detector: Detector = makers[method]().fit(normal_images)
    sets = [
        (torch.cat([normal_images, defective_images]) * (1 - 0.02 * i)).clamp(0, 1) for i in range(threads)
    ]
    alone = [detector.score(images) for images in sets]
    found: dict[int, np.ndarray] = {}

    def score(number: int) -> None:
        for _ in range(3):
            found[number] = detector.score(sets[number]).image
            time.sleep(0)

    workers = [threading.Thread(target=score, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == list(range(threads))
    for number, one in enumerate(alone):
        assert (found[number] == one.image).all()
