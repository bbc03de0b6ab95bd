"""Whose files, which token: what the container decides before anything else starts."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
from containers import OWNER, Workshop, give

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to other users")


@pytest.fixture
def folders(workshop):
    """Yield the workshop's folder and put the owners of ``work`` and ``notebooks`` back afterwards."""
    yield workshop.folder
    for name in ("work", "notebooks"):
        (workshop.folder / name).chmod(0o755)
        if os.getuid() == 0:
            give(workshop.folder / name, OWNER)


def test_commands_run_as_the_owner_of_work(workshop):
    assert workshop.run("id", "-u").stdout.strip() == str(OWNER[0])
    assert workshop.run("id", "-g").stdout.strip() == str(OWNER[1])


@needs_root
def test_roots_group_goes_with_root(workshop, folders):
    for group in (0, OWNER[1]):
        os.chown(folders / "work", OWNER[0], group)
        status = workshop.run("cat", "/proc/self/status").stdout
        values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert values["Uid"].split() == [str(OWNER[0])] * 4
        assert values["Gid"].split() == [str(group or OWNER[0])] * 4
        assert values["Groups"].split() == []


@needs_root
def test_folders_of_root_are_given_to_user_1000(workshop, folders):
    (folders / "work" / "results").mkdir(exist_ok=True)
    for name in ("work", "notebooks"):
        give(folders / name, (0, 0))
    done = workshop.run("sh", "-c", "id -u; touch /work/results/new /workshop/notebooks/new")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1000"
    for path in ("work", "work/results", "work/results/new", "notebooks", "notebooks/new"):
        assert (folders / path).stat().st_uid == 1000
    (folders / "notebooks" / "new").unlink()


@needs_root
def test_files_that_root_left_behind_are_given_to_the_owner_of_work(workshop, folders):
    left = folders / "work" / "left behind"
    left.mkdir()
    (left / "results.csv").touch()
    assert workshop.run("sh", "-c", "echo x >> '/work/left behind/results.csv'").returncode == 0
    assert (left / "results.csv").stat().st_uid == OWNER[0]


@needs_root
def test_what_is_planted_in_work_changes_no_owner_outside_of_it(workshop, folders, tmp_path):
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "file").touch()
    (tmp_path / "linked").touch()
    (folders / "work" / "nested").mkdir()
    (folders / "work" / "etc").symlink_to("/etc")
    (folders / "work" / "null").symlink_to("/dev/null")
    (folders / "work" / "two\nlines").touch()
    os.mkfifo(folders / "work" / "pipe")
    os.link(tmp_path / "linked", folders / "work" / "linked")
    nested = ("--volume", f"{tmp_path / 'mounted'}:/work/nested/mount")
    shown = ("stat", "--format", "%u", "/etc", "/etc/passwd", "/dev/null", "/work/two\nlines", "/work/pipe")
    done = workshop.compose("run", "--rm", "--no-TTY", *nested, "jupyter", *shown, check=False)
    assert done.stdout.split() == ["0", "0", "0", str(OWNER[0]), str(OWNER[0])]
    assert [line for line in done.stderr.splitlines() if "second hard link" in line] == [
        "'./work/linked': stays root's for its second hard link, replace it by a copy."
    ]
    for path in (tmp_path / "mounted", tmp_path / "mounted" / "file", tmp_path / "linked"):
        assert path.stat().st_uid == 0, path
    shutil.rmtree(folders / "work")
    (folders / "work").mkdir()


@needs_root
def test_folders_that_docker_has_to_make_work_too(workshop, folders):
    shutil.rmtree(folders / "work")
    shutil.move(folders / "notebooks", folders / "kept")
    try:
        done = workshop.run("sh", "-c", "id -u; touch /work/x /workshop/notebooks/x")
        assert (done.returncode, done.stdout.strip()) == (0, "1000"), done.stderr
    finally:
        shutil.rmtree(folders / "notebooks", ignore_errors=True)
        shutil.move(folders / "kept", folders / "notebooks")


@needs_root
@pytest.mark.parametrize("name", ["work", "notebooks"])
def test_a_folder_that_cannot_be_written_stops_the_container_with_one_sentence(workshop, folders, name):
    if name == "work":
        (folders / name).chmod(0o555)
    else:
        give(folders / name, (4321, 4321))
    done = workshop.run("echo", "started")
    assert done.returncode != 0
    assert "started" not in done.stdout
    sentence = next(line for line in done.stderr.splitlines() if "cannot be written" in line)
    command = sentence.split("`")[1]
    assert f"chown -R {OWNER[0]}:{OWNER[1]} ./{name}" in command

    subprocess.run(command.replace("sudo ", ""), shell=True, cwd=folders, check=True)
    assert workshop.run("echo", "started").stdout.strip() == "started", "the command does not mend it"


