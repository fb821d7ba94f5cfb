"""Dynamics and maps from plain functions, and what is required of any."""

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, Float

from .. import _checks
from .._types import Vector
from ._dynamics import AbstractDynamics
from ._maps import AbstractMap, is_map

PAGE = "how-to/own_dynamics"
"""The page that errors about them refer to."""


class AbstractPlain(AbstractDynamics):
    """What is plain may stand for dynamics of a class with methods of its own, all but `tau` and
    `num_neurons` of which count."""

    stands_for: eqx.AbstractVar[AbstractDynamics | None]

    def own(self, name: str) -> Any:
        """That method or property of what this stands for, or a default one."""
        if has_own(self.stands_for, name):
            return getattr(self.stands_for, name)
        return getattr(super(), name)

    @property
    def num_inputs(self) -> int:
        return self.own("num_inputs")

    @property
    def fastest(self):
        return self.own("fastest")

    def drift(self, x, i):
        return self.own("drift")(x, i)

    def jacobian(self, x, i):
        return self.own("jacobian")(x, i)

    def scale(self, x, i):
        return self.own("scale")(x, i)

    def magnitude(self, x, i):
        return self.own("magnitude")(x, i)


def has_own(dynamics: Any, name: str) -> bool:
    """Whether the class of these dynamics has overridden a method or property."""
    base = AbstractMap if is_map(dynamics) else AbstractDynamics
    return dynamics is not None and getattr(type(dynamics), name) is not getattr(base, name)


INHERITED = ("num_inputs", "fastest", "drift", "jacobian", "scale", "magnitude")
"""What dynamics may override."""


def with_own(dynamics: AbstractDynamics) -> AbstractDynamics | None:
    """The dynamics, if they have methods of their own besides the necessary ones."""
    return dynamics if any(has_own(dynamics, name) for name in INHERITED) else None


class PlainDynamics(AbstractPlain):
    """Dynamics from a function of (t, x, i), an output function and time constants."""

    function: Callable
    output: Callable
    tau: Float[Array, " n"]
    stands_for: AbstractDynamics | None = None

    def vector_field(self, t, x, i):
        return self.function(t, x, i)

    def rates(self, x):
        return self.output(x)


class PlainMap(AbstractPlain, AbstractMap):
    """A map from a function of (x, i), an output function, and as many ones as components."""

    function: Callable
    output: Callable
    ones: Float[Array, "*n"]
    inputs: int | None = eqx.field(static=True)
    stands_for: AbstractDynamics | None

    def __init__(
        self,
        function: Callable,
        output: Callable,
        ones: Array,
        inputs: int | None,
        stands_for: AbstractDynamics | None = None,
    ):
        self.function, self.output, self.ones, self.inputs = function, output, ones, inputs
        self.stands_for = stands_for

    @property
    def tau(self):
        return self.ones

    def step(self, x, i):
        return self.function(x, i)

    def rates(self, x):
        return self.output(x)

    @property
    def num_neurons(self) -> int:
        return self.ones.shape[0]

    @property
    def num_inputs(self) -> int:
        return self.own("num_inputs") if self.inputs is None else self.inputs


def same(x: Array) -> Array:
    """The state itself."""
    return x


def as_map(
    function: Callable[[Vector, Array], Vector],
    num_neurons: int | None = None,
    num_inputs: int | None = None,
    *,
    rates: Callable[[Vector], Array] | None = None,
) -> AbstractMap:
    """The map of a plain function.

    **Arguments:**

    - `function`: F, of a state, shape `(n,)`, and an input, shape `(k,)`. What it closes over
      carries derivatives.
    - `num_neurons`: n. If absent, starts or inputs tell it.
    - `num_inputs`: k, for drawing inputs; n if absent.
    - `rates`: the output at a state; the state itself if absent.

    **Returns:** an `AbstractMap`.

    **Raises:** `TypeError` for what cannot be called.

    **Example:**

    ```python
    halved = eqb.as_map(lambda x, i: x / 2 + i)
    found = eqb.find_fixed_points(halved, jnp.asarray([1.0, 3.0]))
    print(f"{found.state[1]:.2f}, {jnp.exp(found.abscissa):.2f}")
    # > 6.00, 0.50
    ```
    """
    for name, value in (("function", function), ("rates", rates)):
        if value is not None and (not callable(value) or isinstance(value, type)):
            _checks.fail(name, "be a function", f"is {value!r}", TypeError, page=PAGE)
    shape = () if num_neurons is None else (_checks.integer("num_neurons", num_neurons),)
    parts: list[Any] = [
        part if isinstance(part, eqx.Module) else jax.tree_util.Partial(part)
        for part in (function, same if rates is None else rates)
    ]
    inputs = None if num_inputs is None else _checks.integer("num_inputs", num_inputs)
    return PlainMap(parts[0], parts[1], jnp.ones(shape), inputs)


