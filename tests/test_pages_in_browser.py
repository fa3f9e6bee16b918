"""Pages as a browser shows them at two widths: no fault, no barrier, the verdicts in view."""

from pathlib import Path

import axe_core_python
import pytest

import page_tools

RECORD = Path(__file__).parent.parent / "reports" / "full"
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text("utf-8")
# Whatever axe finds, in a line each: the rule, and the first place that breaks it. Of long tables
# and of many claims the first are enough: the others are made alike.
AUDIT = """
const done = arguments[0];
const few = (all, most) => [...all].slice(most).forEach((element) => element.remove());
document.querySelectorAll("tbody").forEach((body) => few(body.rows, 5));
few(document.querySelectorAll("article.claim"), 12);
const told = ({ id, nodes }) => `${id} (${nodes.length}): ${nodes[0].html.slice(0, 200)}`;
axe.run().then(({ violations }) => done(violations.map(told)));
"""
BEYOND = """
return [...document.querySelectorAll(".stacked .chip, .claim .chip, .bar, .findings .chip")].filter(
  (chip) => chip.checkVisibility() && chip.getBoundingClientRect().right > innerWidth).length;
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of a page of invented trainings."""
    study = page_tools.opened(tmp_path_factory.mktemp("pages"), "transfer", "small", seeds=2)
    page_tools.train(study)
    return page_tools.publish(study, seeds=2)


@pytest.fixture(params=[1400, 420])
def screen(request, browser):
    """A browser with a window of this width."""
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get_log("browser")
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", sorted(page.name for page in RECORD.glob("*.html")))
def test_pages_of_record_have_no_fault(screen, name):
    check(screen, RECORD / name)


@pytest.mark.parametrize("name", ["index.html", "transfer.html"])
def test_new_pages_have_no_fault(screen, made, name):
    check(screen, made / name)


def check(screen, page: Path) -> None:
    screen.get(page.as_uri())
    assert screen.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert screen.execute_script(BEYOND) == 0, "verdicts lie beyond the window"
    screen.execute_script(AXE)
    assert screen.execute_async_script(AUDIT) == []
    assert [line["message"] for line in screen.get_log("browser")] == []


def test_keyboard_sorts_tables_and_opens_figures(screen, made):
    from selenium.webdriver.common.keys import Keys

    screen.get((made / "transfer.html").as_uri())
    heading = screen.find_element("css selector", "table.sortable th")
    heading.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    screen.find_element("css selector", "button.zoom").send_keys(Keys.ENTER)
    assert screen.find_element("css selector", "dialog[open] img").is_displayed()
