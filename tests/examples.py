"""The examples of README, pages and docstrings: one way to find them, to run them, to check them.

A line `# > text` says what an example prints. The texts of all such lines occur in the output, in
this order.
"""

import contextlib
import dataclasses
import inspect
import io
import re
import textwrap
import types

import jax
import jax.numpy as jnp
import optax

import equilibrax as eqb

GIVEN = {"eqb": eqb, "jax": jax, "jnp": jnp, "optax": optax, "__name__": "example"}
"""What the example of a docstring takes as imported."""

HEADING = "**Example:**"


def blocks(markdown: str) -> list[str]:
    """Its Python code, block by block."""
    fenced = r"^[ \t]*```python\n(.*?)^[ \t]*```"
    return [textwrap.dedent(b) for b in re.findall(fenced, markdown, re.DOTALL | re.MULTILINE)]


def expected_lines(code: str) -> list[str]:
    """What it says that it prints."""
    return [line.strip() for line in re.findall(r"^\s*# ?> (.*)", code, re.MULTILINE)]


def check(code: str, output: str) -> str:
    """The output, if the lines that the code says it prints occur in it, in order."""
    place = 0
    for line in expected_lines(code):
        found = output.find(line, place)
        assert found >= 0, f"{line!r} is not printed, or not in this order:\n{output}"
        place = found + len(line)
    return output


def run(code: str, namespace: dict, name: str = "example") -> str:
    """What it prints when it runs in this process, checked."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, f"<{name}>", "exec"), namespace)
    return check(code, output.getvalue())


def public(module: types.ModuleType) -> list[str]:
    """The names that a module offers: all but modules, and what begins with an underscore."""
    return sorted(
        name
        for name in dir(module)
        if not name.startswith("_") and not isinstance(getattr(module, name), types.ModuleType)
    )


def name_of(case: tuple[types.ModuleType, str]) -> str:
    """As in `equilibrax.find_fixed_points`."""
    return f"{case[0].__name__}.{case[1]}"


def docstring_of(module: types.ModuleType, name: str) -> str:
    """Of a function or class, or of the class of a value; not one that is inherited."""
    value = getattr(module, name)
    kind = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    return inspect.cleandoc(vars(kind).get("__doc__") if inspect.isclass(kind) else kind.__doc__)


def run_example(module: types.ModuleType, name: str) -> None:
    """The docstring ends with an example, that runs and prints what it says."""
    docstring = docstring_of(module, name)
    assert docstring.count(HEADING) == 1, "has no example, or several"
    codes = blocks(docstring.split(HEADING)[1])
    assert codes, "has no code"
    assert docstring.endswith("```"), "does not end with its example"
    assert any(map(expected_lines, codes)), "does not say what it prints"
    namespace = dict(GIVEN)
    for code in codes:
        run(code, namespace, name_of((module, name)))


def items(text: str) -> list[str]:
    """The names that a list of Markdown explains: those in backticks before an item's colon."""
    heads = re.findall(r"^- ((?:`\w+`(?:, | and )?)+):", text, re.MULTILINE)
    return [name for head in heads for name in re.findall(r"`(\w+)`", head)]


def section(docstring: str, heading: str) -> str | None:
    """What stands under **heading:**, up to the next heading; None if there is no such."""
    found = re.search(rf"^\*\*{heading}:\*\*(.*?)(?=^\*\*\w+:\*\*|\Z)", docstring, re.DOTALL | re.MULTILINE)  # fmt: skip
    return found and found[1]


SECTIONS = ("Arguments", "Returns", "Raises", "Example")
"""In this order, where they occur."""


def check_sections(docstring: str) -> None:
    """They stand in the one order."""
    found = re.findall(r"^\*\*(\w+):\*\*", docstring, re.MULTILINE)
    assert found == [name for name in SECTIONS if name in found], f"has the sections {found}"


def check_function(function, *, whole: bool = True) -> None:
    """Arguments are explained, all of them and no others, and what is returned; or, unless `whole`,
    if any are."""
    docstring, signature = inspect.cleandoc(function.__doc__), inspect.signature(function)
    check_sections(docstring)
    arguments = section(docstring, "Arguments")
    wanted = [name for name in signature.parameters if name != "self"]
    if arguments is not None or (whole and wanted):
        assert sorted(items(arguments or "")) == sorted(wanted)
    if whole and signature.return_annotation not in (None, "None"):
        assert section(docstring, "Returns") is not None, "does not say what it returns"


def members(kind: type) -> dict[str, types.FunctionType]:
    """The public methods and properties that a class defines itself."""
    found = {}
    for name, value in vars(kind).items():
        value = value.fget if isinstance(value, property) else getattr(value, "__wrapped__", value)
        if not name.startswith("_") and inspect.isfunction(value):
            found[name] = value
    return found


def check_class(kind: type) -> None:
    """Fields and arguments are explained, all of them and nothing else, and every public method
    and property says what it does."""
    docstring = inspect.cleandoc(kind.__doc__)
    check_sections(docstring)
    methods = members(kind)
    for name, method in methods.items():
        assert method.__doc__, f"{name} has no docstring"
        check_function(method, whole=False)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    wanted = {field.name for field in fields if not field.name.startswith("_")}
    wanted |= {
        name
        for name, hint in vars(kind).get("__annotations__", {}).items()
        if not name.startswith("_") and "ClassVar" not in str(hint)
    }
    if inspect.isfunction(vars(kind).get("__init__")):
        wanted |= set(inspect.signature(kind).parameters)
    explained = set(items(docstring))
    assert wanted <= explained, f"does not explain {wanted - explained}"
    unknown = explained - wanted - set(methods)
    assert not unknown, f"explains {unknown}, which it does not have"


def check_completeness(module: types.ModuleType, name: str) -> None:
    """A function's, or a class's, or that of the class of a value."""
    value = getattr(module, name)
    if inspect.isroutine(value):
        check_function(value)
    else:
        check_class(value if inspect.isclass(value) else type(value))