def as_dynamics(
    name: str, value: Any, width: int | None = None, dtype: Any = None
) -> AbstractDynamics:
    """Dynamics with an array of n time constants.

    `AbstractDynamics` with n time constants are returned as they are. A single time constant is
    repeated `width` times; a plain function gets `width` time constants of 1, in `dtype`, and so
    does a map of unknown size.

    **Raises:** `TypeError` for other values; `ValueError` for time constants of another shape, or
    that are not positive.
    """
    if not isinstance(value, AbstractDynamics):
        if not callable(value) or isinstance(value, type) or width is None:
            must = "be a RateNetwork or other AbstractDynamics"
            must += "" if width is None else ", or a function of (t, x, i)"
            _checks.fail(name, must, f"is {value!r}", TypeError, page=PAGE)
        # A Partial makes a plain function part of the pytree's structure, without leaves.
        function = value if isinstance(value, eqx.Module) else jax.tree_util.Partial(value)
        return PlainDynamics(
            function=cast(Callable, function),
            output=cast(Callable, jax.tree_util.Partial(same)),
            tau=jnp.ones((width,), dtype),
        )
    if is_map(value):
        if value.tau.ndim:
            return value
        if width is None:
            must = "know its number of components: as_map(function, num_neurons)"
            _checks.fail(name, must, "does not", page=PAGE)
        ones = jnp.ones(width, dtype)
        if isinstance(value, PlainMap):
            return PlainMap(value.function, value.output, ones, value.inputs)
        return PlainMap(value.step, value.rates, ones, None, with_own(value))
    tau = _checks.floating(f"{name}.tau", value.tau)
    if tau.ndim > 1 or (tau.ndim == 0 and width is None):
        _checks.fail(f"{name}.tau", "have shape (n,)", f"has shape {tau.shape}", page=PAGE)
    if tau.ndim == 1 and isinstance(value.tau, jax.Array):
        return value
    _checks.positive(f"{name}.tau", tau)
    return PlainDynamics(
        function=cast(Callable, value.vector_field),
        output=cast(Callable, value.rates),
        tau=tau if tau.ndim else jnp.broadcast_to(tau, (cast(int, width),)),
        stands_for=with_own(value),
    )


def check_vector_field(name: str, dynamics: AbstractDynamics, num_inputs: int) -> AbstractDynamics:
    """Require an autonomous vector field, or a step, from n components and `num_inputs` inputs to n
    components.

    A plain function may close over traced arrays: in the dynamics returned they are leaves.

    **Raises:** `ValueError` or `TypeError`, by tracing alone.
    """
    n, dtype = dynamics.num_neurons, dynamics.dtype
    place = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((), (n,), (num_inputs,))]
    iterated = is_map(dynamics)
    name, function = f"{name}.vector_field", dynamics.vector_field
    if iterated:
        name, function, place = name.replace("vector_field", "step"), dynamics.step, place[1:]
    try:
        program, out = jax.make_jaxpr(function, return_shape=True)(*place)
    except Exception as error:
        if isinstance(error, jax.errors.JAXTypeError):
            but = _checks.by_numpy(error)
            _checks.fail(name, _checks.WITH_JAX, but, TypeError, page=PAGE)
        must = f"take a state of shape ({n},) and an input of shape ({num_inputs},)"
        without = "" if num_inputs != n else "; without `x0` a state is as long as an input"
        _checks.fail(name, must, f"calling it failed: {error}{without}", page=PAGE)
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != (n,):
        shape = f"shape {out.shape}" if isinstance(out, jax.ShapeDtypeStruct) else f"{out!r}"
        without = "" if num_inputs != n else "; if the state is not as long as an input, pass `x0`"
        must = f"return an array of shape ({n},)"
        _checks.fail(name, must, f"returns {shape}{without}", page=PAGE)
    if out.dtype != dtype:
        must = f"keep the dtype {dtype} of state and input"
        _checks.fail(name, must, f"returns {out.dtype}", TypeError, page=PAGE)
    if not iterated and dce_jaxpr(program.jaxpr, [True])[1][0]:
        _checks.fail(
            name,
            "be a function of x and i alone, since only such dynamics have fixed points",
            "depends on t; fix the time, or pass what varies with it as the input",
            page=PAGE,
        )
    own = {id(leaf) for leaf in jax.tree.leaves(dynamics)}
    if all(_checks.is_concrete(a) or id(a) in own for a in program.consts):
        return dynamics
    if not isinstance(dynamics, (PlainDynamics, PlainMap)):
        _checks.fail(
            name,
            "have all traced arrays among the fields of its class",
            "closes over others, whose derivatives would be lost",
            page=PAGE,
        )
    function = eqx.filter_closure_convert(dynamics.function, *place)
    return eqx.tree_at(lambda plain: plain.function, dynamics, function)
