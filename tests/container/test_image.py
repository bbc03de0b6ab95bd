"""The image and the compose file: what is in them, what is not, and how fast a change is in."""

import json
import subprocess
import time

import pytest
from containers import Workshop


@pytest.fixture(scope="module")
def image(workshop: Workshop) -> dict:
    """Return what the engine knows of the image that people run."""
    name = f"{workshop.project}-workshop"
    shown = subprocess.run(["docker", "image", "inspect", name], capture_output=True, text=True, check=True)
    return json.loads(shown.stdout)[0]


@pytest.mark.parametrize("profiles", [(), ("gpu",), ("demo",), ("test",), ("gpu", "demo", "test")])
def test_compose_file_is_valid_for_every_profile(workshop, profiles):
    names = {"gpu": "jupyter-gpu"}
    expected = {"jupyter", *(names.get(profile, profile) for profile in profiles)}
    assert set(workshop.config(*profiles)["services"]) == expected


def test_gpu_profile_asks_for_an_nvidia_gpu_and_is_the_same_otherwise(workshop):
    services = workshop.config("gpu")["services"]
    gpu = services["jupyter-gpu"]
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert gpu.pop("profiles") == ["gpu"]
    assert gpu == services["jupyter"]


def test_services_are_locked_down(workshop):
    for service in workshop.config("gpu", "demo", "test")["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert set(service["cap_add"]) == {"CHOWN", "SETGID", "SETPCAP", "SETUID"}
        assert service["read_only"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ()))


def test_data_set_of_the_host_is_mounted(workshop, tmp_path):
    service = workshop.config(ANOMALY_DATA=str(tmp_path))["services"]["jupyter"]
    assert service["environment"]["ANOMALY_DATA"] == "/data"
    (mount,) = [volume for volume in service["volumes"] if volume["target"] == "/data"]
    assert mount["source"] == str(tmp_path)
    assert mount["read_only"]
    assert not workshop.config()["services"]["jupyter"]["environment"]["ANOMALY_DATA"]


def test_image_is_under_seven_and_a_half_gigabytes(image):
    print(f"image: {image['Size'] / 1e9:.2f} GB")
    assert image["Size"] < 7.5e9


def test_image_says_what_it_is(image):
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): text for name, text in image["Config"]["Labels"].items()}
    assert labels["title"] == "anomaly_lib"
    assert labels["licenses"] == "Apache-2.0"
    assert {"description", "version"} <= set(labels)


def test_image_has_no_compilers_caches_tests_or_dev_packages(workshop):
    script = """
    for tool in gcc cc g++ make git ruff mypy pytest pipenv; do command -v $tool; done
    ls -d /opt/anomaly/tests /opt/anomaly/.git ~root/.cache /tmp/* /var/lib/apt/lists/* 2>/dev/null
    ls -d /tmp/home/.cache
    true
    """
    found = workshop.run("sh", "-c", script).stdout.split()
    assert [name for name in found if name != "/tmp/home"] == []


def test_a_change_in_the_code_is_in_within_seconds(workshop):
    changed = workshop.folder / "anomaly_lib" / "__init__.py"
    before = changed.read_text()
    changed.write_text(before + "\nCHANGED = 'in the image'\n")
    try:
        started = time.monotonic()
        build = workshop.compose("--progress", "plain", "build", "jupyter")
        seconds = time.monotonic() - started
        shown = workshop.run("python", "-c", "import anomaly_lib; print(anomaly_lib.CHANGED)").stdout
    finally:
        changed.write_text(before)
    assert seconds < 20
    assert "pipenv sync" not in _steps_done(build.stdout + build.stderr)
    assert shown.strip() == "in the image"
    workshop.compose("build", "jupyter")


def _steps_done(log: str) -> str:
    """Return the titles of the build steps that ran, and not those that came from the cache."""
    numbers = {line.split()[0]: line for line in log.splitlines() if line.startswith("#") and "[" in line}
    cached = {line.split()[0] for line in log.splitlines() if line.endswith(" CACHED")}
    return "\n".join(line for number, line in numbers.items() if number not in cached)


def test_demo_runs_without_a_network(workshop):
    assert workshop.config("demo")["services"]["demo"]["network_mode"] == "none"
    done = workshop.compose("run", "--rm", "--no-TTY", "demo", "anomaly", "demo", "--quick")
    page = workshop.folder / "work" / "demo" / "workshop.html"
    assert page.read_text().count("data:image/png;base64") >= 10, done.stdout[-2000:] + done.stderr[-2000:]


def test_tests_run_in_their_own_target(workshop):
    command = ("pytest", "-q", "-p", "no:cacheprovider", "tests/evaluation/test_thresholds.py")
    done = workshop.compose("run", "--build", "--rm", "--no-TTY", "test", *command)
    assert " passed" in done.stdout
