"""A reader's way through the workshop: JupyterLab in a browser, all cells, the slider, a changed cell."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_pages import (
    REPOSITORY,
    change_and_run,
    code_cell,
    needs_chromium,
    opened_workshop,
    run_all_cells,
    screenshot,
    wait_until_idle,
)
from playwright.sync_api import Page, expect

CONFIGURATION = {"ServerApp": {"allow_root": True, "open_browser": False, "port_retries": 0}}
# Nothing pops up, nothing is looked up on the internet.
NOTIFICATION = {"fetchNews": "false", "checkForUpdates": False}
FIGURES = 11
RUN_ALL = 300_000  # milliseconds

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the workshop: JupyterLab saves what it runs."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    folder.mkdir()
    return Path(shutil.copy(REPOSITORY / "notebooks" / "workshop.ipynb", folder))


@pytest.fixture(scope="module")
def address(notebook: Path) -> Iterator[str]:
    """Start JupyterLab in the quick setting, with settings of its own, and yield the workshop's address."""
    own = notebook.parents[1]
    token, port = secrets.token_hex(16), free_port()
    write_json(own / "config" / "jupyter_server_config.json", CONFIGURATION)
    extension = own / "settings" / "@jupyterlab" / "apputils-extension"
    write_json(extension / "notification.jupyterlab-settings", NOTIFICATION)
    environment = os.environ | {
        "ANOMALY_QUICK": "1",
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}"]
    with (own / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=notebook.parent, env=environment, stdout=log, stderr=log)
    try:
        wait_for(server, f"http://127.0.0.1:{port}/api", own / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """Yield JupyterLab with the workshop open and a kernel that waits."""
    with opened_workshop(address) as page:
        yield page


def write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text()}")


def saved(page: Page, notebook: Path) -> nbformat.NotebookNode:
    """Save the notebook and return what is in the file."""
    before = notebook.stat().st_mtime_ns
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Save Notebook(?! As)")).click()
    for _ in range(60):
        if notebook.stat().st_mtime_ns != before:
            break
        page.wait_for_timeout(500)
    return nbformat.read(notebook, as_version=4)


def test_all_cells_run_and_show_their_figures(page: Page, notebook: Path):
    screenshot(page, "lab/1-opened")
    run_all_cells(page, RUN_ALL)
    cells = [cell for cell in saved(page, notebook).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == FIGURES
    for task in range(1, 8):
        page.get_by_role("heading", name=f"Task {task}:").scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.mouse.move(900, 500)
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(1000)
        screenshot(page, f"lab/2-task-{task}")


def test_a_solution_unfolds(page: Page):
    heading = page.get_by_role("heading", name="Task 3:")
    heading.scroll_into_view_if_needed()
    solution = page.locator("details").filter(has_text="pixel_average_precision")
    solution.scroll_into_view_if_needed()
    expect(solution.locator("pre")).to_be_hidden()
    solution.locator("summary").click()
    expect(solution.locator("pre")).to_be_visible()
    screenshot(page, "lab/3-solution")


def test_the_slider_moves_the_threshold(page: Page):
    cell = code_cell(page, 'explore(run, f"mvtec_{ranked[0]}")')
    picture = cell.get_by_role("img", name=re.compile(".png$"))
    expect(picture).to_be_visible()
    before = picture.get_attribute("src")
    counts = cell.get_by_text(re.compile("missed .* false alarms")).last
    text = counts.inner_text()
    screenshot(page, "lab/4-slider-before")
    handle = cell.locator(".noUi-handle").first
    handle.focus()
    for _ in range(12):
        page.keyboard.press("PageDown")
    expect(counts).not_to_have_text(text)
    page.wait_for_timeout(1000)
    assert picture.get_attribute("src") != before
    screenshot(page, "lab/5-slider-after")
    cell.get_by_role("button", name="false alarms").click()
    expect(cell.locator("select").last.locator("option").first).to_contain_text("good/")
    cell.get_by_role("button", name="model's own").click()
    expect(counts).to_have_text(text)


def test_a_click_shows_the_nearest_training_patches(page: Page):
    cell = code_cell(page, "explore(run, worst)")
    picture = cell.get_by_role("img", name=re.compile(".png$"))
    picture.scroll_into_view_if_needed()
    before = picture.get_attribute("src")
    picture.click(position={"x": 150, "y": 150})
    captions = cell.locator("figcaption")
    expect(captions).to_have_count(5)
    assert captions.first.inner_text() == "the patch"
    assert all(name.startswith("good/") for name in captions.all_inner_texts()[1:])
    expect(picture).not_to_have_attribute("src", before or "")
    captions.first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    screenshot(page, "lab/5-nearest-patches")


def test_a_changed_cell_shows_what_it_was_changed_to(page: Page):
    cell = code_cell(page, "N = 4")
    expect(cell.locator(".jp-OutputArea tbody tr")).to_have_count(4)
    change_and_run(page, cell, ("N = 4", "N = 2"), ('"pixel_f1"', '"image_margin"'))
    changed = code_cell(page, "N = 2")
    expect(changed.locator(".jp-OutputArea tbody tr")).to_have_count(2)
    figure = code_cell(page, "examples.head(N), METRIC, transform")
    image = figure.locator(".jp-OutputArea img")
    height = image.bounding_box()["height"]
    figure.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(2000)
    wait_until_idle(page)
    expect(image).to_be_visible()
    assert image.bounding_box()["height"] < 0.7 * height
    screenshot(page, "lab/6-changed")