@needs_root
def test_a_new_notebooks_folder_gets_the_notebooks(workshop, folders):
    kept = folders / "kept"
    shutil.move(folders / "notebooks", kept)
    (folders / "notebooks").mkdir()
    try:
        workshop.run("timeout", "1", "lab.sh")
        assert (folders / "notebooks" / "workshop.ipynb").stat().st_uid == OWNER[0]
        shipped = {path.name for path in kept.glob("*.ipynb")}
        assert {path.name for path in (folders / "notebooks").glob("*.ipynb")} == shipped
    finally:
        shutil.rmtree(folders / "notebooks")
        shutil.move(kept, folders / "notebooks")


def test_notebooks_that_are_there_are_left_alone(workshop):
    notebook = workshop.folder / "notebooks" / "workshop.ipynb"
    before = notebook.read_bytes()
    notebook.write_bytes(before + b"\n")
    workshop.run("timeout", "1", "lab.sh")
    assert notebook.read_bytes() == before + b"\n"
    notebook.write_bytes(before)


def volume(workshop: Workshop, name: str, options: str) -> str:
    """Make a small file system in memory, as a volume."""
    name = f"{workshop.project}-{name}"
    made = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={options},uid={OWNER[0]}")
    subprocess.run(["docker", "volume", "create", *made, name], check=True, capture_output=True)
    return name


@pytest.fixture
def full_volumes(workshop: Workshop) -> Iterator[list[str]]:
    """Yield volumes without space and without room for another file."""
    names = [volume(workshop, "space", "size=900k"), volume(workshop, "files", "nr_inodes=1")]
    yield names
    subprocess.run(["docker", "volume", "rm", *names], check=True, capture_output=True)


def test_a_full_folder_stops_the_container_with_one_sentence(workshop, full_volumes):
    for name in full_volumes:
        for target, shown in (("/work", "./work"), ("/workshop/notebooks", "./notebooks")):
            options = ("run", "--rm", "--no-TTY", "--volume", f"{name}:{target}")
            done = workshop.compose(*options, "jupyter", "echo", "started", check=False)
            assert done.returncode == 1
            assert done.stdout == ""
            said = [line for line in done.stderr.splitlines() if "./" in line]
            assert said == [f"{shown} is full: free some space on the disk that it is on and start again."]


def test_a_folder_that_is_mounted_read_only_stops_the_container_with_one_sentence(workshop, tmp_path):
    override = tmp_path / "override.yaml"
    override.write_text("services: {jupyter: {volumes: ['./notebooks:/workshop/notebooks:ro']}}")
    files = ("--file", "docker-compose.yaml", "--file", str(override))
    done = workshop.compose(*files, "run", "--rm", "--no-TTY", "jupyter", "echo", "started", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = [line for line in done.stderr.splitlines() if "./" in line]
    assert sentence.startswith("./notebooks is mounted read-only")


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused(workshop, token):
    done = workshop.run("lab.sh", JUPYTER_TOKEN=token)
    assert done.returncode == 1
    assert "JUPYTER_TOKEN is empty" in done.stderr


@pytest.mark.parametrize("token", ["short", "fifteen letters", "spaces" + 20 * " "])
def test_a_token_that_can_be_guessed_is_refused_with_how_to_make_a_good_one(workshop, token):
    done = workshop.run("lab.sh", JUPYTER_TOKEN=token)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if "JUPYTER_TOKEN" in line]
    assert "16 or more" in sentence
    assert "`openssl rand -hex 24`" in sentence
    assert token not in sentence


def test_a_token_of_ones_own_is_used(workshop):
    token, quoted = "my own/long+token", "my+own%2Flong%2Btoken"
    url = workshop.up(JUPYTER_TOKEN=token)
    assert url.endswith(f"?token={quoted}")
    try:
        assert workshop.api(url.replace(quoted, token), "GET", "contents").ok
        assert not workshop.api(url.replace(quoted, token), "GET", "contents/none").ok
        workshop.api(url, "GET", f"contents/none?token={quoted}")
        assert token not in workshop.log()
        assert workshop.log().count(quoted) == 1
    finally:
        workshop.compose("down", "--timeout", "5")


def test_a_port_that_is_taken_is_said_in_one_sentence(workshop):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = workshop.compose("up", "--detach", check=False, JUPYTER_PORT=port)
    workshop.compose("down", "--timeout", "5")
    assert done.returncode != 0
    (sentence,) = [line for line in done.stderr.splitlines() if port in line]
    assert "already in use" in sentence or "already allocated" in sentence
