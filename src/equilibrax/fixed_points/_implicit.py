r"""Derivatives of fixed points, by the implicit function theorem.

Where x* is a stable fixed point, F(x*, i, theta) = 0 defines it as a function of the input and
of the network's parameters theta, with M = dF/dx = T J and

    dx* = -M^-1 (dF/di di + dF/dtheta dtheta).

The trajectory is not differentiated: memory does not grow with its length. The rule for dx*
holds x* itself, so that it can be differentiated again.

The abscissa's derivative is that of a simple eigenvalue lambda of J, with right and left
eigenvectors v and y,

    d lambda = y' dJ v / y' v ,    dJ along dx*, di and dtheta,

of which the real part is taken; for a map x <- F(x, i) it is that of log mu, mu being the largest
multiplier, and d log mu = d mu / mu. Silent neurons of threshold-linear networks have the
eigenvalue -1/tau each: where these are equal and lead, it is one of several possible changes.
J. R. Magnus, Econometric Theory 1:179 (1985),
doi:10.1017/S0266466600011129.

Both rules are written as linear systems. JAX solves them only for the derivatives that are
asked for, and with the transposed matrix in reverse mode; no matrix is kept from the way forward.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from .. import _checks
from .._devices import put
from ..networks import AbstractDynamics, is_map, is_structured
from ._jacobian import solve_jacobian
from ._linalg import eigenvectors, exactly, inverse
from ._result import FixedPoints, in_words
from ._speed import NUMBERS_AT_ONCE
from .certificates import all_sets, chamber_index, chamber_matrix, has_table
from .stepping import in_lanes


@eqx.filter_jit
def attach_derivatives(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    found: FixedPoints,
) -> FixedPoints:
    """`found`, whose `state`, `rates` and `abscissa` now depend on the network and the inputs.

    Elsewhere than on a stable fixed point the derivative is zero.
    """
    batch = found.outcome.shape
    flat = jax.tree.map(
        lambda a: a.reshape(-1, *a.shape[len(batch) :]), (jax.lax.stop_gradient(found), inputs)
    )
    kept, i = flat
    # Elsewhere, a row that is sound: no derivative can reach it, and no NaN can leave it.
    stable = kept.stable[:, None]
    first = jnp.argmax(kept.stable)
    x = jnp.where(stable, kept.state, jnp.where(stable[first], kept.state[first], 0))
    i = jnp.where(stable, i, jnp.where(stable[first], jax.lax.stop_gradient(i[first]), 0))
    with exactly():
        x = _fixed_point(network, i, Where(x, kept.stable))
        rates = jax.vmap(network.rates)(x)
        abscissa = _abscissa(network, i, x, Where(kept.abscissa, kept.stable))
    answer = eqx.tree_at(
        lambda f: (f.state, f.rates, f.abscissa),
        kept,
        (
            jnp.where(stable, x, kept.state),
            jnp.where(stable, rates, kept.rates),
            jnp.where(kept.stable, abscissa, kept.abscissa),
        ),
    )
    return jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), answer)


def with_derivatives(
    network: AbstractDynamics, inputs: Float[Array, "*batch k"], found: FixedPoints
) -> FixedPoints:
    """The same where the outcome is known, with a warning if all derivatives are zero."""
    _warn_if_none_is_stable(found)
    if not _checks.is_concrete(found.outcome) or len(found.outcome.devices()) == 1:
        return attach_derivatives(network, inputs, found)
    # On one device: those of a CPU would call LAPACK at the same time.
    homes = jax.tree.map(lambda a: a.sharding, found)
    home = min(found.outcome.devices(), key=lambda device: device.id)
    network, inputs, found = put((network, inputs, found), home)
    return jax.tree.map(jax.device_put, attach_derivatives(network, inputs, found), homes)


def _warn_if_none_is_stable(found: FixedPoints) -> None:
    """Warn where nothing has settled: every derivative is zero."""
    if _checks.is_concrete(found.outcome) and found.outcome.size and not bool(found.stable.any()):
        warnings.warn(
            "No input has a stable fixed point, so that every derivative is zero: "
            f"{in_words(found.counts)}.",
            stacklevel=5,
        )


class Where(eqx.Module):
    """Values that are known already, and the rows on stable fixed points."""

    value: Float[Array, "m ..."]
    stable: Bool[Array, " m"]


@eqx.filter_custom_jvp
def _fixed_point(
    network: AbstractDynamics, i: Float[Array, "m k"], known: Where
) -> Float[Array, "m n"]:
    """x*, whose value is known."""
    del network, i
    return known.value


@_fixed_point.def_jvp
def _fixed_point_jvp(primals, tangents):
    network, i, known = primals
    x = _fixed_point(network, i, known)

    def drift(network, i, x):
        return jax.vmap(network.drift)(x, i)

    push = eqx.filter_jvp(lambda network, i: drift(network, i, x), (network, i), tangents[:2])[1]

    def product(dx):
        return jax.jvp(lambda x: drift(network, i, x), (x,), (dx,))[1]

    dx = jax.lax.custom_linear_solve(
        product,
        jnp.where(known.stable[:, None], -push, 0),
        lambda _, b: _solve(network, i, x, b, transpose=False),
        lambda _, b: _solve(network, i, x, b, transpose=True),
    )
    return x, dx


def _solve(network: AbstractDynamics, i, x, b, *, transpose: bool) -> Float[Array, "m n"]:
    """M^-1 b, or its transpose, row by row; from one inverse for each chamber if there are few."""
    if has_table(network):
        sets = jnp.asarray(all_sets(network.num_neurons))
        table = jax.vmap(lambda sigma: inverse(chamber_matrix(network, sigma)))(sets)
        rows = table[chamber_index(in_lanes(network).drive(x.T, i.T) > 0)]
        return jnp.einsum("mkj,mk->mj" if transpose else "mjk,mk->mj", rows, b)

    return _row_by_row(partial(solve_jacobian, transpose=transpose), network, x, i, b)


def _row_by_row(one: Callable, network: AbstractDynamics, *rows: Array) -> Any:
    """`one(network, *row)` for each row, as many at a time as fit into memory."""
    n = network.num_neurons
    size = max(1, NUMBERS_AT_ONCE // (n if is_structured(network) else n**2))
    if len(rows[0]) <= size:
        return jax.vmap(partial(one, network))(*rows)
    return jax.lax.map(lambda row: one(network, *row), rows, batch_size=size)


@eqx.filter_custom_jvp
def _abscissa(
    network: AbstractDynamics, i: Float[Array, "m k"], x: Float[Array, "m n"], known: Where
) -> Float[Array, " m"]:
    """The spectral abscissa at x, whose value is known."""
    del network, i, x
    return known.value


@_abscissa.def_jvp
def _abscissa_jvp(primals, tangents):
    network, i, x, known = primals
    if is_structured(network):
        # Its matrix, whose eigenvectors are needed, is not built: no derivative is known.
        total = sum(jnp.sum(tangent) for tangent in jax.tree.leaves(tangents[:3]))
        return known.value, jnp.nan * total * jnp.ones_like(known.value)
    changes = tangents[:3]
    moved = jax.tree.map(lambda d: d is not None, changes, is_leaf=lambda d: d is None)
    arrays, rest = eqx.partition((network, i, x), moved)

    def change(changes):
        """d lambda, of all rows."""

        def push(arrays, along):
            network, i, x = eqx.combine(arrays, rest)

            def field(x):
                return jax.vmap(network.drift)(x, i) / network.tau

            return jax.jvp(field, (x,), (along,))[1]

        right, left = _row_by_row(_eigenpair, network, x, i)
        real, imaginary = (
            jax.jvp(lambda arrays: push(arrays, v), (arrays,), (changes,))[1]  # noqa: B023
            for v in (right.real, right.imag)
        )
        along = jnp.sum(left * (real + 1j * imaginary), axis=1)
        return jnp.where(known.stable, along.real, 0)

    # d lambda - change(changes) = 0, with the changes themselves as unknowns behind it; in one
    # array, all of which is linear in them. The matrix itself is used by second derivatives
    # alone, which would take those of the eigenvectors: they are NaN.
    flat, unravel = ravel_pytree(changes)
    m = len(known.value)

    def product(unknown):
        return unknown * _known_once(arrays)

    def forwards(_, b):
        value, flat = b[:m], b[m:]
        return jnp.concatenate([value + change(unravel(flat)), flat])

    def backwards(_, b):
        value, flat = b[:m], b[m:]
        back = jax.linear_transpose(lambda flat: change(unravel(flat)), flat)(value)[0]
        return jnp.concatenate([value, flat + back])

    b = jnp.concatenate([jnp.zeros_like(known.value) * flat[0], flat])
    return known.value, jax.lax.custom_linear_solve(product, b, forwards, backwards)[:m]


@jax.custom_jvp
def _known_once(arrays: PyTree[Array]) -> Float[Array, ""]:
    """One, whose derivative is not known."""
    return jnp.ones((), jax.tree.leaves(arrays)[0].dtype)


@_known_once.defjvp
def _(primals, tangents):
    one = _known_once(*primals)
    total = jnp.sum(jnp.stack([jnp.sum(tangent) for tangent in jax.tree.leaves(tangents)]))
    return one, (jnp.nan * total).astype(one.dtype)


def _eigenpair(network: AbstractDynamics, x, i):
    """The right eigenvector v of the leading eigenvalue of J, and y / y'v; of a map, those of the
    largest multiplier mu, and y / mu y'v for the change of log |mu|."""
    jacobian = network.jacobian(x, i)
    if not is_map(network):
        return eigenvectors(jacobian)[1:]
    value, right, left = eigenvectors(jacobian + jnp.eye(x.size, dtype=x.dtype), jnp.abs)
    return right, left / value
