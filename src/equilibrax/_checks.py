"""Argument checks, whose errors share one grammar.

"Argument `weights` must have shape (n, n), but has shape (5, 4)."

Shapes and dtypes are always checked. Values are checked where they are concrete: inside `jax.jit`
an array is a tracer, whose values cannot be read.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


def fail(
    name: str, must: str, but: str, error: type[Exception] = ValueError, page: str = ""
) -> NoReturn:
    """Raise `error` with a message "Argument `name` must ..., but ...", and the page about it."""
    raise error(f"Argument `{name}` must {must}, but {but}.{see(page) if page else ''}")


def see(page: str) -> str:
    """A sentence with the address of a page of the documentation."""
    return f" See docs/{page}.md."


LIMITS = "explanation/limits"


def outside_of_jit(
    name: str,
    *trees: Any,
    why: str = "this works outside of jax.jit and jax.grad",
    error: type[Exception] = TypeError,
) -> None:
    """Require arrays that are known, for what works on the host."""
    if not all_concrete(*trees):
        fail(name, f"be known: {why}", "is traced", error, LIMITS)


def all_concrete(*trees: Any) -> bool:
    """Whether no array in these trees is a tracer."""
    return all(map(is_concrete, jax.tree.leaves(trees)))


def library_of(*trees: Any) -> Any:
    """NumPy, which compiles nothing, unless an array in these trees is a tracer."""
    return np if all_concrete(*trees) else jnp


def is_concrete(value: Any) -> bool:
    """Whether the values can be read: false for tracers, which have only shape and dtype."""
    return not isinstance(value, Tracer)


def floating(name: str, value: Any) -> Array:
    """Return `value` as a float32 or float64 array; Python numbers, and lists of them, get JAX's
    default dtype.

    **Raises:** `TypeError` for integer, boolean, complex, half-precision or
    object arrays, which would silently change the precision of a solve.
    """
    if isinstance(value, (bool, complex, str)) or value is None:
        fail(name, "be a real number or a floating-point array", f"is {value!r}", TypeError)
    if isinstance(value, (int, float)):
        value = np.asarray(value, jnp.result_type(float))
    if hasattr(value, "todense"):
        must = "be a dense array; `.todense()` makes it one (only `weights` may be sparse)"
        fail(name, must, f"is sparse, a {type(value).__name__}", TypeError)
    if hasattr(value, "detach"):
        fail(name, "be an array: pass `.detach().numpy()`", "is PyTorch's tensor", TypeError)
    if not hasattr(value, "dtype"):
        leaves = jax.tree.leaves(value)
        # Numbers of a list may be traced, as in `[[w, -1.0], [-1.0, w]]` under `jax.grad`.
        try:
            value = library_of(leaves).asarray(value)
        except ValueError as error:
            fail(name, "be a rectangular array of floats", str(error))
        numbers = (isinstance(a, (int, float)) and not isinstance(a, bool) for a in leaves)
        whole = all(numbers)
        if value.dtype.kind == "i" and whole:
            value = value.astype(float)
    if value.dtype not in (np.float32, np.float64):
        but = f"has dtype {value.dtype}"
        if value.dtype.kind in "iu":
            but += "; `.astype(float)` gives it one"
        fail(name, "have dtype float32 or float64", but, TypeError)
    # Not by `asarray`, which compiles a program for each shape.
    return value if isinstance(value, jax.Array) else jax.device_put(value)


def for_each(value: Array, n: int, dtype: Any) -> Array:
    """One number for each of n neurons, from these or from one for all."""
    if is_concrete(value) and value.shape == ():
        return jax.device_put(np.full(n, value, dtype))
    return jnp.broadcast_to(value.astype(dtype), (n,))


def function(name: str, value: Any, kind: str) -> None:
    """Require a function."""
    if not callable(value):
        fail(name, f"be a function {kind}", f"is {type(value).__name__}", TypeError)


def returned(name: str, function: Callable, *arguments: Any) -> Any:
    """What a function of the user's returns, which JAX may trace.

    **Raises:** `TypeError` where it takes a traced value for a number, as NumPy and `if` do.
    """
    try:
        return function(*arguments)
    except jax.errors.JAXTypeError as error:
        fail(name, WITH_JAX, by_numpy(error), TypeError, LIMITS)


WITH_JAX = "be written with jax.numpy and jax.lax, since JAX traces it"


def by_numpy(error: Exception) -> str:
    """What a function that JAX cannot trace does, in one line."""
    reason = str(error).splitlines()[0].rstrip(".:")
    return f"asks for the value of a traced array, as NumPy, `float` and `if` do: {reason}"


def returned_by(name: str, value: Any, kinds: Any, makers: str) -> None:
    """Require a result of one of these functions."""
    if not isinstance(value, kinds):
        fail(name, f"be what {makers} returns", f"is {type(value).__name__}", TypeError)


def scalar(name: str, value: Any) -> Array:
    """Return `value` as one float32 or float64 number."""
    value = floating(name, value)
    if value.shape != ():
        fail(name, "be one number", f"has shape {value.shape}")
    return value


def per_neuron(name: str, value: Array, n: int) -> None:
    """Require one number for all n neurons, or one for each."""
    if value.shape not in ((), (n,)):
        fail(name, f"have shape () or ({n},)", f"has shape {value.shape}")


def square(name: str, value: Any) -> int:
    """Require a matrix of shape (n, n), n at least 1, and return n."""
    if value.ndim != 2 or value.shape[0] != value.shape[1] or value.shape[0] == 0:
        fail(name, "have shape (n, n)", f"has shape {value.shape}")
    return value.shape[0]


def values(name: str, value: Array, must: str, test: Callable[[np.ndarray], np.ndarray]) -> None:
    """Require that every element passes `test`; tracers are not checked."""
    if not is_concrete(value):
        return
    passed = test(np.asarray(value))
    if not passed.all():
        position = tuple(int(k) for k in np.argwhere(~passed)[0])
        where = f" at index {position}" if position else ""
        fail(name, must, f"holds {np.asarray(value)[position]}{where}")


def finite(name: str, value: Array) -> None:
    """Require elements that are neither NaN nor infinite."""
    values(name, value, "be finite", np.isfinite)


def positive(name: str, value: Array) -> None:
    """Require finite elements above zero."""
    values(name, value, "be positive and finite", lambda v: np.isfinite(v) & (v > 0))


def not_negative(name: str, value: Array) -> None:
    """Require finite elements of at least zero."""
    values(name, value, "be finite and not negative", lambda v: np.isfinite(v) & (v >= 0))


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return a Python or NumPy integer of at least `minimum` as an `int`."""
    kind = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
    if isinstance(value, bool):
        fail(name, f"be {kind}", f"is {value!r}", TypeError)
    try:
        value = operator.index(value)
    except TypeError:
        fail(name, f"be {kind}", f"is {value!r}", TypeError)
    if value < minimum:
        fail(name, f"be {kind}", f"is {value}")
    return value


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """Return a sequence of positive integers as a tuple."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        fail(name, "be a sequence of positive integers", f"is {value!r}", TypeError)
    return tuple(integer(name, size) for size in value)


def number(name: str, value: Any, *, above: float, below: float = float("inf")) -> float:
    """Return a real number strictly between the two bounds as a `float`."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = float("nan")
    if isinstance(value, (bool, str)) or not above < result < below:
        limits = f"above {above:g}" + ("" if below == float("inf") else f" and below {below:g}")
        fail(name, f"be a number {limits}", f"is {value!r}")
    return result


def key(value: Any, name: str = "key") -> Array:
    """Return one PRNG key, given typed (`jax.random.key`) or raw (`jax.random.PRNGKey`)."""
    dtype = getattr(value, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if typed and value.shape == ():
        return value
    if dtype == np.uint32 and value.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(value))
    kind = f"has dtype {dtype} and shape {value.shape}" if dtype is not None else f"is {value!r}"
    fail(name, "be one PRNG key, as from jax.random.key(0)", kind, TypeError)
