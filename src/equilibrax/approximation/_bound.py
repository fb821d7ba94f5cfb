r"""A proven bound on an approximation's error over a box of inputs.

Both maps are piecewise affine. Within the chamber of a stable active set the rates at the fixed
point are affine in the input, r = R i + c, on the polyhedron of inputs whose fixed point lies in
that chamber; the approximation is affine where its active units stay the same. The largest error
over a box is therefore the largest optimum of a set of mixed-integer linear programmes, one for
each chamber, output and sign, with one binary variable for each rectified unit. HiGHS solves them
by branch and bound with linear relaxations, and returns a proven bound also when stopped early.
"""

import itertools
import time
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _checks
from ..fixed_points import find_fixed_points
from ..fixed_points._enumerate import check_enumerable, tabulate
from ..networks import RateNetwork
from ._export import feedforward_of
from ._feedforward import FeedForward, forward

MARGINAL = 1e-9
"""Chambers with an abscissa below this count as stable. A bound over too many chambers still
holds."""


class ErrorBound(eqx.Module):
    r"""A bound on the error of an approximation, for inputs within a box.

    - `bound`: upper bound on $|y_j - r_j|$ over all inputs within the box and all stable fixed
      points of each, r being the rates there, shape `(n,)`. It is proven, up to the tolerances of
      a solver in double precision (1e-6 of the bound).
    - `attained`: largest errors found, by the search or the programmes, shape `(n,)`. Each is at
      a stable fixed point, which need not be the fixed point that the trajectory reaches.
    - `worst_input`: the input of the largest attained error, shape `(n,)`.
    - `searched`: largest errors that a random search found at the fixed points that trajectories
      from zero reach, shape `(n,)`.
    - `complete`: whether `bound` and `attained` agree to 1e-4; if not, the time limit ended the
      proof, and `bound` holds but need not be the least.
    - `num_programs`: number of programmes with binary variables.

    In a network with one stable fixed point for each input, `searched` can reach `bound`. In a
    multistable network, `bound` includes fixed points that no trajectory from zero reaches.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 5, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    key = jax.random.key(3)
    proven = eqb.error_bound(samples.network, model, 0.2, 0.25, key=key, search=48)
    worst = proven.worst_input
    print(proven.bound.shape, ((0.199 < worst) & (worst < 0.251)).all())
    # > (5,) True
    ```
    """

    bound: Float[Array, " n"]
    attained: Float[Array, " n"]
    worst_input: Float[Array, " n"]
    searched: Float[Array, " n"]
    complete: bool
    num_programs: int


def error_bound(
    network: RateNetwork,
    model: Any,
    low: float | Float[Array, " n"] = -1.0,
    high: float | Float[Array, " n"] = 1.0,
    *,
    key: Array,
    time_limit: float = 60.0,
    search: int = 20_000,
) -> ErrorBound:
    """Bound the error of an approximation over a box of inputs, and search for large errors.

    **Arguments:**

    - `network`: threshold-linear, of at most 16 neurons.
    - `model`: a `FeedForward`, or an `Approximation`, of the network.
    - `low`, `high`: the box, one number for all inputs or one for each; finite.
    - `key`: PRNG key of the search.
    - `time_limit`: seconds for all programmes together; interval arithmetic bounds the rest.
    - `search`: number of inputs settled by the search: a third is drawn from the box, the others
      from ever smaller boxes around the worst input so far.

    **Returns:** an `ErrorBound`.

    **Raises:** `ValueError` for another transfer function, more than 16 neurons, a network with
    input weights or a readout, a model that is not rectified, or a box that is empty or not finite;
    `TypeError` for another kind of model.

    Tjeng, Xiao and Tedrake (2019), arXiv 1711.07356, for the encoding of rectified units.

    **Example:**

    ```python
    samples = eqb.sample_fixed_points(
        eqb.partitioned(), eqb.UniformCube(-1, 1), 4096, key=jax.random.key(0)
    )
    model = eqb.FeedForward(5, 5, 5, key=jax.random.key(1))
    model = eqb.train(model, samples, steps=1000, key=jax.random.key(2)).model
    key = jax.random.key(3)
    proven = eqb.error_bound(samples.network, model, 0.2, 0.25, key=key, search=48)
    print(proven.complete, (proven.searched <= proven.bound + 1e-5).all())
    # > True True
    ```
    """
    check_enumerable(network)
    if network.input_weights is not None or network.readout is not None:
        _checks.fail("network", "have neither input_weights nor readout", "has some")
    n = network.num_neurons
    model = feedforward_of(model)
    if not model.rectified:
        _checks.fail("model", "have a rectified output", "has none")
    shape = (model.weights1.shape[1], model.weights2.shape[0])
    if shape != (n, n):
        _checks.fail("model", f"map {n} inputs to {n} outputs", f"maps {shape[0]} to {shape[1]}")
    box = []
    for name, side in (("low", low), ("high", high)):
        side = _checks.floating(name, side)
        _checks.per_neuron(name, side, n)
        _checks.finite(name, side)
        box.append(np.broadcast_to(np.asarray(side, np.float64), (n,)))
    _checks.values("high", jnp.asarray(box[1]), "be at least `low`", lambda v: v >= box[0])
    time_limit = _checks.number("time_limit", time_limit, above=0.0)
    search = _checks.integer("search", search, minimum=2)
    searched = largest_error(network, model, box, search, _checks.key(key))
    return _solve(network, model, box, searched, time.monotonic() + time_limit)


