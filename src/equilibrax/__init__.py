"""Settle recurrent networks, with evidence, and train feed-forward ones to answer alike.

The public names stand in `__init__.pyi`; each is imported when it is first used, and with the first
of them all that settling needs, so that no first call waits for it.
"""

from contextlib import suppress as _suppress
from importlib import import_module as _import_module
from importlib.metadata import version as _version

from lazy_loader import attach_stub as _attach_stub

_load, __dir__, __all__ = _attach_stub(__name__, __file__)

_MODULES = {"metrics": "metrics", "results": "classes of results", "figures": "pictures"}


def __getattr__(name: str):
    """The public name, kept for the next time; the error for one that a module holds says which."""
    if not name.startswith("_"):
        _import_module(".fixed_points", __name__)
    try:
        value = globals()[name] = _load(name)
        return value
    except AttributeError as error:
        hints = ""
        if not name.startswith("_"):
            for module, content in _MODULES.items():
                with _suppress(ImportError):  # pictures, without Matplotlib
                    if hasattr(_import_module(f".{module}", __name__), name):
                        hints += f"; {content} are in `{module}`: {module}.{name}"
        message = f"module {__name__!r} has no attribute {name!r}{hints}"
        raise AttributeError(message, name=name) from error


__version__ = _version("equilibrax")
