"""A real headless browser for the tests of pages: Chromium, which `.ci/run` installs."""

import contextlib
import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="needs Chromium on the PATH"
)

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 1000}


@contextlib.contextmanager
def browser():
    """Playwright's driver of it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


def overflow(tab) -> int:
    """By how many pixels the page is wider than its window."""
    return tab.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")


def clipped_pictures(tab) -> list[str]:
    """Pictures that are broken, or reach out of the window."""
    return tab.evaluate(
        """Array.from(document.images).filter(image => {
            const box = image.getBoundingClientRect();
            return !image.complete || image.naturalWidth === 0
                || box.left < 0 || box.right > window.innerWidth + 1;
        }).map(image => image.src)"""
    )
