"""Training of Patch SVDD's encoder: its loss, its batches, and going on after a kill."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anomaly_lib import PatchSVDD, Transform, read_category
from anomaly_lib.detectors.patch_svdd.checkpoints import Checkpoints
from anomaly_lib.detectors.patch_svdd.training import Training, TrainingOptions
from anomaly_lib.errors import AnomalyError, ParameterError
from anomaly_lib.progress import silent

OPTIONS = TrainingOptions(
    lambda_value=0.5, D=4, sides=(64, 32), lr=1e-3, batch_size=5, repeat=3, seed=0, precision="fp32"
)


@pytest.fixture(scope="module")
def pixels(normal_images: torch.Tensor) -> torch.Tensor:
    """Return four images (4, 3, 80, 80) uint8."""
    larger = F.interpolate(normal_images[:4], size=(80, 80), mode="bilinear")
    return (larger * 255).round().to(torch.uint8)


def training(pixels: torch.Tensor, **changes: object) -> Training:
    return Training(pixels, pixels.float().mean(dim=0) / 255, replace(OPTIONS, **changes))


def weights_of(one: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in one.state().items()}


def assert_same_state(one: Training, other: Training) -> None:
    expected = one.state()
    assert other.epoch == one.epoch
    assert set(other.state()) == set(expected)
    for name, value in other.state().items():
        assert torch.equal(value, expected[name]), name


# --- Losses and batches ---


def test_the_loss_is_that_of_equation_6(pixels: torch.Tensor) -> None:
    """Computed again from the pairs that the same generator draws, one patch at a time."""
    one = training(pixels)
    numbers = {f"{kind}_{side}": torch.arange(3) for kind in ("position", "svdd") for side in (64, 32)}
    expected: dict[str, float] = {}
    embed = {64: one.encoder, 32: lambda patches: one.encoder.enc(patches).flatten(1)}
    before = one._generator.get_state()
    with torch.no_grad():
        for side in (64, 32):
            (first, second), position = one._pairs.position(side, numbers[f"position_{side}"])
            logits = one._classifiers[str(side)](embed[side](first), embed[side](second)).double()
            chosen = logits.log_softmax(dim=1)[torch.arange(3), position]
            expected[f"position_{side}"] = float(-chosen.mean())
        for side in (64, 32):
            first, second = one._pairs.svdd(side, numbers[f"svdd_{side}"])
            apart = (embed[side](first) - embed[side](second)).double()
            expected[f"svdd_{side}"] = float(apart.square().sum(dim=1).sqrt().mean())
    one._generator.set_state(before)
    terms = {name: float(value.detach()) for name, value in one._terms(one._batch(numbers)).items()}
    loss = terms.pop("loss")
    assert terms == pytest.approx(expected, rel=1e-4)
    assert loss == pytest.approx(
        terms["position_64"] + terms["position_32"] + 0.5 * (terms["svdd_64"] + terms["svdd_32"]), rel=1e-5
    )


def test_an_epoch_takes_every_image_as_often_for_every_term(pixels: torch.Tensor) -> None:
    one = training(pixels)
    batches = list(one._image_numbers())
    assert len(batches) == one.batches == 3  # 12 pairs in batches of 5
    for name in ("position_64", "position_32", "svdd_64", "svdd_32"):
        drawn = torch.cat([batch[name] for batch in batches])
        assert drawn.bincount().tolist() == [3, 3, 3, 3]
    first = batches[0]
    assert not torch.equal(first["position_64"], first["svdd_64"])


def test_everything_learns_but_the_classifiers_last_weights(pixels: torch.Tensor) -> None:
    one = training(pixels)
    before = weights_of(one)
    losses = one.run_epoch("epoch", silent)
    assert list(losses) == ["loss", "position_64", "position_32", "svdd_64", "svdd_32"]
    still = [
        name for name, value in one.state().items() if name in before and torch.equal(value, before[name])
    ]
    assert sorted(still) == [f"networks.classifiers.{side}.fc3.weight" for side in (32, 64)]


@pytest.mark.slow
def test_positions_are_learned_and_the_svdd_loss_draws_neighbours_together() -> None:
    """In an image that becomes redder downwards and greener to the right."""
    ramp = torch.zeros(1, 3, 120, 120, dtype=torch.uint8)
    ramp[0, 0], ramp[0, 1] = torch.arange(0, 240, 2)[:, None], torch.arange(0, 240, 2)
    last = {}
    for weight in (0.0, 30.0):
        options = replace(OPTIONS, sides=(32,), D=16, lambda_value=weight, batch_size=16, repeat=240)
        one = Training(ramp, torch.full((3, 120, 120), 0.5), options)
        losses = [one.run_epoch("epoch", silent) for _ in range(3)]
        last[weight] = losses[-1]
    assert last[0.0]["position_32"] < 1.4 < losses[0]["position_32"]
    assert last[30.0]["svdd_32"] < 0.2 * last[0.0]["svdd_32"]


def test_progress_counts_the_batches_of_an_epoch(pixels: torch.Tensor, recorder: object) -> None:
    training(pixels).run_epoch("epoch 1 of 1", recorder)
    assert recorder.calls == [("epoch 1 of 1", done, 3) for done in range(4)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_decides_and_the_global_one_does_not(pixels: torch.Tensor, precision: str) -> None:
    one, other = (training(pixels, precision=precision) for _ in range(2))
    one.run_epoch("epoch", silent)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    other.run_epoch("epoch", silent)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same_state(one, other)
    assert not torch.equal(
        training(pixels, seed=1).encoder.conv2.weight, training(pixels, seed=2).encoder.conv2.weight
    )


# --- Checkpoints ---


@pytest.mark.slow
def test_a_resumed_training_goes_on_to_the_bit(pixels: torch.Tensor, tmp_path: Path) -> None:
    whole, first = training(pixels), training(pixels)
    for _ in range(2):
        first.run_epoch("epoch", silent)
    Checkpoints(tmp_path, pixels).save(first)
    second = training(pixels)
    Checkpoints(tmp_path, pixels).resume(second, 4)
    assert second.epoch == 2
    for _ in range(2):
        losses = second.run_epoch("epoch", silent)
    for _ in range(4):
        expected = whole.run_epoch("epoch", silent)
    assert losses == expected
    assert_same_state(whole, second)
    assert second.losses == whole.losses
    assert len(whole.losses) == 4


def test_the_newest_checkpoint_is_kept_and_is_no_pickle(pixels: torch.Tensor, tmp_path: Path) -> None:
    one = training(pixels)
    for _ in range(2):
        one.run_epoch("epoch", silent)
        Checkpoints(tmp_path, pixels).save(one)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["epoch_00002/model.json", "epoch_00002/model.safetensors"]


def test_without_a_checkpoint_a_training_starts_anew(pixels: torch.Tensor, tmp_path: Path) -> None:
    one = training(pixels)
    Checkpoints(tmp_path / "none", pixels).resume(one, 1)
    assert_same_state(training(pixels), one)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"lr": 0.5}, r"lr 0.001 \(now 0.5\)"), ({"D": 8, "seed": 3}, r"D 4 \(now 8\), seed 0 \(now 3\)")],
)
def test_a_checkpoint_of_other_options_is_refused(
    pixels: torch.Tensor, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    Checkpoints(tmp_path, pixels).save(training(pixels))
    with pytest.raises(ParameterError, match=said + ".*another folder for checkpoints"):
        Checkpoints(tmp_path, pixels).resume(training(pixels, **changes), 1)


def test_a_checkpoint_of_other_images_or_a_damaged_one_is_refused(
    pixels: torch.Tensor, tmp_path: Path
) -> None:
    Checkpoints(tmp_path, pixels).save(training(pixels))
    with pytest.raises(ParameterError, match="of other training images"):
        Checkpoints(tmp_path, pixels.flip(2)).resume(training(pixels), 1)
    (tmp_path / "epoch_00000" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(AnomalyError, match="damaged"):
        Checkpoints(tmp_path, pixels).resume(training(pixels), 1)


def test_a_checkpoint_of_a_later_epoch_than_the_last_wanted_is_refused(
    pixels: torch.Tensor, tmp_path: Path
) -> None:
    one = training(pixels)
    for _ in range(3):
        one.run_epoch("epoch", silent)
    Checkpoints(tmp_path, pixels).save(one)
    said = "epochs is 1: .* of epoch 3 already; give another folder for checkpoints, or more epochs"
    with pytest.raises(ParameterError, match=said):
        Checkpoints(tmp_path, pixels).resume(training(pixels), 1)
    finished = training(pixels)
    Checkpoints(tmp_path, pixels).resume(finished, 3)
    assert_same_state(one, finished)


_FIT = """
import sys
from pathlib import Path
import torch
from anomaly_lib import PatchSVDD, Transform, read_category
torch.set_num_threads(1)
model = PatchSVDD(D=4, epochs=8, repeat=2, batch_size=5, checkpoints=sys.argv[2], device="cpu",
                  threshold_images=0, transform=Transform(64, square=True))
