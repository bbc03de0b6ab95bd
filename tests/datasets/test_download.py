"""Downloads from a server that does what servers do: break off, lie, send something else or something bad."""

import hashlib
import http.server
import io
import random
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from anomaly_lib import Transform, find_categories, read_category
from anomaly_lib.datasets import download as downloads
from anomaly_lib.datasets.archives import ARCHIVES, BTAD, VISA, Archive
from anomaly_lib.datasets.download import download
from anomaly_lib.errors import DataError, ParameterError

NAMES = [f"{category}/train/good/{number}.png" for category in ("bottle", "cable") for number in range(9)]
FILES = {name: random.Random(name).randbytes(500) for name in NAMES}


def archive_of(files: dict[str, bytes], *more: tarfile.TarInfo, kind: str = "w:xz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=kind) as tar:
        for name, content in {**files, "readme.txt": b"x"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return packed.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Gives its content in one of several ways, and remembers what was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.content, self.way, self.asked = content, "whole", list[str]()

    def archive(self) -> Archive:
        address = f"http://127.0.0.1:{self.server_port}/set.tar.xz"
        sha256 = hashlib.sha256(self.content).hexdigest()
        return Archive("a set", address, sha256, 10**6, "a licence", ("bottle", "cable"))


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers of one server."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        way, content = self.server.way, self.server.content
        if way == "gone":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-") or 0) if way != "no ranges" else 0
        if start >= len(content):
            self.send_error(416)
            return
        rest = content[start:] if way != "another" else b"x" * len(content[start:])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest) - (700 if way == "says less" else 0)))
        self.end_headers()
        if way == "half" or (way == "half once" and len(self.server.asked) == 1):
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(archive_of(FILES)) as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        yield one
        one.shutdown()


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of data; the lock stays."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_categories_are_there_and_nothing_else(server: Server, tmp_path: Path) -> None:
    stages = set()
    found = download(server.archive(), tmp_path, progress=lambda stage, *_: stages.add(stage))
    assert found == ["bottle", "cable"]
    assert files_in(tmp_path) == FILES
    assert stages == {"download", "unpack"}


def test_one_category_alone(server: Server, tmp_path: Path) -> None:
    assert download(server.archive(), tmp_path, ["cable"]) == ["cable"]
    assert {name.partition("/")[0] for name in files_in(tmp_path)} == {"cable"}


def test_what_is_there_is_left_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bottle").mkdir()
    (tmp_path / "bottle" / "mine.txt").write_text("mine")
    download(server.archive(), tmp_path)
    assert files_in(tmp_path)["bottle/mine.txt"] == b"mine"
    assert len(files_in(tmp_path)) == 10
    download(server.archive(), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("way", ["half once", "half"])
def test_a_broken_connection_is_gone_on_with(server: Server, tmp_path: Path, way: str) -> None:
    server.way = way
    if way == "half":
        with pytest.raises(DataError, match=r"type the same again, which goes on from here"):
            download(server.archive(), tmp_path)
        assert len(server.asked) == 5
        server.way = "whole"
    download(server.archive(), tmp_path)
    assert files_in(tmp_path) == FILES
    assert server.asked[0] == ""
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.asked[1:]]
    assert starts[0] > 0
    assert starts == sorted(set(starts))


def test_a_server_without_ranges_gives_all_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.tar.xz.part").write_bytes(b"something else")
    server.way = "no ranges"
    download(server.archive(), tmp_path)
    assert files_in(tmp_path) == FILES


def test_a_beginning_of_something_else_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.tar.xz.part").write_bytes(b"something else")
    with pytest.raises(DataError, match="another checksum"):
        download(server.archive(), tmp_path)
    assert files_in(tmp_path) == {}
    (tmp_path / ".set.tar.xz.part").write_bytes(b"x" * len(server.content))
    download(server.archive(), tmp_path)
    assert files_in(tmp_path) == FILES


@pytest.mark.parametrize("way", ["another", "says less"])
def test_what_is_not_the_known_file_is_removed(server: Server, tmp_path: Path, way: str) -> None:
    server.way = way
    with pytest.raises(DataError, match="another checksum"):
        download(server.archive(), tmp_path)
    assert files_in(tmp_path) == {}
    assert len(server.asked) == 1


def test_an_archive_that_was_downloaded_before_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.tar.xz.part").write_bytes(server.content)
    download(server.archive(), tmp_path)
    assert server.asked == []
    assert files_in(tmp_path) == FILES


