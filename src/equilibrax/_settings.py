"""Settings of objects on disk, by name, so that error messages can name a difference.

Settings are a flat dictionary: `network.convention` is a word, `network.weights` an array, and
`network.class` the name of the network's class.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

PLAIN = (str, int, float, bool, type(None))

DIGEST = re.compile("[0-9a-f]{16}")

DECISIVE = ("equilibrax", "jax", "jaxlib", "diffrax", "equinox")
"""Packages whose versions affect rounding."""


def described(value: Any, name: str) -> dict[str, Any]:
    """Flatten `value` to settings: arrays become NumPy arrays, and modules are flattened field by
    field. Other objects, such as functions, are described by their class alone, so that their
    `program_of` must be compared, too."""
    if isinstance(value, PLAIN):
        return {name: value}
    if isinstance(value, (list, tuple)) and all(isinstance(part, PLAIN) for part in value):
        return {name: list(value)}
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(value))
        return {f"{name}.class": str(jax.random.key_impl(value)), name: data}
    if eqx.is_array_like(value):
        return {name: np.asarray(value)}
    parts = {}
    if isinstance(value, eqx.Module):
        fields = [field.name for field in dataclasses.fields(value)]  # pyright: ignore
        parts = {field: getattr(value, field) for field in fields}
    elif isinstance(value, (list, tuple)):
        parts = {str(k): part for k, part in enumerate(value)}
    elif isinstance(value, dict):
        parts = value
    found = {f"{name}.class": type(value).__qualname__}
    for part in parts:
        found |= described(parts[part], f"{name}.{part}")
    return found


def rebuilt(settings: Mapping[str, Any], name: str, classes: Mapping[str, type]) -> Any:
    """Rebuild the value that was described under this name, from these classes.

    **Raises:** `LookupError` if the value is, or contains, a function or a class of a user's own.
    """
    kind = settings.get(f"{name}.class")
    if kind is None:
        return settings[name]
    if name in settings:
        return jax.random.wrap_key_data(settings[name], impl=kind)
    within = [key[len(name) + 1 :] for key in settings if key.startswith(f"{name}.")]
    fields = dict.fromkeys(key.split(".")[0] for key in within if key != "class")
    if kind == "tuple":
        return tuple(rebuilt(settings, f"{name}.{k}", classes) for k in fields)
    if kind not in classes:
        raise LookupError(f"{name} is a {kind}, which no file can hold")
    return classes[kind](
        **{field: rebuilt(settings, f"{name}.{field}", classes) for field in fields}
    )


def program_of(function: Callable, *examples: Any) -> str:
    """Digest of the program that JAX lowers `function` to for arguments of these shapes. It changes
    with the function's operations and constants."""
    program: Any = eqx.filter_jit(function)
    return digest_of(program.lower(*examples).as_text().encode())


def digest_of(*parts: Any) -> str:
    """Digest of the buffers' bytes, in order, as 16 hexadecimal digits."""
    whole = hashlib.blake2b(digest_size=8)
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def versions(*more: str) -> dict[str, str]:
    """Platform and package versions, which affect rounding, by name; `more` adds packages."""
    packages = {f"version of {package}": version(package) for package in (*DECISIVE, *more)}
    return {"platform": jax.default_backend(), **packages}


def first_difference(left: Mapping[str, Any], right: Mapping[str, Any]) -> str | None:
    """Describe the first setting that differs, in the order of `right`, with both values."""
    for name in [*right, *(name for name in left if name not in right)]:
        a, b = left.get(name, "absent"), right.get(name, "absent")
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if (a.dtype, a.shape) != (b.dtype, b.shape):
                return f"{name} is {a.dtype}{list(a.shape)} there, {b.dtype}{list(b.shape)} here"
            if not np.array_equal(a, b):
                where = tuple(int(k) for k in np.argwhere(a != b)[0])
                return f"{name}{list(where) or ''} is {a[where]} there, {b[where]} here"
        elif isinstance(a, np.ndarray) or isinstance(b, np.ndarray) or a != b:
            if all(isinstance(value, str) and DIGEST.fullmatch(value) for value in (a, b)):
                return f"{name}, by content"
            return f"{name} is {a} there, {b} here"
    return None


def dump_with_digest(content: Mapping[str, Any]) -> str:
    """Serialise content as JSON, together with its digest."""
    return json.dumps({"digest": _digest(content), **content}, indent=1)


def load_with_digest(text: str | bytes) -> dict[str, Any]:
    """Parse the output of `dump_with_digest`.

    **Raises:** `ValueError` if the content does not match its digest.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or content.pop("digest", None) != _digest(content):
        raise ValueError("its content is not what was written")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(content, sort_keys=True).encode())
