"""The pages of the report in a real browser: complete, without a request, legible in wide and in narrow windows."""

import os

import pytest
from helpers.browser import NAMES, Browser, program

WIDTHS = (1280, 400)
CLEAN = '<!DOCTYPE html><title>clean</title><body><h2 id="a">A</h2><a href="#a">A</a> <a href="page.html">page</a>'
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
FAULTS = {  # what is wrong with a page -> the part of it, and words of the fault that is found
    "no image": ('<img src="missing.png">', "not shown: file:"),
    "damaged image": ('<img src="data:image/png;base64,AAAA">', "not shown: data:"),
    "error in the console": ('<script>console.error("oh")</script>', "console: ['oh']"),
    "warning in the console": ('<script>console.warn("hm")</script>', "console: ['hm']"),
    "exception": ('<script>throw new Error("no")</script>', "exception: Error: no"),
    "remote image": ('<img src="http://example.org/a.png">', "request: http://example.org/a.png"),
    "remote style": ('<link rel="stylesheet" href="https://example.org/a.css">', "request: https://example.org/a.css"),
    "too wide table": (f"<table><tr>{'<td>number</td>' * 100}</table>", "wider than the window: "),
    "small text": ('<p>read <span style="font-size: 8px">this</span></p>', "small text: 8 px: this"),
    "small folded text": ('<details><p style="font-size: 50%">this</p></details>', "small text: 8 px: this"),
    "dead link": ('<a href="nowhere.html">there</a>', "nowhere.html"),
    "dead link inside": ('<a href="#nowhere">there</a>', "leads nowhere: nowhere"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser, without which CI fails and any other machine skips."""
    if not program():
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"NO BROWSER HERE: none of {', '.join(NAMES)} (on Debian: apt install chromium)")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def write(folder, part=""):
    page = folder / "page.html"
    page.write_text(CLEAN + part)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_without_fault_has_none(browser, tmp_path, width):
    boxed = f'<div style="overflow-x: auto"><table><tr>{"<td>number</td>" * 100}</table></div>'
    page = write(tmp_path, f'<img src="data:image/png;base64,{PIXEL}">{boxed}')
    assert browser.faults(page, width) == []


@pytest.mark.parametrize(("part", "words"), FAULTS.values(), ids=FAULTS)
def test_every_fault_is_found(browser, tmp_path, part, words):
    found = browser.faults(write(tmp_path, part), 1280)
    assert any(words in fault for fault in found), found


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("project", ["finished", "all_tasks"])
def test_the_pages_of_a_report_have_no_fault(browser, request, project, width):
    results = request.getfixturevalue(project).results
    pages = sorted((results / "report").glob("*.html"))
    assert {page.stem for page in pages} == {"index", *(cube.parent.name for cube in results.glob("*/cube.nc"))}
    faults = {page.name: browser.faults(page, width) for page in pages}
    assert {name: found for name, found in faults.items() if found} == {}