def test_no_connection_and_a_file_that_is_gone_are_sentences(server: Server, tmp_path: Path) -> None:
    server.way = "gone"
    with pytest.raises(DataError, match=r"HTTP Error 404.* or save http://127"):
        download(server.archive(), tmp_path)
    assert len(server.asked) == 1
    nowhere = replace(server.archive(), address="http://127.0.0.1:9/set.tar.xz")
    with pytest.raises(DataError, match="connect to the internet"):
        download(nowhere, tmp_path)


def test_too_little_space_is_found_out_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(DataError, match=r"takes 0\.0 GB for a while, and there are 0\.0 GB"):
        download(server.archive(), tmp_path)
    assert files_in(tmp_path) == {}


def linked(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def named(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 3
    return member


BAD: list[Callable[[], tarfile.TarInfo]] = [
    lambda: named("../evil.png"),
    lambda: named("bottle/../../evil.png"),
    lambda: named("/tmp/evil.png"),
    lambda: named("bottle\\..\\evil.png"),
    lambda: linked("bottle/evil", tarfile.SYMTYPE, "/etc"),
    lambda: linked("bottle/evil", tarfile.LNKTYPE, "/etc/passwd"),
    lambda: linked("bottle/evil", tarfile.CHRTYPE, ""),
    lambda: linked("bottle/evil", tarfile.FIFOTYPE, ""),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_hostile_archive_writes_nothing_anywhere(
    tmp_path: Path, bad: Callable[[], tarfile.TarInfo]
) -> None:
    with Server(archive_of(FILES, bad())) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(DataError, match="no file of a data set: do not use it"):
            download(server.archive(), tmp_path / "data")
        server.shutdown()
    assert set(files_in(tmp_path)) == {"data/.set.tar.xz.part"}


@pytest.mark.parametrize("content", [archive_of({"bottle/a.png": b"\0" * 2_000_000}), b"no archive", b""])
def test_an_archive_that_is_none_or_grows_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".set.tar.xz.part").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    archive = Archive("a set", "http://127.0.0.1:9/set.tar.xz", sha256, 10**6, "a licence", ("bottle",))
    with pytest.raises(DataError, match=r"unpacks to more|is no archive of a set"):
        download(archive, tmp_path)
    assert set(files_in(tmp_path)) == {".set.tar.xz.part"}


def test_a_category_that_is_not_in_the_archive_is_a_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="a set has no category 'x': it has bottle, cable"):
        download(server.archive(), tmp_path, ["x"])
    assert server.asked == []
    promised = replace(server.archive(), categories=("bottle", "cable", "missing"))
    with pytest.raises(DataError, match="lacks the category missing"):
        download(promised, tmp_path)
    assert set(files_in(tmp_path)) == {".set.tar.xz.part"}


def picture(colour: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    drawn = io.BytesIO()
    Image.new(mode, (20, 16), colour).save(drawn, kind)
    return drawn.getvalue()


def unpacked(archive: Archive, content: bytes, folder: Path) -> None:
    """Unpack content as if it had been downloaded."""
    known = replace(
        archive,
        sha256=hashlib.sha256(content).hexdigest(),
        address=f"http://127.0.0.1:9/{archive.address.rpartition('/')[2]}",
    )
    folder.mkdir(exist_ok=True)
    (folder / f".{known.address.rpartition('/')[2]}.part").write_bytes(content)
    download(known, folder, progress=lambda *_: None)


def test_visa_is_split_as_its_authors_do_and_its_masks_are_white(tmp_path: Path) -> None:
    mask = Image.new("L", (20, 16))
    mask.paste(3, (0, 0, 4, 4))  # the number of a kind of defect
    drawn = io.BytesIO()
    mask.save(drawn, "PNG")
    rows, files = ["object,split,label,image,mask"], {}
    for name in VISA.categories:
        folder = f"{name}/Data"
        files |= {f"{folder}/Images/Normal/{i:04d}.JPG": picture(i, kind="JPEG") for i in range(3)}
        files[f"{folder}/Images/Anomaly/000.JPG"] = picture(9, kind="JPEG")
        files[f"{folder}/Masks/Anomaly/000.png"] = drawn.getvalue()
        rows += [f"{name},train,normal,{folder}/Images/Normal/{i:04d}.JPG," for i in (0, 2)]
        rows.append(f"{name},test,normal,{folder}/Images/Normal/0001.JPG,")
        rows.append(f"{name},test,anomaly,{folder}/Images/Anomaly/000.JPG,{folder}/Masks/Anomaly/000.png")
    files |= {"candle/image_anno.csv": b"x", "split_csv/1cls.csv": "\r\n".join(rows).encode()}
    unpacked(VISA, archive_of(files, kind="w"), tmp_path)
    assert find_categories(tmp_path) == list(VISA.categories)
    category = read_category(tmp_path, "pcb3")
    assert [path.name for path in category.train] == ["0000.JPG", "0002.JPG"]
    assert [(image.defect, image.path.name) for image in category.test] == [
        ("bad", "000.JPG"),
        ("good", "0001.JPG"),
    ]
    assert category.masks(Transform(16)).sum(axis=(1, 2)).tolist() == [
        category.masks(Transform(16))[0].sum(),
        0,
    ]
    assert category.masks(Transform(16))[0].mean() == pytest.approx(16 / 320, abs=0.02)
    with pytest.raises(DataError, match=r"lacks split_csv/1cls\.csv"):
        unpacked(VISA, archive_of({"candle/x.png": b"x"}, kind="w"), tmp_path / "again")


def zip_of(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def btad_files() -> dict[str, bytes]:
    files = {"BTech_Dataset_transformed/readme.txt": b"x"}
    for name, kind in (("01", "bmp"), ("02", "png"), ("03", "bmp")):
        folder = f"BTech_Dataset_transformed/{name}"
        files |= {f"{folder}/train/ok/{i:04d}.{kind}": picture(i, kind=kind.upper()) for i in range(2)}
        files[f"{folder}/test/ok/0000.{kind}"] = picture(5, kind=kind.upper())
        files[f"{folder}/test/ko/0000.{kind}"] = picture(6, kind=kind.upper())
        files[f"{folder}/test/ko/Thumbs.db"] = b"x"
        files[f"{folder}/ground_truth/ko/0000.png"] = picture(255, "L")
    return files


def test_btad_is_a_zip_whose_good_parts_are_ok(tmp_path: Path) -> None:
    unpacked(BTAD, zip_of(btad_files()), tmp_path)
    for name in BTAD.categories:
        category = read_category(tmp_path, name)
        assert len(category.train) == 2
        assert [image.defect for image in category.test] == ["good", "ko"]
        assert category.has_mask.all()
        assert category.masks(Transform(16))[1].all()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../evil.png", stat.S_IFREG),
        ("/evil.png", stat.S_IFREG),
        ("a/b", stat.S_IFLNK),
        ("a/b", stat.S_IFIFO),
    ],
)
def test_a_hostile_zip_writes_nothing_anywhere(tmp_path: Path, name: str, mode: int) -> None:
    content = zip_of({**btad_files(), name: b"/etc/passwd"}, {name: mode | 0o777})
    with pytest.raises(DataError, match="no file of a data set: do not use it"):
        unpacked(BTAD, content, tmp_path / "data")
    assert set(files_in(tmp_path)) == {"data/.btad.zip.part"}


def test_a_zip_that_is_none_is_cut_or_grows_is_a_sentence(tmp_path: Path) -> None:
    whole = zip_of(btad_files())
    damaged = whole.replace(btad_files()["BTech_Dataset_transformed/01/train/ok/0000.bmp"][:20], b"x" * 20)
    for number, content in enumerate((b"", b"no archive", whole[: len(whole) // 2], damaged[:-40])):
        with pytest.raises(DataError, match="is no archive of BTAD"):
            unpacked(BTAD, content, tmp_path / str(number))
        assert set(files_in(tmp_path / str(number))) == {".btad.zip.part"}
    with pytest.raises(DataError, match="unpacks to more than BTAD can be"):
        unpacked(replace(BTAD, unpacked=2000), whole, tmp_path / "more")


@pytest.mark.parametrize("archive", ARCHIVES.values())
def test_the_archives_are_the_known_ones(archive: Archive) -> None:
    assert len(archive.sha256) == 64
    assert archive.address.startswith("https://")
    assert len(archive.categories) == {"MVTec AD": 15, "VisA": 12, "BTAD": 3}[archive.name]
    assert "licence" in archive.licence or "Creative Commons" in archive.licence