ROUNDS = 6
"""Rounds of the search: two over the whole box, and four around the worst inputs so far."""


def largest_error(
    network: RateNetwork, model: FeedForward, box: list[np.ndarray], count: int, key: Array
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Search `count` inputs for the largest error of each output at the fixed point that the
    trajectory reaches. Returns the errors and their inputs."""
    low, high = (jnp.asarray(side, network.dtype) for side in box)
    n, size = network.num_neurons, -(-count // ROUNDS)
    worst = jnp.zeros(n, network.dtype)
    at = jnp.broadcast_to((low + high) / 2, (n, n))
    for k in range(ROUNDS):
        draw = jax.random.uniform(jax.random.fold_in(key, k), (size, n), network.dtype)
        inputs = low + (high - low) * draw
        if k > 1:
            around = jnp.tile(at, (-(-size // n), 1))[:size]
            inputs = jnp.clip(around + (inputs - (low + high) / 2) * 0.3 ** (k - 1), low, high)
        found = find_fixed_points(network, inputs)
        error = jnp.abs(forward(model, inputs) - found.rates)
        error = jnp.where(found.stable[:, None], error, 0)
        best = jnp.argmax(error, axis=0)
        value = jnp.max(error, axis=0)
        at = jnp.where((value > worst)[:, None], inputs[best], at)
        worst = jnp.maximum(worst, value)
    return worst, at


class _Program:
    """A mixed-integer linear programme, built row by row: variables v within bounds, the inputs
    first, and constraints low <= A v <= high."""

    def __init__(self, low: np.ndarray, high: np.ndarray, deadline: float = np.inf):
        self.deadline = deadline
        self.low, self.high, self.num_inputs = low.copy(), high.copy(), len(low)
        self.binary = np.zeros(len(low), bool)
        self.matrix = np.zeros((0, len(low)))
        self.row_low, self.row_high = np.zeros(0), np.zeros(0)

    def variables(self, low: np.ndarray, high: np.ndarray, *, binary: bool = False) -> np.ndarray:
        """Add variables within these bounds, and return their indices."""
        first = len(self.low)
        self.low, self.high = np.append(self.low, low), np.append(self.high, high)
        self.binary = np.append(self.binary, np.full(len(low), binary))
        self.matrix = np.pad(self.matrix, ((0, 0), (0, len(low))))
        return np.arange(first, len(self.low))

    def require(self, terms: list[tuple[np.ndarray, np.ndarray]], low, high) -> None:
        """Add constraints low <= sum_k A_k v_k <= high; each v_k is given by indices, one for each
        column of A_k."""
        rows = np.zeros((len(low), len(self.low)))
        for part, columns in terms:
            rows[:, columns] += part
        self.matrix = np.concatenate([self.matrix, rows])
        self.row_low, self.row_high = np.append(self.row_low, low), np.append(self.row_high, high)

    def rectified(self, gain: np.ndarray, of: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Add variables equal to [gain v + rest]_+, with one binary variable for each, and return
        their indices."""
        least, most = (side * self._extremes(side * gain, of) + rest for side in (-1, 1))
        out = self.variables(np.maximum(least, 0), np.maximum(most, 0))
        on = self.variables((least > 0) * 1.0, (most > 0) * 1.0, binary=True)
        eye, inf = np.eye(len(rest)), np.full(len(rest), np.inf)
        # out >= drive; out <= drive - least (1 - on); out <= most on; out >= 0 is its bound.
        self.require([(eye, out), (-gain, of)], rest, inf)
        least = np.minimum(least, 0)
        self.require([(eye, out), (-gain, of), (-np.diag(least), on)], -inf, rest - least)
        self.require([(eye, out), (-np.diag(np.maximum(most, 0)), on)], -inf, 0 * rest)
        return out

    def _extremes(self, gain: np.ndarray, of: np.ndarray) -> np.ndarray:
        """An upper bound on each row of gain v."""
        rows = np.zeros((len(gain), len(self.low)))
        rows[:, of] = gain
        return np.asarray([self.at_most(row) for row in rows])

    def at_most(self, cost: np.ndarray) -> float:
        """An upper bound on cost . v: the lesser of interval arithmetic and, while there is time,
        the linear relaxation."""
        most = float(cost.clip(0) @ self.high + cost.clip(None, 0) @ self.low)
        if not self.in_time:
            return most
        return min(most, self.largest(cost, relaxed=True)[0] + SLACK)

    @property
    def in_time(self) -> bool:
        """Whether the deadline has not passed."""
        return time.monotonic() < self.deadline

    @property
    def is_empty(self) -> bool:
        """Whether the linear relaxation is proven infeasible; false after the deadline."""
        return self.in_time and self.largest(np.zeros(len(self.low)), relaxed=True)[0] == -np.inf

    def largest(
        self, cost: np.ndarray, *, relaxed: bool = False
    ) -> tuple[float, np.ndarray | None]:
        """A proven upper bound on cost . v, and the best v found, or None. The bound is minus
        infinity for an infeasible programme, and infinity if nothing was proven in time."""
        from scipy import optimize
        from scipy.sparse import csr_array

        # SciPy's own annotations do not admit arrays.
        milp, bounds, constraint = cast(
            Any, (optimize.milp, optimize.Bounds, optimize.LinearConstraint)
        )
        inputs = np.arange(len(self.low)) < self.num_inputs
        left = self.deadline - time.monotonic()
        limit = {} if left == np.inf else {"time_limit": max(left, 0.01)}
        found: Any = None
        for wider in (0, *WIDER):
            # Where HiGHS fails, which is rare, it succeeds on a larger box, whose bound holds here.
            found = milp(
                -cost,
                integrality=np.zeros(len(cost)) if relaxed else self.binary,
                bounds=bounds(self.low - wider * inputs, self.high + wider * inputs),
                constraints=constraint(csr_array(self.matrix), self.row_low, self.row_high),
                options={**limit, "mip_rel_gap": GAP},
            )
            if found.status == 2 and "infeasible" in found.message.lower():
                return -np.inf, None
            if found.status in (0, 1):
                break
        proven = found.fun if relaxed and found.status == 0 else found.get("mip_dual_bound")
        return (np.inf if proven is None else -proven), found.x


WIDER = (1e-7, 1e-5)
"""Margins, in units of the input, by which the box is enlarged after the solver has failed."""

GAP = 1e-6
"""Relative gap between bound and solution at which a programme counts as solved."""

SLACK = 1e-6
"""Added to the solver's bounds, to cover its tolerances."""


def _solve(network, model, box, searched, deadline: float) -> ErrorBound:
    """Solve the programmes of each stable chamber, output and sign."""
    n, (low, high) = network.num_neurons, box
    with jax.enable_x64(True):
        chambers = jax.tree.map(np.asarray, tabulate(network.astype(jnp.float64)))
    w1, b1, w2, b2 = (np.asarray(a, np.float64) for a in jax.tree.leaves(model))
    # The search's errors are attained: programmes that cannot exceed them are skipped.
    errors, inputs = (np.array(a, np.float64) for a in searched)
    attained, bound, largest = errors.copy(), errors.copy(), errors.max()
    programs, worst = 0, inputs[np.argmax(errors)]
    for s in np.flatnonzero(chambers.abscissa < MARGINAL):
        if not np.isfinite(chambers.drive_gain[s]).all():
            # A singular chamber has no fixed point, or a continuum for inputs of measure zero.
            continue
        program = _Program(low, high, deadline)
        i = np.arange(n)
        active, gain, rest = chambers.active[s], chambers.drive_gain[s], chambers.drive_rest[s]
        inf = np.full(n, np.inf)
        program.require([(gain, i)], np.where(active, -rest, -inf), np.where(active, inf, -rest))
        if program.is_empty:
            continue
        # The rates are [u]_+ under "voltage", x under "activity", and [x]_+ under "recurrent".
        rates, offset, of = chambers.state_gain[s], chambers.state_rest[s], i
        if network.convention == "voltage":
            rates, offset = gain * active[:, None], rest * active
        elif network.convention == "recurrent":
            of = program.rectified(rates, i, offset)
            rates, offset = np.eye(n), np.zeros(n)
        output = program.rectified(w2, program.rectified(w1, i, -b1), -b2)
        for j, sign in itertools.product(range(n), (1.0, -1.0)):
            cost = np.zeros(len(program.low))
            cost[output[j]] = sign
            cost[of] -= sign * rates[j]
            shift = sign * offset[j]
            most = program.at_most(cost) - shift
            if most <= attained[j]:
                continue
            programs += 1
            value, at = program.largest(cost) if program.in_time else (np.inf, None)
            # Every input of the chamber has a solution, so that "infeasible" is a solver failure.
            value = most if value == -np.inf else min(most, value - shift + SLACK)
            if at is not None:
                # The solver's solution is inexact: evaluate both networks at its input.
                x1 = np.maximum(w1 @ at[i] - b1, 0)
                y = max(w2[j] @ x1 - b2[j], 0)
                error = sign * (y - (rates[j] @ at[of] + offset[j]))
                if error > largest:
                    largest, worst = error, at[i]
                attained[j] = max(attained[j], error)
            bound[j] = max(bound[j], value)
    bound = np.maximum(bound, attained)
    complete = bool((bound <= attained * (1 + 1e-4) + 2 * SLACK).all())
    dtype = model.weights1.dtype
    bound, attained, worst = (jnp.asarray(a, dtype) for a in (bound, attained, worst))
    return ErrorBound(bound, attained, worst, searched[0], complete, programs)
