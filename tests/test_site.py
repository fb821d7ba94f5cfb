"""The documentation, built as `.ci/site` does, and looked at in a browser, on a phone and on a desk."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from browser import DESKTOP, PHONE, browser, clipped_pictures, needs_browser, overflow

ROOT = Path(__file__).parents[1]


class Outline(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.fetched, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        links = [named[key] for key in ("href", "src") if named.get(key)]
        self.links += links
        if tag in ("script", "img", "iframe") or (
            tag == "link" and named.get("rel") != "canonical"
        ):
            self.fetched += links
        self.anchors |= {named[key] for key in ("id", "name") if named.get(key)}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def site():
    command = ["bash", str(ROOT / ".ci" / "site")]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "site"


@pytest.fixture(scope="module")
def outlines(site):
    return {path: Outline(path.read_text()) for path in site.rglob("*.html")}


def test_no_link_within_the_site_is_broken(site, outlines):
    assert len(outlines) > 25
    for page, outline in outlines.items():
        if page.name == "404.html":
            continue  # its links are those of the site's root, wherever it is shown
        for link in outline.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, anchor = urldefrag(unquote(link))
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page.relative_to(site)} links to {link}"
            if anchor and target.suffix == ".html":
                assert anchor in outlines[target].anchors, f"{page.relative_to(site)}: {link}"


def test_nothing_is_fetched_from_elsewhere(outlines):
    for outline in outlines.values():
        for link in outline.fetched:
            assert not re.match(r"https?:|//", link), link


@needs_browser
@pytest.mark.parametrize("window", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_pages_are_whole_in_a_browser(site, outlines, window):
    """No picture clipped, no equation left as it was typed, nothing wider than the window."""
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    equations = 0
    with browser() as chromium:
        tab = chromium.new_page(viewport=window)
        for page in sorted(outlines):
            name = page.relative_to(site).as_posix()
            tab.goto(f"http://127.0.0.1:{server.server_port}/{name}")
            # Pictures that are loaded lazily are loaded once they are near.
            tab.evaluate("for (const image of document.images) image.loading = 'eager'")
            tab.wait_for_load_state("networkidle")
            assert overflow(tab) <= 0, name
            assert clipped_pictures(tab) == [], name
            prose = tab.evaluate(
                """(() => {
                    const article = document.querySelector('article')?.cloneNode(true);
                    article?.querySelectorAll('pre, code, math').forEach(node => node.remove());
                    return article?.textContent ?? '';
                })()"""
            )
            assert not re.search(r"\$|\\[a-zA-Z(\[]", prose), f"{name}: an equation is not rendered"
            # Neither refused, nor with Markdown's own marks in it.
            assert tab.locator("merror").count() == 0, name
            assert "klzzwxh" not in tab.content(), name
            equations += tab.locator("math").count()
    server.shutdown()
    assert equations > 30
