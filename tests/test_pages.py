"""The documentation's pages: every block of code runs, every public name has a place."""

import re
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest
from examples import blocks, public, run

import equilibrax as eqb

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parts[-2] != "tutorials")
"""All but the notebooks, which are run as such."""
TAKEN = {"explore.png", "structured.png"}
"""Pictures that no code on a page makes: the explorer in a browser, and `benchmarks/structured.py`'s."""


def case(page):
    """A page, marked where its code needs PyTorch."""
    marks = [pytest.mark.interop] if "import torch\n" in page.read_text() else []
    return pytest.param(page, id=str(page.relative_to(DOCS)), marks=marks)


@pytest.mark.parametrize("page", [case(page) for page in PAGES])
def test_blocks_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    """In single precision, as a reader would; pictures that the page shows are made by it."""
    text = page.read_text()
    folder = tmp_path / page.parent.relative_to(DOCS)
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(folder)
    namespace = {"__name__": "page"}
    with jax.enable_x64(False):
        for code in blocks(text):
            run(code, namespace, page.name)
    plt.close("all")
    shown = set(re.findall(r"!\[[^\]]+\]\([./]*images/([\w.]+)\)", text))
    made = {picture.name for picture in (tmp_path / "images").iterdir()}
    assert made == shown - TAKEN
    for picture in shown:
        assert (DOCS / "images" / picture).exists()


def test_every_public_name_has_its_place_in_the_reference():
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    placed = sorted(re.findall(r"^::: equilibrax\.([\w.]+)$", text, re.MULTILINE))
    names = public(eqb)
    for module in ("metrics", "results", "figures"):
        names += [f"{module}.{name}" for name in public(getattr(eqb, module)) if not name.isupper()]
    assert placed == sorted(names)


def test_every_picture_is_shown_somewhere():
    text = "".join(page.read_text() for page in PAGES)
    for picture in (DOCS / "images").iterdir():
        assert f"images/{picture.name}" in text
