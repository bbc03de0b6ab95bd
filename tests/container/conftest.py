"""A Docker engine, a copy of the repository to build from, and containers that are gone afterwards."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from containers import OWNER, REPOSITORY, Workshop, copy_repository, engine_answers, give

LOCAL_DOCKER = REPOSITORY.parent / "shared" / "tools" / "local-docker.sh"


@pytest.fixture(scope="session")
def _engine() -> None:
    """Have a Docker engine with Compose, or skip."""
    if engine_answers():
        return
    if os.getuid() != 0 or not LOCAL_DOCKER.is_file():
        pytest.skip("no Docker engine answers `docker info`, or it has no `docker compose`")
    log = subprocess.run(["bash", LOCAL_DOCKER], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if log.returncode != 0:
        pytest.skip(f"no Docker engine could be had: {log.stderr.strip().splitlines()[-1:]}")


@pytest.fixture(scope="session")
def workshop(_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Yield a copy of the repository with a built image, whose ``work`` and ``notebooks`` `OWNER` owns.

    Its path has what paths of real people have: spaces, brackets, a letter beyond ASCII.
    """
    folder = tmp_path_factory.mktemp("Frank's workshop (größer) ")
    copy_repository(folder)
    for name in ("work", "notebooks"):
        (folder / name).mkdir(exist_ok=True)
        give(folder / name, OWNER)
    workshop = Workshop(folder, f"anomaly-test-{os.getpid()}")
    try:
        workshop.compose("build", "jupyter", timeout=900)
        yield workshop
    finally:
        workshop.down()
