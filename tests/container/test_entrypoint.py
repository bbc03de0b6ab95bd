"""Whose files, which token: what the container decides before anything else starts."""

import os
import shutil

import pytest
from containers import OWNER, give

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

    assert os.system(f"cd '{folders}' && {command.replace('sudo ', '')}") == 0
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


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused(workshop, token):
    done = workshop.run("lab.sh", JUPYTER_TOKEN=token)
    assert done.returncode == 1
    assert "JUPYTER_TOKEN is empty" in done.stderr


def test_a_token_of_ones_own_is_used(workshop):
    url = workshop.up(JUPYTER_TOKEN="my own/token")
    assert url.endswith("?token=my+own%2Ftoken")
    try:
        assert workshop.api(url.replace("my+own%2Ftoken", "my own/token"), "GET", "contents").ok
    finally:
        workshop.compose("down", "--timeout", "5")
