r"""All fixed points of a threshold-linear network, chamber by chamber.

In the chamber of the active set sigma the one candidate is x* = -M^-1 q, and q is affine in
the input. So are then x* and what is rectified there,

    x* = G i + g,    u(x*) = U i + v,

with matrices that depend on sigma alone; x* is a fixed point where u_j(x*) > 0 for exactly
the neurons of sigma. One product of all U with the input tests every chamber.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._described import Described, number_of
from .._types import ActiveSet
from ..networks import RateNetwork, with_matrix
from ._flow import Flow
from ._linalg import alone, exactly, inverse
from ._problem import as_states
from ._rounding import on_threshold
from .certificates import all_sets, chamber_drift, chamber_matrix, spectral_abscissa

LARGEST = 16
"""Networks up to this size can be enumerated: 65,536 chambers."""


class Enumeration(eqx.Module, Described):
    """All fixed points of each input, in the order of their active sets.

    Inputs have different numbers of fixed points: k is the largest, and `valid` says which
    of the k places hold one; the others hold NaN.

    - `state`: shape `(..., k, n)`.
    - `rates`: the network's output there, shape `(..., k, n)`.
    - `abscissa`: largest real part of the Jacobian's eigenvalues there, in 1/time, `(..., k)`.
    - `stable`: whether that is negative, beyond the marginal band of `Flow()`, in every chamber
      that the point touches, `(..., k)`.
    - `valid`: shape `(..., k)`.
    - `active`: the active set, shape `(..., k, n)`.

    **Example:**

    ```python
    points = eqb.enumerate_fixed_points(eqb.two_neuron(), jnp.asarray([[0.3, 0.2], [0.3, -0.2]]))
    print(points.valid.sum(axis=1), points.active[0, 0])
    # > [3 1] [ True False]
    ```
    """

    state: Float[Array, "*batch k n"]
    rates: Float[Array, "*batch k n"]
    abscissa: Float[Array, "*batch k"]
    stable: Bool[Array, "*batch k"]
    valid: Bool[Array, "*batch k"]
    active: Bool[Array, "*batch k n"]

    def describe(self) -> str:
        """How many fixed points, and how many of them are stable, in one line."""
        valid, stable = np.asarray(self.valid), np.asarray(self.valid & self.stable)
        words = f"{number_of(int(valid.sum()), 'fixed point')}, {int(stable.sum())} stable"
        return words if valid.ndim == 1 else f"{words}, of {valid[..., 0].size} inputs"


class Candidates(eqx.Module):
    """The affine maps from an input to every chamber's candidate."""

    state_gain: Float[Array, "sets n n"]  # G
    state_rest: Float[Array, "sets n"]  # g
    drive_gain: Float[Array, "sets n n"]  # U
    drive_rest: Float[Array, "sets n"]  # v
    inverse: Float[Array, "sets n n"]  # -M^-1
    abscissa: Float[Array, " sets"]
    active: Bool[Array, "sets n"]

    def __init__(self, network: RateNetwork):
        self.active = jnp.asarray(all_sets(network.num_neurons))
        tables = jax.lax.map(lambda sigma: _candidate(network, sigma), self.active, batch_size=256)
        gain, rest, drive_gain, drive_rest, inverse, abscissa = tables
        self.state_gain, self.state_rest, self.inverse = gain, rest, inverse
        self.drive_gain, self.drive_rest, self.abscissa = drive_gain, drive_rest, abscissa


def _candidate(network: RateNetwork, sigma: ActiveSet):
    matrix = chamber_matrix(network, sigma)
    abscissa = spectral_abscissa(matrix / network.tau[:, None])
    back = -inverse(matrix)
    eye = jnp.eye(sigma.size, dtype=matrix.dtype)

    def state(i):
        return back @ chamber_drift(network, sigma, jnp.zeros_like(i), i)

    def drive(i):
        return network.drive(state(i), i)

    def affine(map):
        rest = map(jnp.zeros_like(eye[0]))
        return jax.vmap(lambda e: map(e) - rest, out_axes=1)(eye), rest

    return *affine(state), *affine(drive), back, abscissa


def enumerate_fixed_points(network: RateNetwork, inputs: Float[Array, "*batch k"]) -> Enumeration:
    r"""All fixed points of each input, stable or not.

    **Arguments:**

    - `network`: threshold-linear, of at most 16 neurons: each of the 2^n active sets is tested.
    - `inputs`: shape `(..., k)`; k = n without `input_weights`.

    **Returns:** an `Enumeration`. An input that holds NaN or infinity has no fixed point.

    Fixed points are exact to rounding. A candidate that lies on a threshold to rounding may
    be counted in neither or in both of the chambers that meet there, and a chamber whose
    linear system is singular, where fixed points are none or a continuum, gives none: both
    happen for inputs of measure zero.

    **Raises:** `ValueError` for another transfer function, more than 16 neurons, or inputs of
    the wrong width, and inside `jax.jit`, where k cannot be known.

    Hahnloser, Seung and Slotine, Neural Computation 15:621 (2003),
    doi:10.1162/089976603321192103.

    **Example:**

    ```python
    points = eqb.enumerate_fixed_points(eqb.two_neuron(), jnp.asarray([0.3, 0.2]))
    print(points.state.shape, points.stable)
    # > (3, 2) [ True  True False]
    ```
    """
    network = check_enumerable(network)
    inputs = as_states("inputs", inputs, network.num_inputs)
    why = "their fixed points are counted"
    _checks.outside_of_jit("inputs", inputs, network, why=why, error=ValueError)
    dtype = jnp.result_type(network.weights, inputs)
    *batch, k = inputs.shape
    count, n = math.prod(batch), network.num_neurons
    network = network.astype(dtype)
    flat = network.received(inputs.reshape(count, k).astype(dtype))
    network = network.driven_directly
    candidates = tabulate(network)
    found, k = None, min(4, 2**n)
    while found is None or k < int(found[1]):
        k = k if found is None else int(found[1])
        found = _enumerate(network, candidates, flat, k)
    points, most = found
    points = jax.tree.map(lambda a: a[:, : max(1, int(most))], points)
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), points)


