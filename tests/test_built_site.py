"""The site as a reader has it: its links lead somewhere; in Chromium its search finds and its pages follow one another."""

import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from test_in_the_browser import CHROMIUM, browser  # noqa: F401, a fixture
from test_links import ORDER, Html, dead, relative

from unsir_utils.data.paths import REPOSITORY

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("furo"), reason="Sphinx is not here: make site installs it")
WITH_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)")
NOISE = "16_does_the_noise_matter"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "docs/build.py", folder], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser, address):  # noqa: F811
    """The first page; what a script throws fails the test."""
    page, thrown = browser.new_page(viewport={"width": 1400, "height": 1000}), []
    page.on("pageerror", lambda error: thrown.append(error))  # playwright takes no built-in
    page.goto(address)
    yield page
    page.close()
    assert not thrown


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {page: Html(page) for page in site.rglob("*.html")}
    assert {name + ".html" for name in ORDER} < {page.name for page in pages}
    for page, html in pages.items():
        assert not dead(page, relative(html.links), lambda target: pages[target].ids), page
        assert not html.mute and not html.foreign, page
    follows = dict(pairwise(ORDER))
    for page in pages:
        if page.stem in follows:
            assert re.search(rf'class="next-page" href="(\.\./)?{follows[page.stem]}\.html"', page.read_text()), page
    assert '"relearn"' in (site / "searchindex.js").read_text()


@WITH_CHROMIUM
def test_the_search_finds_relearn_time(page):
    page.locator(".sidebar-search").fill("relearn time")
    page.keyboard.press("Enter")
    found = page.locator("#search-results li")
    found.first.wait_for()
    measured_there = found.locator("a[href*='01_cifar10.html']").first
    measured_there.click()
    assert "relearn time" in page.locator("article").inner_text().lower()


@WITH_CHROMIUM
def test_next_leads_from_page_to_page(page, address):
    page.goto(f"{address}/{ORDER[0]}.html")
    seen = [ORDER[0]]
    while len(seen) < len(ORDER):
        page.locator("a.next-page").click()
        page.wait_for_url(lambda url: not url.endswith(f"{seen[-1]}.html"))
        seen.append(Path(page.url).stem)
    assert seen == ORDER


@WITH_CHROMIUM
def test_the_answer_and_the_cell_that_shows_it_are_three_clicks_away(page):
    assert "noise" in page.locator("article").inner_text()
    page.locator(f"article a[href*='{NOISE}']").first.click()
    page.locator(".toc-tree a", has_text="What we saw").click()
    answer = page.locator("section", has=page.locator("h2", has_text="What we saw")).last
    assert answer.locator(".cell_input").first.is_visible() and "claim" in answer.locator("table").first.inner_text()


@WITH_CHROMIUM
@pytest.mark.parametrize("width", [1000, 400])
@pytest.mark.parametrize("name", ["index", "00_start_here", NOISE, "99_report"])
def test_a_page_fits_its_window_in_light_and_dark(page, address, name, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    seen = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2, "no dark theme"
