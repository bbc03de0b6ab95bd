"""A reader's way through the container: open the printed address, run the workshop, change something."""

import re
from collections.abc import Iterator

import pytest
from containers import Workshop
from lab_pages import change_and_run, code_cell, needs_chromium, opened_workshop, run_all_cells, screenshot
from playwright.sync_api import expect

FIGURES = 10

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def url(workshop: Workshop) -> Iterator[str]:
    """Start the container in the quick setting and yield the address that it printed."""
    yield workshop.up(ANOMALY_QUICK="1")
    workshop.compose("down", "--timeout", "5")


def test_the_workshop_runs_in_the_browser(url):
    with opened_workshop(url) as page:
        page.wait_for_timeout(3000)  # what pops up does so now
        assert page.locator(".Toastify__toast").all_inner_texts() == []
        screenshot(page, "container/opened")

        run_all_cells(page, milliseconds=400_000)
        screenshot(page, "container/ran")
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts() == []
        assert page.locator(".jp-OutputArea-output img").count() >= FIGURES
        slider = page.locator(".jupyter-widgets.widget-slider").first
        for _ in range(3):  # what was out of sight gets its height when it comes into sight
            slider.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
        screenshot(page, "container/slider")
        cell = code_cell(page, "explore(run, worst)")
        picture = cell.get_by_role("img", name=re.compile(".png$"))
        picture.click(position={"x": 100, "y": 100})  # its script is in the image, not on the internet
        expect(cell.locator("figcaption")).to_have_count(5)

        cell = code_cell(page, "N = 4")
        expect(cell.locator(".jp-OutputArea tbody tr")).to_have_count(4)
        change_and_run(page, cell, ("N = 4", "N = 2"))
        changed = code_cell(page, "N = 2")
        expect(changed.locator(".jp-OutputArea tbody tr")).to_have_count(2)
        screenshot(page, "container/changed")
