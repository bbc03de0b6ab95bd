"""A reader's way through the container: open the printed address, run the workshop, change something."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from containers import REPOSITORY, Workshop
from playwright.sync_api import Page, expect, sync_playwright

SCREENSHOTS = REPOSITORY / "artifacts" / "container"
CHROMIUM = shutil.which("chromium")
FIGURES = 10

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on this machine")


@pytest.fixture(scope="module")
def url(workshop: Workshop) -> Iterator[str]:
    """Start the container in the quick setting and yield the address that it printed."""
    yield workshop.up(ANOMALY_QUICK="1")
    workshop.compose("down", "--timeout", "5")


@pytest.fixture
def page(url: str) -> Iterator[Page]:
    """Yield a new page of a browser."""
    sandbox = [] if os.getuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def screenshot(page: Page, name: str) -> None:
    """Keep what the reader sees."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_the_workshop_runs_in_the_browser(page, url):
    page.goto(url)
    expect(page.get_by_role("heading", name=re.compile("Workshop"))).to_be_visible(timeout=60_000)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible()
    page.wait_for_timeout(3000)  # what pops up does so now
    assert page.locator(".Toastify__toast").all_inner_texts() == []
    screenshot(page, "opened")

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
    expect(last).to_have_text(re.compile(r"\[\d+\]"), timeout=400_000)
    screenshot(page, "ran")
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts() == []
    assert page.locator(".jp-OutputArea-output img").count() >= FIGURES
    slider = page.locator(".jupyter-widgets.widget-slider").first
    for _ in range(3):  # what was out of sight gets its height when it comes into sight
        slider.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
    screenshot(page, "slider")

    cell = page.locator(".jp-CodeCell").filter(has_text="N = 4")
    assert cell.locator(".jp-OutputArea tbody tr").count() == 4
    source = "\n".join(cell.locator(".cm-line").all_text_contents()).replace("N = 4", "N = 2")
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(source)
    page.keyboard.press("Control+Enter")
    changed = page.locator(".jp-CodeCell").filter(has_text="N = 2")
    expect(changed.locator(".jp-OutputArea tbody tr")).to_have_count(2, timeout=60_000)
    screenshot(page, "changed")