def check_enumerable(network: Any) -> RateNetwork:
    """The network with its weights in an array; raise unless every chamber can be visited."""
    if not isinstance(network, RateNetwork):
        _checks.fail("network", "be a RateNetwork", f"is {network!r}", TypeError)
    if not network.is_threshold_linear:
        must = "be threshold-linear (find_slow_points searches smooth networks)"
        _checks.fail("network", must, f"has the transfer {network.transfer}")
    if network.num_neurons > LARGEST:
        must = (
            f"have at most {LARGEST} neurons, each of whose 2^n active sets is visited; for larger "
            "ones settle an input from many starts, find_fixed_points(network, inputs, x0=starts)"
        )
        _checks.fail("network", must, f"has {network.num_neurons}")
    return with_matrix("network", network)


@alone
@eqx.filter_jit
def tabulate(network: RateNetwork) -> Candidates:
    with exactly():
        return Candidates(network)


@eqx.filter_jit
def _enumerate(
    network: RateNetwork, candidates: Candidates, inputs: Float[Array, "m n"], k: int
) -> tuple[Enumeration, Int[Array, ""]]:
    """The first k fixed points of each input, and the largest number that any has."""
    sets, n = candidates.active.shape
    band = Flow().marginal_abscissa(network)

    def one(i):
        drive = (candidates.drive_gain @ i) + candidates.drive_rest
        genuine = jnp.all(((drive > 0) == candidates.active) & jnp.isfinite(drive), axis=1)
        first, which = jax.lax.top_k(genuine.astype(jnp.int32), k)
        valid = first > 0
        state = candidates.state_gain[which] @ i + candidates.state_rest[which]

        def refine(x, back):
            return x + back @ network.drift(x, i)

        state = jax.vmap(refine)(state, candidates.inverse[which])
        state = jnp.where(valid[:, None], state, jnp.nan)
        abscissa = jnp.where(valid, candidates.abscissa[which], jnp.nan)
        # On a threshold every chamber beside it has to be stable.
        border = jax.vmap(lambda x: on_threshold(network, x, i, network.scale(x, i)))(state)
        beside = jnp.all(
            (candidates.active == candidates.active[which][:, None]) | border[:, None], axis=2
        )
        stable = jnp.all((candidates.abscissa < -band) | ~beside, axis=1) & (abscissa < -band)
        points = Enumeration(
            state, jax.vmap(network.rates)(state), abscissa, stable, valid,
            candidates.active[which] & valid[:, None],
        )  # fmt: skip
        return points, jnp.sum(genuine, dtype=jnp.int32)

    with exactly():
        # As many at once as fit in a few megabytes.
        size = max(1, 2**20 // (sets * n))
        points, counts = jax.lax.map(one, inputs, batch_size=size)
    return points, jnp.max(counts, initial=0)


def is_unique(network: RateNetwork) -> bool:
    r"""Whether every input has exactly one fixed point, proven.

    In all three conventions the fixed points of an input are the solutions of a linear
    complementarity problem with the matrix I - W, which has exactly one solution for every
    input if, and only if, I - W is a P-matrix: all of its 2^n - 1 principal minors are
    positive. Nothing is said about stability: the one fixed point may be unstable, and its
    trajectories may cycle.

    **Arguments:**

    - `network`: threshold-linear, of at most 16 neurons.

    **Returns:** True if all minors are positive beyond rounding; False if one is not: then
    some inputs have several fixed points or none, or rounding hides which.

    **Raises:** as `enumerate_fixed_points`.

    Murty, Linear Algebra and its Applications 5:65 (1972), doi:10.1016/0024-3795(72)90019-5.

    **Example:**

    ```python
    print(eqb.is_unique(eqb.two_neuron(w_cross=-0.2)), eqb.is_unique(eqb.two_neuron(w_cross=-1.0)))
    # > True False
    ```
    """
    network = check_enumerable(network)
    why = "the answer is a Python bool"
    _checks.outside_of_jit("network", network, why=why, error=ValueError)
    n = network.num_neurons
    matrix = np.eye(n) - np.asarray(network.weights, np.float64)
    sets = all_sets(n)
    # A principal minor is the determinant with identity rows where a neuron is left out.
    for part in np.array_split(sets, max(1, len(sets) // 4096)):
        masked = np.where(part[:, :, None] & part[:, None, :], matrix, np.eye(n))
        sign, size = np.linalg.slogdet(masked)
        # Rounding may change a determinant by n eps times the product of its rows' norms.
        rows = np.log(np.linalg.norm(masked, axis=2)).sum(axis=1)
        if not np.all((sign > 0) & (size > np.log(16 * n * np.finfo(np.float64).eps) + rows)):
            return False
    return True
