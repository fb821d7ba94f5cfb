"""`AbstractDynamics`: an equation of motion for one state and one input."""

import abc
from collections.abc import Callable
from typing import Any, Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, Float

from .. import _checks
from .._types import Matrix, Scalar, Vector


class AbstractDynamics(eqx.Module):
    r"""An equation of motion $\dot x = f(x, i)$ for a state x, shape (n,), and an input i.

    Subclass it for dynamics of your own, written for one state and one input.

    - `tau`: the time constants, shape (n,), or one number for all components. The residual of
      a fixed point is max_j |tau_j dx_j/dt|, in the units of x; the default end of time in `Flow`
      is a multiple of them.
    - `vector_field`: f, in Diffrax's signature. It must not depend on t, and must be smooth at
      fixed points, for Newton's method and the eigenvalues of its Jacobian.
    - `rates`: the output at state x, a vector of any length; x itself if not overridden.
    - `scale`, `num_inputs`: as documented below; the defaults suit most dynamics.

    Arrays among the fields are leaves, and `find_fixed_points` is differentiable in them.

    **Example:**

    ```python
    class Switch(eqb.AbstractDynamics):
        tau: jax.Array

        def vector_field(self, t, x, i):
            return (x - x**3 + i) / self.tau

    found = eqb.find_fixed_points(Switch(tau=jnp.ones(1)), jnp.asarray([[-6.0], [6.0]]))
    print([f"{x:.2f}" for x in found.state[:, 0]])
    # > ['-2.00', '2.00']
    ```
    """

    tau: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def vector_field(self, t: Any, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""$\dot x$ in Diffrax's signature: `ODETerm(dynamics.vector_field)`, `args=i`."""

    def rates(self, x: Vector) -> Float[Array, " outputs"]:
        """The output at state x."""
        return x

    @property
    def num_neurons(self) -> int:
        """n, the number of components of the state."""
        return self.tau.shape[0]

    @property
    def num_inputs(self) -> int:
        """The length of an input, for drawing inputs; n if not overridden."""
        return self.num_neurons

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the time constants, states and inputs."""
        return self.tau.dtype

    @property
    def fastest(self) -> Scalar:
        """A time in which the state changes little; the first step is a fraction of it."""
        return jnp.min(self.tau) / 10

    def astype(self, dtype) -> Self:
        """A copy with every floating-point array in `dtype`."""
        arrays, rest = eqx.partition(self, eqx.is_inexact_array)
        if all(a.dtype == dtype for a in jax.tree.leaves(arrays)):
            return self
        return eqx.combine(jax.tree.map(lambda a: a.astype(dtype), arrays), rest)

    def drift(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""$\tau \dot x$, in units of x."""
        return self.tau * self.vector_field(jnp.zeros((), x.dtype), x, i)

    def jacobian(self, x: Vector, i: Float[Array, " k"]) -> Matrix:
        r"""$J = \partial \dot x / \partial x$, shape `(n, n)`, in 1/time."""
        return jax.jacfwd(self.vector_field, argnums=1)(jnp.zeros((), x.dtype), x, i)

    def scale(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        r"""The unit of each component's absolute tolerances, in units of x: the largest of $|x|$,
        $|\tau \dot x|$, and half of what the terms of its equation add up to. These are taken
        from some products of the Jacobians and x and i with other signs, in which the terms that
        cancel do not. Override it for a unit of your own; one number serves for all components."""

        def add_up(function, y):
            signs = 1 - 2.0 * (np.arange(len(y)) // 2 ** np.arange(4)[:, None] % 2)
            ways = y * jnp.asarray(signs, y.dtype)
            sums = jax.vmap(lambda way: jax.jvp(function, (y,), (way,))[1])(ways)
            return jnp.max(jnp.abs(sums), axis=0)

        drift = jnp.abs(self.drift(x, i))
        terms = add_up(lambda x: self.drift(x, i), x) + add_up(lambda i: self.drift(x, i), i)
        return jnp.maximum(jnp.maximum(jnp.abs(x), drift), terms / 2)

    def magnitude(self, x: Vector, i: Float[Array, " k"]) -> Vector:
        """Sum of the absolute values of the terms of each component of `drift`, which bounds its
        rounding error. The terms are those of the linearisation."""
        by_x = jnp.abs(self.jacobian(x, i) * self.tau[:, None])
        by_i = jnp.abs(jax.jacfwd(self.drift, argnums=1)(x, i))
        return by_x @ jnp.abs(x) + by_i @ jnp.abs(i) + jnp.abs(x)


class PlainDynamics(AbstractDynamics):
    """Dynamics from a function of (t, x, i), an output function and time constants."""

    function: Callable
    output: Callable
    tau: Float[Array, " n"]

    def vector_field(self, t, x, i):
        return self.function(t, x, i)

    def rates(self, x):
        return self.output(x)


def _same(x: Array) -> Array:
    return x


def as_dynamics(
    name: str, value: Any, width: int | None = None, dtype: Any = None
) -> AbstractDynamics:
    """Dynamics with an array of n time constants.

    `AbstractDynamics` with n time constants are returned as they are. A single time constant is
    repeated `width` times; a plain function gets `width` time constants of 1, in `dtype`.

    **Raises:** `TypeError` for other values; `ValueError` for time constants of another shape, or
    that are not positive.
    """
    if not isinstance(value, AbstractDynamics):
        if not callable(value) or isinstance(value, type) or width is None:
            must = "be a RateNetwork or other AbstractDynamics"
            must += "" if width is None else ", or a function of (t, x, i)"
            _checks.fail(name, must, f"is {value!r}", TypeError)
        # A Partial makes a plain function part of the pytree's structure, without leaves.
        function = value if isinstance(value, eqx.Module) else jax.tree_util.Partial(value)
        return PlainDynamics(
            function=cast(Callable, function),
            output=cast(Callable, jax.tree_util.Partial(_same)),
            tau=jnp.ones((width,), dtype),
        )
    tau = _checks.floating(f"{name}.tau", value.tau)
    if tau.ndim > 1 or (tau.ndim == 0 and width is None):
        _checks.fail(f"{name}.tau", "have shape (n,)", f"has shape {tau.shape}")
    if tau.ndim == 1 and isinstance(value.tau, jax.Array):
        return value
    _checks.positive(f"{name}.tau", tau)
    return PlainDynamics(
        function=cast(Callable, value.vector_field),
        output=cast(Callable, value.rates),
        tau=tau if tau.ndim else jnp.broadcast_to(tau, (cast(int, width),)),
    )


def check_vector_field(name: str, dynamics: AbstractDynamics, num_inputs: int) -> AbstractDynamics:
    """Require an autonomous vector field from n components and `num_inputs` inputs to n components.

    A plain function may close over traced arrays: in the dynamics returned they are leaves.

    **Raises:** `ValueError` or `TypeError`, by tracing alone.
    """
    n, dtype = dynamics.num_neurons, dynamics.dtype
    place = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((), (n,), (num_inputs,))]
    try:
        program, out = jax.make_jaxpr(dynamics.vector_field, return_shape=True)(*place)
    except Exception as error:
        must = f"take a state of shape ({n},) and an input of shape ({num_inputs},)"
        without = "" if num_inputs != n else "; without `x0` a state is as long as an input"
        _checks.fail(f"{name}.vector_field", must, f"calling it failed: {error}{without}")
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != (n,):
        shape = f"shape {out.shape}" if isinstance(out, jax.ShapeDtypeStruct) else f"{out!r}"
        without = "" if num_inputs != n else "; if the state is not as long as an input, pass `x0`"
        must = f"return an array of shape ({n},)"
        _checks.fail(f"{name}.vector_field", must, f"returns {shape}{without}")
    if out.dtype != dtype:
        must = f"keep the dtype {dtype} of state and input"
        _checks.fail(f"{name}.vector_field", must, f"returns {out.dtype}", TypeError)
    if dce_jaxpr(program.jaxpr, [True])[1][0]:
        _checks.fail(
            f"{name}.vector_field",
            "be a function of x and i alone, since only such dynamics have fixed points",
            "depends on t; fix the time, or pass what varies with it as the input",
        )
    own = {id(leaf) for leaf in jax.tree.leaves(dynamics)}
    if all(_checks.is_concrete(a) or id(a) in own for a in program.consts):
        return dynamics
    if not isinstance(dynamics, PlainDynamics):
        _checks.fail(
            f"{name}.vector_field",
            "have all traced arrays among the fields of its class",
            "closes over others, whose derivatives would be lost",
        )
    function = eqx.filter_closure_convert(dynamics.function, *place)
    return eqx.tree_at(lambda plain: plain.function, dynamics, function)