model.fit(read_category(Path(sys.argv[1]), "disc").train_images(model.transform))
"""


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    small_data: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen([sys.executable, "-c", _FIT, str(small_data), str(tmp_path / "checkpoints")])
    until = time.monotonic() + 60
    while not list((tmp_path / "checkpoints").glob("epoch_*/model.json")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    newest = max((tmp_path / "checkpoints").glob("epoch_*/model.json")).parent.name
    assert "epoch_00000" < newest < "epoch_00008"

    def fit(checkpoints: Path | None) -> tuple[PatchSVDD, list[int]]:
        model = PatchSVDD(
            D=4, epochs=8, repeat=2, batch_size=5, checkpoints=checkpoints, device="cpu",
            threshold_images=0, transform=Transform(64, square=True),
        )  # fmt: skip
        epochs: list[int] = []
        images = read_category(small_data, "disc").train_images(model.transform)
        model.fit(images, watch=lambda epoch, losses, detector: epochs.append(epoch) or {})
        return model, epochs

    resumed, resumed_epochs = fit(tmp_path / "checkpoints")
    whole, epochs = fit(None)
    assert epochs == list(range(1, 9))
    assert resumed_epochs == epochs
    for side in (64, 32):
        assert torch.equal(resumed.patch_banks_.banks[side], whole.patch_banks_.banks[side])
    test = read_category(small_data, "disc").test_images(whole.transform)
    assert np.array_equal(resumed.score(test).maps, whole.score(test).maps)
