"""JupyterLab in Debian's Chromium, as a reader uses it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")


@contextmanager
def opened_workshop(address: str) -> Iterator[Page]:
    """Yield JupyterLab at `address` with the workshop open and a kernel that waits."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(address)
        expect(page.get_by_role("heading", name="Workshop")).to_be_visible(timeout=120_000)
        wait_until_idle(page)
        yield page
        browser.close()


def wait_until_idle(page: Page) -> None:
    indicator = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    expect(indicator).to_be_visible(timeout=60_000)


def run_all_cells(page: Page, milliseconds: int) -> None:
    """Run all cells from the menu and wait for the last."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
    expect(last).to_have_text(re.compile(r"\[\d+\]"), timeout=milliseconds)
    wait_until_idle(page)


def code_cell(page: Page, text: str) -> Locator:
    """Return the code cell whose source has `text`, scrolled into view with all that comes above it."""
    found = page.locator(".jp-CodeCell").filter(has=page.locator(".cm-content", has_text=text)).first
    for _ in range(3):  # what was out of sight gets its height when it comes into sight
        found.scroll_into_view_if_needed()
        page.wait_for_timeout(300)
    return found


def change_and_run(page: Page, cell: Locator, *changes: tuple[str, str]) -> None:
    """Replace the first of each pair of texts by the second in the source of a cell, and run it."""
    source = "\n".join(cell.locator(".cm-line").all_text_contents())
    for before, after in changes:
        assert before in source
        source = source.replace(before, after, 1)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")


def screenshot(page: Page, name: str) -> None:
    """Keep what the reader sees as ``artifacts/<name>.png``."""
    file = REPOSITORY / "artifacts" / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file)
