"""`find_fixed_points`: from inputs to verdicts."""

from collections.abc import Callable

from jaxtyping import Array, Float

from .. import _checks
from ..networks import AbstractDynamics
from ._driver import settle_chunks
from ._flow import Flow, as_flow
from ._implicit import with_derivatives
from ._invariant import without_crossings
from ._problem import as_problem, without_derivatives
from ._result import FixedPoints, raise_unsettled
from ._traced import settle_traced


def find_fixed_points(
    network: AbstractDynamics | Callable,
    inputs: Float[Array, "*batch k"],
    *,
    x0: Float[Array, "..."] | None = None,
    method: Flow | None = None,
    throw: bool = False,
    progress: bool = False,
) -> FixedPoints:
    r"""Settle each input: follow its trajectory from `x0` and say how it ended.

    The fixed point $x^*$ is the one that the trajectory of $\tau \dot x = F(x, i)$
    reaches, not any root of F. The state returned is exact to rounding, the residual is recomputed
    there, and stability is proven, probed, or decided by the Jacobian's spectrum: `evidence` says
    which.

    **Arguments:**

    - `network`: a `RateNetwork` of n neurons; other `AbstractDynamics`; or a function of (t, x, i)
      that gives dx/dt, with time constants of 1 and as many components as `x0` has, or else
      the inputs. A new function is a new program to compile: define it once.
    - `inputs`: shape `(..., n)` for a `RateNetwork` without `input_weights`, `(..., k)` for others;
      `(5,)` gives results of shape `()`, `(100, 5)` of shape `(100,)`, `(0, 5)` of shape `(0,)`.
    - `x0`: initial states, any shape that broadcasts to `(..., n)`; zeros if absent.
    - `method`: a `Flow`; `Flow()` if absent.
    - `throw`: raise unless every input reached a stable fixed point.
    - `progress`: show a progress bar, unless the standard error is not a terminal.

    **Returns:** a `FixedPoints`, one `Outcome` for each input. An input that holds NaN or
    infinity is `INVALID` and changes nothing for the others.

    **Raises:** `TypeError` for a network, inputs, starts or a method of another kind or dtype, and
    for a function that JAX cannot trace; `ValueError` for shapes that do not fit, a vector field
    that depends on t or gives another shape, and a proof or spectrum that would not fit into
    memory; all before anything is settled. Under `throw=True` `FixedPointError`, once, with the
    counts; inside `jax.jit`, where no count is known, Equinox's `EquinoxRuntimeError`, when the
    program runs.

    It composes with `jax.jit`, `jax.vmap` and `jax.grad`, forward and reverse: `state` and `rates`
    carry the derivatives of the implicit function theorem in the network and the inputs, of any
    order, and `abscissa` its first ones, as long as the leading eigenvalue is simple. Where the
    outcome is not `STABLE` all derivatives are zero, and there is a warning if that is everywhere.
    On a threshold, a neuron counts as silent. A batch goes over all cores or local accelerators;
    inside `jax.jit` and `jax.vmap` it is one program on one of them. `jax.vmap` over inputs or
    starts makes one batch of them; over networks, one network follows the other.

    **Example:**

    ```python
    network, i = eqb.two_neuron(), jnp.asarray([0.3, 0.2])
    found = eqb.find_fixed_points(network, i)
    print(eqb.Outcome(int(found.outcome)).name, found.rates > 0)
    # > STABLE [ True False]
    gradient = jax.grad(lambda net: eqb.find_fixed_points(net, i).rates.sum())(network)
    print(f"{gradient.weights[0, 0]:.2f}")
    # > 1.20
    ```
    """
    method = as_flow(method)
    network, inputs, x0 = as_problem(network, inputs, x0)
    # No derivative enters the trajectory: under `jax.grad` the same compiled program runs.
    problem = without_derivatives((network, inputs, x0))
    if _checks.all_concrete(problem):
        found = settle_chunks(*problem, method, progress)
    else:
        found = settle_traced(*problem, method)
    found = without_crossings(*problem, found)
    if not _checks.all_concrete(network, inputs):
        found = with_derivatives(network, inputs, found)
    return raise_unsettled(found) if throw else found
