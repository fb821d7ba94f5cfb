"""Every public name says all that there is to say, with an example that runs as printed."""

import inspect

import jax
import pytest
from examples import blocks, check, check_completeness, docstring_of, name_of, public, run_example

import equilibrax as eqb

CASES = [(eqb, name) for name in public(eqb)]
CASES += [(module, name) for module in (eqb.metrics, eqb.results) for name in public(module)]
CASES += [(eqb.figures, name) for name in public(eqb.figures) if not name.isupper()]


@pytest.fixture
def as_a_reader(tmp_path, monkeypatch):
    """Single precision, and an empty folder to write to."""
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        yield


@pytest.mark.usefixtures("as_a_reader")
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_its_example_prints_what_it_says(case):
    run_example(*case)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_it_is_explained_completely(case):
    check_completeness(*case)


def test_a_first_line_is_one_sentence_or_a_title():
    for case in CASES:
        first = docstring_of(*case).split("\n\n")[0]
        assert first.endswith((".", ":")), name_of(case)


def test_blocks_are_found_wherever_they_stand():
    page = "Text\n\n    ```python\n    if True:\n        x = 1\n    ```\n\n```python\ny = 2\n```\n"
    assert blocks(page) == ["if True:\n    x = 1\n", "y = 2\n"]


def test_lines_are_wanted_in_order():
    code = "print(1)\nprint(2)\n# > 1\n# > 2\n"
    assert check(code, "1\n2\n") == "1\n2\n"
    with pytest.raises(AssertionError, match="'2' is not printed"):
        check(code, "2\n1\n")


def test_what_is_not_explained_is_found(monkeypatch):
    def forgetful(a, b):
        """One sentence.

        **Arguments:**

        - `a`: the first.
        - `c`: gone since long.
        """

    monkeypatch.setattr(eqb, "forgetful", forgetful, raising=False)
    with pytest.raises(AssertionError):
        check_completeness(eqb, "forgetful")
    assert inspect.isroutine(forgetful)
