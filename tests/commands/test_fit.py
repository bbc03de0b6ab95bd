"""``anomaly fit``: a folder of photographs, as people have them, becomes a model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from running import error_of, run

from anomaly_lib import Gaussian, ImageFiles, PatchCore, PatchSVDD, Transform, load_detector

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")
GEOMETRY = ("--resize", "72", "--imagesize", "64")


@pytest.fixture
def good(small_data: Path, tmp_path: Path) -> Path:
    """Return a flat folder of photographs."""
    shutil.copytree(small_data / "disc" / "train" / "good", tmp_path / "good")
    return tmp_path / "good"


def fit(good: Path, model: Path, weights: str, *words: str, options: tuple[str, ...] = GEOMETRY) -> Result:
    method = words or ("patch_core",)
    own = {"patch_core": ("-b", "test_resnet"), "gaussian": ("-a", "test_resnet")}.get(method[0], ())
    network = (*own, "--weights", weights) if own else ()
    line = ["fit", "--device", "cpu", *options, str(good), str(model), method[0], *network, *method[1:]]
    return run(line)


def test_the_model_is_that_of_python(good: Path, tiny_weights: str, tmp_path: Path) -> None:
    result = fit(good, tmp_path / "m", tiny_weights)
    assert result.exit_code == 0, result.output
    decider = sorted(good.iterdir())[load_detector(tmp_path / "m", device="cpu").deciding_image]
    assert result.stdout.splitlines() == [
        "fitted on 5 of 5 pictures",
        "resize 72 and image size 64: the model's crop leaves out up to 21% of a picture: what lies there is "
        "not judged",
        f"threshold {load_detector(tmp_path / 'm', device='cpu').threshold_:.6g}, from 5 scores: of good "
        f"parts like these, at most 16.7 % are called anomalous; {decider} decides",
        f"Model: {tmp_path / 'm'}",
    ]
    model = PatchCore("test_resnet", weights=tiny_weights, transform=Transform(72, 64), device="cpu")
    images = ImageFiles(sorted(good.iterdir()), model.transform)
    expected = model.fit(images).score(images)
    assert np.array_equal(load_detector(tmp_path / "m", device="cpu").score(images).image, expected.image)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("patch_core", "--num_nn", "2"), None),
        (("patch_core", "sampler", "-p", "0.5", "random"), PatchCore),
        (("gaussian", "--fold", "1"), Gaussian),
        (("patch_svdd", "--epochs", "1", "--repeat", "1", "--S", "32", "16", "--D", "4"), PatchSVDD),
    ],
)
def test_every_method_and_its_options_may_be_named(
    good: Path, tiny_weights: str, tmp_path: Path, words: tuple[str, ...], kind: type | None
) -> None:
    options = GEOMETRY if words[0] == "patch_core" else ("--imagesize", "64")
    result = fit(good, tmp_path / "m", tiny_weights, *words, options=options)
    if kind is None:
        assert "No such option '--num_nn'" in error_of(result)
    else:
        assert result.exit_code == 0, result.output
        assert type(load_detector(tmp_path / "m", device="cpu")) is kind


def test_without_a_word_it_is_patchcore_as_it_comes(good: Path, tmp_path: Path) -> None:
    result = run(["fit", "--device", "cpu", "--imagesize", "64", str(good), str(tmp_path / "m")])
    assert result.exit_code == 0, result.output
    detector = load_detector(tmp_path / "m", device="cpu")
    assert isinstance(detector, PatchCore)
    usual = PatchCore()
    assert (detector.backbone, detector.coreset, detector.sampler) == (usual.backbone, 0.1, usual.sampler)


def test_what_is_no_picture_is_counted_and_named(good: Path, tiny_weights: str, tmp_path: Path) -> None:
    (good / "later").mkdir()
    Image.new("RGB", (90, 90), "grey").save(good / "later" / "x.jpg")
    whole = (good / "000.png").read_bytes()
    (good / "cut.png").write_bytes(whole[: len(whole) // 2])
    (good / "notes.txt").write_text("notes")
    result = fit(good, tmp_path / "m", tiny_weights)
    assert result.exit_code == 0, result.output
    assert "1 entry is not read (notes.txt)" in result.stderr
    assert result.stdout.startswith("fitted on 6 of 7 pictures\n")
    assert f"left out: {good / 'cut.png'}: cannot read the image" in result.stdout


@pytest.mark.parametrize("words", [("patch_core", "gaussian"), ("gaussian", "--l2", "--sed"), ("dataset",)])
def test_lines_that_make_no_sense_are_sentences(good: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert error_of(run(["fit", str(good), str(tmp_path / "m"), *words]))
    assert not (tmp_path / "m").exists()


def test_a_folder_without_pictures_or_without_any_that_can_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    assert "there are no pictures in" in error_of(run(["fit", str(tmp_path / "good"), str(tmp_path / "m")]))
    (tmp_path / "good" / "a.png").write_text("a")
    assert "none of the 1 pictures" in error_of(run(["fit", str(tmp_path / "good"), str(tmp_path / "m")]))
    assert "does not exist" in error_of(run(["fit", str(tmp_path / "none"), str(tmp_path / "m")]))
    assert "MODEL_FOLDER" in error_of(run(["fit", str(tmp_path / "good")]))


def test_a_model_is_replaced_and_nothing_else(good: Path, tiny_weights: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert fit(good, tmp_path / "m", tiny_weights).exit_code == 0
    said = error_of(fit(good, good, tiny_weights))
    assert "holds other files than a model" in said
    assert len(list(good.iterdir())) == 5
