"""`linearise`: the dynamics close to a point."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .. import _checks
from ..fixed_points._problem import as_problem
from ..networks import AbstractDynamics, is_map, with_matrix


class Linearisation(eqx.Module):
    r"""The dynamics close to points x: d' = J d with J = d(dx/dt)/dx, or d_next = A d with
    A = dF/dx for a map.

    - `eigenvalues`: of J, in 1/time, or of A; shape `(..., n)`, slowest decay or fastest growth
      first.
    - `right`: right eigenvectors v as columns of length one, shape `(..., n, n)`: the modes.
    - `left`: left eigenvectors y as rows, with y'v = 1, shape `(..., n, n)`: what excites each.
      NaN where two eigenvectors are the same up to rounding.
    - `time_constants`: -1 / Re(lambda), in time, or -1 / log|mu|, in steps, shape `(..., n)`;
      negative for modes that grow.
    - `gain`: d rates / d inputs at the point, shape `(..., outputs, k)`.
    - `henrici`: sqrt(|J|^2 - sum |lambda|^2) / |J| in the Frobenius norm: 0 for a normal matrix, 1
      for one that only passes on what it receives.
    - `numerical_abscissa`: the fastest growth of any deviation at the start: the largest eigenvalue
      of (J + J') / 2, or log |A| for a map; above the spectral abscissa where small deviations grow
      before they decay.

    L. N. Trefethen and M. Embree, Spectra and Pseudospectra (2005), for the last two.

    **Example:**

    ```python
    chain = eqb.as_map(lambda x, i: jnp.asarray([[0.5, 3.0], [0.0, 0.25]]) @ x + i)
    near = eqb.linearise(chain, jnp.zeros(2), jnp.zeros(2))
    print([f"{t:.2f}" for t in near.time_constants], f"{near.henrici:.2f}", near.num_unstable)
    # > ['1.44', '0.72'] 0.98 0
    ```
    """

    eigenvalues: Complex[Array, "*batch n"]
    right: Complex[Array, "*batch n n"]
    left: Complex[Array, "*batch n n"]
    time_constants: Float[Array, "*batch n"]
    gain: Float[Array, "*batch outputs k"]
    henrici: Float[Array, "*batch"]
    numerical_abscissa: Float[Array, "*batch"]

    @property
    def num_unstable(self) -> Array:
        """How many modes grow."""
        return jnp.sum((self.time_constants < 0) & jnp.isfinite(self.time_constants), axis=-1)


def linearise(
    network: AbstractDynamics | Callable, found: Any, inputs: Float[Array, "*batch k"]
) -> Linearisation:
    """Eigenvalues and modes, time constants, gain and non-normality at points, one or a batch.

    **Arguments:**

    - `network`: any dynamics or map.
    - `found`: `FixedPoints`, `SlowPoints`, or states, shape `(..., n)`.
    - `inputs`: shape `(..., k)`, or any that broadcasts.

    **Returns:** a `Linearisation`. Eigenvalues are LAPACK's, in double precision, on the host; rows
    that are not finite are NaN.

    **Raises:** as `find_fixed_points`, for arguments of shapes that do not fit; `TypeError` inside
    `jax.jit`.

    **Example:**

    ```python
    inputs = jnp.asarray([[0.3, 0.2], [0.3, 0.3]])
    found = eqb.find_fixed_points(eqb.two_neuron(), inputs)
    near = eqb.linearise(eqb.two_neuron(), found, inputs)
    print(near.num_unstable, near.gain.shape)
    # > [0 1] (2, 2, 2)
    ```
    """
    _checks.outside_of_jit("found", network, found, inputs)
    state = jnp.asarray(getattr(found, "state", found))
    inputs = jnp.asarray(inputs)
    batch = np.broadcast_shapes(state.shape[:-1], inputs.shape[:-1])
    inputs = jnp.broadcast_to(inputs, (*batch, *inputs.shape[-1:]))
    network, inputs, state = as_problem(with_matrix("network", network), inputs, state)
    assert state is not None
    rows = state.reshape(-1, state.shape[-1]), inputs.reshape(-1, inputs.shape[-1])
    jacobian, response, readout = (np.asarray(a, float) for a in _derivatives(network, *rows))
    parts = _taken_apart(jacobian, response, readout, is_map(network))
    dtype = state.dtype
    kinds = {True: np.result_type(dtype, np.complex64), False: dtype}
    arrays = {
        name: jnp.asarray(a.reshape((*batch, *a.shape[1:])), kinds[np.iscomplexobj(a)])
        for name, a in parts.items()
    }
    return Linearisation(**arrays)


@eqx.filter_jit
def _derivatives(network: AbstractDynamics, x: Array, i: Array) -> tuple[Array, Array, Array]:
    """J, d(dx/dt)/di and d rates/dx, of every row."""

    def one(x, i):
        zero = jnp.zeros((), x.dtype)
        response = jax.jacfwd(lambda i: network.vector_field(zero, x, i))(i)
        return network.jacobian(x, i), response, jax.jacfwd(network.rates)(x)

    return jax.vmap(one)(x, i)


def _taken_apart(
    jacobian: np.ndarray, response: np.ndarray, readout: np.ndarray, iterated: bool
) -> dict[str, np.ndarray]:
    m, n = jacobian.shape[:2]
    sound: Any = np.isfinite(jacobian).all(axis=(1, 2))
    jacobian = np.where(sound[:, None, None], jacobian, np.eye(n))
    matrix = jacobian + np.eye(n) if iterated else jacobian
    values: Any
    values, right = np.linalg.eig(matrix)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.log(np.abs(values)) if iterated else values.real
        order = np.argsort(-rates, axis=1, kind="stable")
        values, rates = (np.take_along_axis(a, order, 1) for a in (values, rates))
        right = np.take_along_axis(right, order[:, None], 2).astype(complex)
        size = np.linalg.norm(matrix, axis=(1, 2))
        rest = size**2 - np.sum(np.abs(values) ** 2, axis=1)
        rest = np.where(rest > 4 * n * np.finfo(float).eps * size**2, rest, 0)
        henrici = np.sqrt(rest) / np.where(size > 0, size, 1)
        symmetric = (jacobian + np.swapaxes(jacobian, 1, 2)) / 2
        first = np.linalg.eigvalsh(symmetric)[:, -1]
        if iterated:
            first = np.log(np.linalg.norm(matrix, 2, axis=(1, 2)))
        constants = -1 / rates
    left = np.full_like(right, np.nan)
    gain = np.full((m, readout.shape[1], response.shape[2]), np.nan)
    for k in np.flatnonzero(sound):
        if np.linalg.cond(right[k]) < 1 / np.finfo(float).eps:
            left[k] = np.linalg.inv(right[k])
        if np.linalg.cond(jacobian[k]) < 1 / np.finfo(float).eps:
            gain[k] = -readout[k] @ np.linalg.solve(jacobian[k], response[k])
    parts = {
        "eigenvalues": values.astype(complex), "right": right, "left": left,
        "time_constants": constants, "gain": gain, "henrici": henrici, "numerical_abscissa": first,
    }  # fmt: skip
    for a in parts.values():
        a[~sound] = np.nan
    return parts
