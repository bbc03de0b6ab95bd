"""A model on disk: read as it was written, whole or not at all, and damage named."""

import contextlib
import errno
import json
import math
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from anomaly_lib import files
from anomaly_lib.detectors.files import (
    FORMAT,
    nan_to_none,
    new_model_folder,
    none_to_nan,
    read_model,
    write_model,
)
from anomaly_lib.errors import ModelFileError
from anomaly_lib.files import new_file, sweep_unfinished, written_in_full


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model of one tensor."""
    with new_model_folder(tmp_path / "model") as unfinished:
        write_model(unfinished, {"method": "m", "threshold": 0.1}, {"rows": torch.arange(6.0).reshape(2, 3)})
    return tmp_path / "model"


def said_of(folder: Path) -> str:
    with pytest.raises(ModelFileError) as error:
        read_model(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


def test_what_was_written_is_read(folder: Path) -> None:
    description, tensors = read_model(folder)
    assert description["method"] == "m"
    assert description["threshold"] == 0.1
    assert torch.equal(tensors.take("rows", 2, None), torch.arange(6.0).reshape(2, 3))
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_the_format_and_the_versions_are_noted(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    assert document["format"] == FORMAT
    assert set(document["versions"]) == {"anomaly_lib", "torch", "timm"}
    assert document["versions"]["torch"] == torch.__version__.split("+")[0]


def test_tensors_that_are_not_contiguous_and_doubles_keep_their_values(tmp_path: Path) -> None:
    turned = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T
    write_model(tmp_path, {}, {"turned": turned})
    read = read_model(tmp_path)[1].take_any("turned", torch.float64)
    assert read.dtype == torch.float64
    assert torch.equal(read, turned)


def test_a_model_without_tensors_has_no_file_of_them(tmp_path: Path) -> None:
    write_model(tmp_path, {"method": "m"}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    assert read_model(tmp_path)[1].rest() == {}


def test_a_folder_without_model_is_named(tmp_path: Path) -> None:
    assert "no model in" in said_of(tmp_path)
    assert "model.json" in said_of(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe\x00"])
def test_a_damaged_description_is_named(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    assert "damaged" in said_of(folder)


@pytest.mark.parametrize("keep", [0, 7, 30, -1])
def test_a_truncated_tensor_file_is_named(folder: Path, keep: int) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:keep])
    said = said_of(folder)
    assert "damaged" in said
    assert "train it again" in said


def test_a_model_of_a_newer_library_asks_for_an_update(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**document, "format": FORMAT + 1}))
    assert "update anomaly_lib" in said_of(folder)


def test_nan_goes_through_json_as_null() -> None:
    assert nan_to_none(math.nan) is None
    assert nan_to_none(0.5) == 0.5
    assert math.isnan(none_to_nan(None))
    assert none_to_nan(0.5) == 0.5


def test_every_flipped_byte_of_the_tensors_is_noticed(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (folder / "model.safetensors").write_bytes(flipped)
        assert "damaged" in said_of(folder)


def test_a_missing_file_of_tensors_is_damage(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "damaged" in said_of(folder)


@pytest.mark.parametrize("inner", ["[", '{"a":'])
def test_nested_text_is_bounded_before_it_is_followed(folder: Path, inner: str) -> None:
    closing = "]" if inner == "[" else "}"
    for depth in (30, 100_000):
        (folder / "model.json").write_text('{"a": ' + inner * depth + "1" + closing * depth + "}")
        assert "damaged" in said_of(folder)
    (folder / "model.json").write_text('{"a": "' + "b" * 2**21 + '"}')
    assert "longer than" in said_of(folder)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("absent", (2, 3), torch.float32),
        ("rows", (3, 2), torch.float32),
        ("rows", (2,), torch.float32),
        ("rows", (2, 3), torch.float64),
    ],
)
def test_a_tensor_that_is_not_what_it_should_be_is_named(
    folder: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    with pytest.raises(ModelFileError, match=f"tensor {name}"):
        read_model(folder)[1].take(name, *shape, dtype=dtype)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    write_model(tmp_path, {}, {"rows": torch.tensor([1.0, value])})
    for take in (
        lambda tensors: tensors.take("rows", None),
        lambda tensors: tensors.take_any("rows", torch.float32),
    ):
        with pytest.raises(ModelFileError, match="rows is not finite"):
            take(read_model(tmp_path)[1])


# --- Whole or not at all ---


def interrupt(file: Path, error: type[BaseException]) -> None:
    """Write half of a file and fail."""
    file.write_text("{")
    raise error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    with new_model_folder(tmp_path / "deep" / "model") as unfinished:
        (unfinished / "file").write_text("text")
        assert not (tmp_path / "deep" / "model").exists()
        assert unfinished.parent == tmp_path / "deep"  # so that renaming it moves no bytes
    assert names(tmp_path / "deep") == ["model"]
    assert (tmp_path / "deep" / "model" / "file").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "deep" / "model").stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_folder_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_model_folder(tmp_path / "model") as unfinished:
        interrupt(unfinished / "file", error)
    assert names(tmp_path) == []


def test_an_interrupted_folder_leaves_the_one_before_it(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_model_folder(folder) as unfinished:
        interrupt(unfinished / "model.json", KeyboardInterrupt)
    assert read_model(folder)[0]["method"] == "m"
    assert names(folder.parent) == ["model"]


def test_a_new_folder_replaces_the_model_before_it_with_all_its_files(folder: Path) -> None:
    with new_model_folder(folder) as unfinished:
        write_model(unfinished, {"method": "n"}, {})
    assert read_model(folder)[1].rest() == {}
    assert read_model(folder)[0]["method"] == "n"
    assert names(folder) == ["model.json"]


def test_saving_over_a_folder_of_other_things_deletes_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(ModelFileError, match="holds other files than a model, thesis"),
        new_model_folder(tmp_path) as unfinished,
    ):
        write_model(unfinished, {"method": "m"}, {})
    assert names(tmp_path) == ["thesis.txt"]
    with pytest.raises(ModelFileError), new_model_folder(tmp_path / "thesis.txt"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_and_a_link_to_a_model_can_be_saved_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    for name in ("empty", "link"):
        with new_model_folder(tmp_path / name) as unfinished:
            write_model(unfinished, {"method": name}, {})
    assert read_model(tmp_path / "empty")[0]["method"] == "empty"
    assert read_model(folder)[0]["method"] == "link"


def test_a_new_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    with new_file(tmp_path / "deep" / "a.csv") as unfinished:
        unfinished.write_text("text")
        assert unfinished.suffix == ".csv"
        assert not (tmp_path / "deep" / "a.csv").exists()
    assert names(tmp_path / "deep") == ["a.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_the_one_before_it(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.csv").write_text("before")
    with pytest.raises(error), new_file(tmp_path / "a.csv") as unfinished:
        interrupt(unfinished, error)
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "before"


@pytest.mark.parametrize("exchange", [True, False])
def test_there_is_a_whole_model_at_any_time_while_others_save_over_it(
    folder: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a swap in one step it may be away for an instant, but never in parts."""
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)

    def save(number: int) -> None:
        for _ in range(20):
            with new_model_folder(folder) as unfinished:
                write_model(unfinished, {"method": str(number)}, {"rows": torch.full((2, 3), float(number))})

    reads = 0
    with ThreadPoolExecutor(4) as pool:
        savers = [pool.submit(save, number) for number in range(4)]
        while not all(saver.done() for saver in savers):
            with contextlib.nullcontext() if exchange else contextlib.suppress(ModelFileError):
                description, tensors = read_model(folder)
                if description["method"] != "m":
                    assert (tensors.take("rows", 2, 3) == float(description["method"])).all()
                reads += 1
        for saver in savers:
            saver.result()
    assert reads
    assert names(folder.parent) == ["model"]
    assert names(folder) == ["model.json", "model.safetensors"]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    with new_file(tmp_path / "a.csv") as unfinished:
        name = unfinished.name
    (tmp_path / name).write_text("half")  # as a writer leaves it that is killed
    (tmp_path / f"{files._UNFINISHED}folder").mkdir()
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == ["a.csv"]


def test_a_stop_at_the_moment_when_a_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = files._lock

    def stopped(path: Path) -> int:
        monkeypatch.setattr(files, "_lock", lock)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_lock", stopped)
    with pytest.raises(KeyboardInterrupt), files.replace_folder(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_a_folder_is_removed_although_a_thread_puts_one_more_file_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def remove_with_a_late_file(path: Path, **options: bool) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        remove(path, **options)
        path.mkdir()
        (path / "late.png").touch()

    monkeypatch.setattr(shutil, "rmtree", remove_with_a_late_file)
    with pytest.raises(ValueError, match="stop"), files.replace_folder(tmp_path / "a"):
        raise ValueError("stop")
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_of_the_system_with_the_file_s_name(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left") as error,
        written_in_full(tmp_path / "x", ValueError),
    ):
        raise ValueError("I/O error: No space left on device (os error 28)")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "x"))
