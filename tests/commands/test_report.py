"""``anomaly report``: a run as one page."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from running import error_of

from anomaly_lib.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*too few")


def run(words: list[str]) -> Result:
    return CliRunner().invoke(main, words)


@pytest.fixture(scope="module")
def trained(small_data: Path, tiny_weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a copy of the data, so that pictures may be taken away."""
    root = tmp_path_factory.mktemp("report")
    shutil.copytree(small_data, root / "data <b>")
    words = ["patch_core", "-b", "test_resnet", "--weights", tiny_weights, "dataset", "--imagesize", "64"]
    result = run(["train", "--device", "cpu", str(root / "r"), *words, "mvtec", str(root / "data <b>")])
    assert result.exit_code == 0, result.output
    return root / "r" / "project" / "group"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_the_page_has_everything_and_asks_for_nothing(copy: Path) -> None:
    result = run(["report", str(copy)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Report: {copy / 'report.html'}\n"
    page = (copy / "report.html").read_text()
    for words in ("mvtec_disc", "mvtec_ring", "fitted on 5 pictures", "defects missed", "AUROC", "torch"):
        assert words in page
    assert set(re.findall(r'src="(.{4})', page)) == {"data"}
    assert not re.findall(r"<script|<link|https?://|url\(", page)
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) >= 2 * 3  # curves, a defect and a good part of each category
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert image.width > 400
    assert len(page) < 5_000_000


def test_names_are_text_and_not_tags(copy: Path) -> None:
    run(["report", str(copy)])
    page = (copy / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_pictures_that_are_gone_are_counted(copy: Path, trained: Path) -> None:
    document = (copy / "predictions" / "mvtec_disc.npz").read_bytes()
    data = trained.parents[2] / "data <b>"
    data.rename(data.with_name("moved"))
    try:
        assert run(["report", str(copy), "--output", str(copy / "x.html")]).exit_code == 0
    finally:
        data.with_name("moved").rename(data)
    assert "are no longer where they were" in (copy / "x.html").read_text()
    assert (copy / "predictions" / "mvtec_disc.npz").read_bytes() == document


def test_a_run_of_an_earlier_version_has_its_tables_and_curves(copy: Path) -> None:
    document = json.loads((copy / "run.json").read_text())
    del document["summaries"]
    (copy / "run.json").write_text(json.dumps(document))
    assert run(["report", str(copy)]).exit_code == 0
    assert "mvtec_ring" in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("least_seen", "x"),
        ("fitted_on", [1]),
        ("without", 5),
        ("decisions", {"missed": 1}),
        ("threshold", "1"),
    ],
)
def test_a_summary_of_another_kind_is_one_sentence(copy: Path, name: str, value: object) -> None:
    document = json.loads((copy / "run.json").read_text())
    document["summaries"]["mvtec_disc"][name] = value
    (copy / "run.json").write_text(json.dumps(document))
    assert name in error_of(run(["report", str(copy)]))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"summaries": {"mvtec_disc": 3}}', '{"summaries": {"mvtec_disc": {"transform": {}}}}'],
)
def test_a_damaged_run_is_one_sentence(copy: Path, content: str) -> None:
    (copy / "run.json").write_text(content)
    assert "run.json" in error_of(run(["report", str(copy)]))
    assert not (copy / "report.html").exists()


def test_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    assert "no results in" in error_of(run(["report", str(tmp_path)]))
