r"""`follow_branch`: one fixed point, stable or not, while a parameter changes.

The curve F(x, p) = 0 is followed in its arclength s by Keller's pseudo-arclength method. From a
point z = (x, p) with unit tangent v, the next one solves

    F(z) = 0,    v . (z - z_0) = ds,

by Newton's method from z_0 + ds v, so that the curve may turn back in p. On the way

- a *fold* is where dp/ds changes sign;
- a *Hopf* point is where a pair of complex eigenvalues of J crosses the imaginary axis;
- a *branch point* is where one real eigenvalue crosses zero, and the curve does not turn;
- a *border* is where, in a threshold-linear network, a neuron meets its threshold. The curve is
  followed in one chamber's own smooth flow up to the border, and from there in the next one's.
  It may turn at the border: a nonsmooth fold is both.

Each is located by bisection in s. H. B. Keller, in: Applications of Bifurcation Theory (1977), 359;
M. di Bernardo et al., Piecewise-smooth Dynamical Systems (2008), doi:10.1007/978-1-84628-708-4.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .. import _checks
from ..fixed_points import find_fixed_points
from ..fixed_points._chambers import chamber_drift
from ..fixed_points._find import as_problem
from ..fixed_points._outcome import in_words
from ..networks import AbstractDynamics, RateNetwork, is_threshold_linear

Kind = Literal["fold", "hopf", "branch", "border"]


@dataclasses.dataclass(frozen=True)
class SpecialPoint:
    """Where something happens along a branch.

    - `kind`: "fold", "hopf", "branch" or "border".
    - `parameter`, `state`: there.
    - `index`: it lies between the branch's points `index - 1` and `index`.
    - `period`: of the small oscillations at a Hopf point, in time; NaN elsewhere.
    - `neuron`: which one meets its threshold at a border; -1 elsewhere.

    **Example:**

    ```python
    network = eqb.two_neuron()
    branch = eqb.follow_branch(lambda p: network, lambda p: jnp.stack([p, 1 - p]), 0.9, 0.1)
    border = branch.points[0]
    print(border.kind, border.neuron, f"{border.parameter:.3f}")
    # > border 1 0.333
    ```
    """

    kind: Kind
    parameter: float
    state: np.ndarray
    index: int
    period: float = float("nan")
    neuron: int = -1


class Branch(eqx.Module):
    """A curve of fixed points, in the order in which it was followed.

    - `parameter`: shape `(m,)`.
    - `state`: shape `(m, n)`.
    - `rates`: the output there, shape `(m, outputs)`.
    - `abscissa`: of the Jacobian there, in 1/time, shape `(m,)`.
    - `stable`: where that is negative, shape `(m,)`.
    - `points`: the folds, Hopf points, branch points and borders met, in order.
    - `end`: why it ends: "left" the interval, "max_points", or "lost" where no step, however
      small, led on.

    **Example:**

    ```python
    network = eqb.two_neuron()
    branch = eqb.follow_branch(lambda p: network, lambda p: jnp.stack([p, 1 - p]), 0.9, 0.1)
    print(branch.end, branch.state.shape[1], branch.stable[0], branch.stable.all())
    # > left 2 True False
    print(sorted({point.kind for point in branch.points}))
    # > ['border', 'fold']
    ```
    """

    parameter: Float[Array, " m"]
    state: Float[Array, "m n"]
    rates: Float[Array, "m outputs"]
    abscissa: Float[Array, " m"]
    points: list[SpecialPoint]
    end: str = eqx.field(static=True)

    @property
    def stable(self) -> Bool[Array, " m"]:
        """Where the fixed point is stable."""
        return self.abscissa < 0


class Place(eqx.Module):
    """A point of the curve: z = (x, p), its tangent and what its Jacobian says."""

    z: Float[Array, " n+1"]
    tangent: Float[Array, " n+1"]
    drive: Float[Array, " n"]
    eigenvalues: Any
    converged: Bool[Array, ""]

    @property
    def num_unstable(self) -> int:
        """Eigenvalues on the right of the imaginary axis."""
        return int(np.sum(np.real(np.asarray(self.eigenvalues)) > 0))


class Curve(eqx.Module):
    """F(z; sigma) = 0. For threshold-linear networks F is the flow of the chamber of sigma,
    wherever x is, and so smooth."""

    network_of: Callable
    input_of: Callable

    def drift(self, z, sigma):
        """tau dx/dt at z."""
        x, p = z[:-1], z[-1]
        network, i = self.network_of(p), self.input_of(p)
        if is_threshold_linear(network):
            return chamber_drift(network, sigma, x, i)
        return network.drift(x, i)

    def place(self, z, along, sigma, converged) -> Place:
        """All that is to be known of a point; its tangent points as `along` does."""
        jacobian = jax.jacfwd(self.drift)(z, sigma)
        network = self.network_of(z[-1])
        bordered = jnp.concatenate([jacobian, along[None]])
        tangent = jnp.linalg.solve(bordered, jnp.zeros_like(z).at[-1].set(1))
        tangent = tangent / jnp.linalg.norm(tangent)
        drive = jnp.zeros_like(z[:-1])
        if isinstance(network, RateNetwork):
            drive = network.drive(z[:-1], self.input_of(z[-1]))
        spectrum = jnp.linalg.eigvals(jacobian[:, :-1] / network.tau[:, None])
        return Place(z, tangent, drive, spectrum, converged & jnp.all(jnp.isfinite(tangent)))

    def step(self, start: Place, ds: float, sigma) -> Place:
        """The point of the curve at this pseudo-arclength from another; ds = 0 refines that."""
        # A Python float would be a program of its own.
        return self._step(start, jnp.asarray(ds, start.z.dtype), sigma)

    @eqx.filter_jit
    def _step(self, start: Place, ds: Float[Array, ""], sigma) -> Place:
        guess = start.z + ds * start.tangent
        tolerance = 100 * jnp.finfo(guess.dtype).eps

        def newton(carry):
            z, _, k = carry
            jacobian = jax.jacfwd(self.drift)(z, sigma)
            bordered = jnp.concatenate([jacobian, start.tangent[None]])
            beside = start.tangent @ (z - guess)
            residual = jnp.append(self.drift(z, sigma), beside)
            change = jnp.linalg.solve(bordered, residual)
            return z - change, jnp.max(jnp.abs(change)) / (1 + jnp.max(jnp.abs(z))), k + 1

        def unfinished(carry):
            _, change, k = carry
            return ~(change < tolerance) & (k < 12)

        start_of_newton = (guess, jnp.asarray(jnp.inf, guess.dtype), 0)
        z, change, _ = jax.lax.while_loop(unfinished, newton, start_of_newton)
        return self.place(z, start.tangent, sigma, change < 1e3 * tolerance)


def follow_branch(
    network_of: Callable[[Any], AbstractDynamics],
    input: Any,
    start: float,
    stop: float,
    *,
    x0: Float[Array, " n"] | None = None,
    step: float | None = None,
    max_step: float | None = None,
    max_points: int = 2000,
) -> Branch:
    """Follow a fixed point from parameter `start` until p leaves the interval towards `stop`.

    **Arguments:**

    - `network_of`: from the parameter, a scalar, to the dynamics.
    - `input`: shape `(k,)`, or a function from the parameter to it.
    - `start`, `stop`: ends of the parameter's interval; the branch sets out towards `stop`.
    - `x0`: the fixed point at `start`, or near it: what Newton's method makes of it is followed.
      If absent, the stable one that the trajectory from zero reaches.
    - `step`, `max_step`: the first step and the largest, in arclength of (x, p); a thousandth
      and a fiftieth of the interval if absent.
    - `max_points`: the branch ends after so many.

    **Returns:** a `Branch`, and on it the points where something happens.

    **Raises:** `ValueError` where there is no stable fixed point at `start` and no `x0`, or
    Newton's method does not converge from it; otherwise as `find_fixed_points`.

    The parameter and the state are measured in the same arclength: give a parameter much larger or
    smaller than the state in units of its own. Locations are exact to about 1e-6 of a step
    in double precision.

    H. B. Keller, in: Applications of Bifurcation Theory (1977), 359; M. di Bernardo et al.,
    Piecewise-smooth Dynamical Systems (2008), doi:10.1007/978-1-84628-708-4, for the borders.

    **Example:**

    ```python
    model, drive = eqb.WilsonCowan(), jnp.asarray([1.0, 0.0])
    branch = eqb.follow_branch(lambda p: model, lambda p: p * drive, 0.0, 3.0)
    print([f"{point.kind} {point.parameter:.2f}" for point in branch.points])
    # > ['fold 1.09', 'fold 0.91', 'hopf 1.88']
    ```
    """
    start, stop = (
        _checks.number(k, v, above=-np.inf) for k, v in (("start", start), ("stop", stop))
    )
    if start == stop:
        _checks.fail("stop", "differ from `start`", f"is {stop}")
    span = abs(stop - start)
    first = _checks.number("step", span / 1000 if step is None else step, above=0.0)
    largest = _checks.number("max_step", span / 50 if max_step is None else max_step, above=0.0)
    max_points = _checks.integer("max_points", max_points, minimum=2)
    input_of = input if callable(input) else Constant(jnp.asarray(_checks.floating("input", input)))
    place = jnp.asarray(start, jnp.result_type(float))
    network, i, x = as_problem(network_of(place), input_of(place), x0)
    if x is None:
        found = find_fixed_points(network, i)
        if not bool(found.stable):
            must = "be given where there is no stable fixed point at `start`"
            _checks.fail("x0", must, f"the trajectory from zero is {in_words(found.counts)}")
        x = found.state
    n = network.num_neurons

    def dynamics_of(p):
        return as_problem(network_of(p), input_of(p), None if n == i.shape[-1] else x)[0]

    return _Walk(Curve(dynamics_of, input_of), x, start, stop, first, largest, max_points).run()


class Constant(eqx.Module):
    """The same input whatever the parameter."""

    value: Array

    def __call__(self, p):
        return self.value


class _Walk:
    """Along a curve, step by step on the host: every step is one call of a compiled program."""

    def __init__(self, curve, x, start, stop, first, largest, max_points):
        self.curve, self.ds, self.largest = curve, first, largest
        self.low, self.high = sorted((start, stop))
        self.max_points = max_points
        self.places: list[Place] = []
        self.points: list[SpecialPoint] = []
        z = jnp.append(x, jnp.asarray(start, x.dtype))
        network = curve.network_of(z[-1])
        self.piecewise = is_threshold_linear(network)
        self.sigma = jnp.zeros(x.shape, bool)
        if self.piecewise:
            self.sigma = network.drive(x, curve.input_of(z[-1])) > 0
        # Newton's method at constant p first; then the tangent that goes towards `stop`.
        along = jnp.zeros_like(z).at[-1].set(np.sign(stop - start))
        blank = Place(z, along, jnp.zeros_like(x), jnp.zeros_like(x) + 0j, jnp.asarray(True))
        self.here = curve.step(blank, 0.0, self.sigma)
        if not bool(self.here.converged):
            _checks.fail(
                "x0", "be near a fixed point at `start`", "Newton's method did not converge"
            )

    def run(self) -> Branch:
        """To the end."""
        self.places = [self.here]
        end = "max_points"
        while len(self.places) < self.max_points:
            new = self.next()
            if new is None:
                end = "lost"
                break
            p = float(new.z[-1])
            if not self.low <= p <= self.high:
                self.places.append(self.edge(new))
                end = "left"
                break
            self.places.append(new)
            self.here = new
        return self.branch(end)

    def edge(self, new: Place) -> Place:
        """Where the curve leaves the interval."""
        edge = self.high if float(new.z[-1]) > self.high else self.low
        return self.locate(lambda place: float(place.z[-1]) - edge, new)[0]

    def next(self) -> Place | None:
        """One step along the curve; None if there is none."""
        while self.ds > 1e-9 * self.largest:
            new = self.curve.step(self.here, self.ds, self.sigma)
            # A corrector that leads far off the tangent may have found another part of the curve.
            turn = float(new.tangent @ self.here.tangent)
            aside = float(jnp.linalg.norm(new.z - self.here.z - self.ds * self.here.tangent))
            if not bool(new.converged) or not turn > 0.95 or aside > 0.2 * self.ds:
                self.ds /= 2
                continue
            crossed = self.crossed(new)
            if crossed.any():
                return self.cross(new, crossed)
            self.look_between(new)
            self.ds = min(self.largest, self.ds * (1.5 if turn > 0.995 else 1.0))
            return new
        return None

    def crossed(self, place: Place) -> np.ndarray:
        """Neurons that have met their thresholds."""
        if not self.piecewise:
            return np.zeros(len(place.drive), bool)
        drive, sigma = np.asarray(place.drive), np.asarray(self.sigma)
        rounding = 1e3 * np.finfo(drive.dtype).eps * (1 + np.abs(drive).max())
        return np.where(sigma, drive, -drive) < -rounding

    def cross(self, beyond: Place, crossed: np.ndarray) -> Place | None:
        """To the first border, and into the chamber behind it."""
        sign = np.where(np.asarray(self.sigma), 1.0, -1.0)

        def room(place):
            return float(np.min((sign * np.asarray(place.drive))[crossed]))

        border, inside = self.locate(room, beyond)
        neuron = int(np.flatnonzero(crossed)[np.argmin((sign * np.asarray(border.drive))[crossed])])
        self.look_between(inside)
        self.points.append(self.special("border", border, neuron=neuron))
        before = border.tangent
        self.sigma = self.sigma.at[neuron].set(~self.sigma[neuron])
        # The tangent on the other side leads there.
        behind = self.curve.step(border, 0.0, self.sigma)
        if not bool(behind.converged):
            return None
        ahead = self.curve.step(behind, 1e-6, self.sigma)
        wanted = 1.0 if bool(self.sigma[neuron]) else -1.0
        if wanted * float(ahead.drive[neuron] - behind.drive[neuron]) < 0:
            behind = eqx.tree_at(lambda p: p.tangent, behind, -behind.tangent)
        if float(behind.tangent[-1]) * float(before[-1]) < 0:
            self.points.append(self.special("fold", border))
        return behind

    def look_between(self, new: Place) -> None:
        """Find what happened since the last point."""
        old = self.here
        turned = float(old.tangent[-1]) * float(new.tangent[-1]) < 0
        if turned:
            fold = self.locate(lambda place: float(place.tangent[-1]), new)[0]
            self.points.append(self.special("fold", fold))
        count = old.num_unstable
        pair = abs(new.num_unstable - count) == 2
        if new.num_unstable == count or (turned and not pair):
            return
        point = self.locate(lambda place: 1.0 if place.num_unstable == count else -1.0, new)[0]
        if not pair:
            self.points.append(self.special("branch", point))
            return
        spectrum = np.asarray(point.eigenvalues)
        nearest = spectrum[np.argmin(np.abs(np.real(spectrum)))]
        if abs(nearest.imag) > 1e-6 * np.abs(spectrum).max():
            period = float(2 * np.pi / abs(nearest.imag))
            self.points.append(self.special("hopf", point, period=period))

    def locate(self, test: Callable[[Place], float], new: Place) -> tuple[Place, Place]:
        """Where a test function changes sign between here and the new point: the two points
        on either side of it, beyond and before."""
        old, sign = self.here, np.sign(test(self.here))
        low, high = 0.0, float((new.z - old.z) @ old.tangent)
        inside, beyond = old, new
        for _ in range(40):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            place = self.curve.step(old, middle, self.sigma)
            if np.sign(test(place)) == sign and sign != 0:
                low, inside = middle, place
            else:
                high, beyond = middle, place
        return beyond, inside

    def special(self, kind: Kind, place: Place, **more: Any) -> SpecialPoint:
        """A point on the list."""
        z = np.asarray(place.z)
        return SpecialPoint(kind, float(z[-1]), z[:-1], len(self.places), **more)

    def branch(self, end: str) -> Branch:
        """What was found."""
        z = jnp.stack([place.z for place in self.places])
        x, p = z[:, :-1], z[:, -1]
        abscissa = jnp.stack([jnp.max(place.eigenvalues.real) for place in self.places])
        rates = jax.vmap(lambda x, p: self.curve.network_of(p).rates(x))(x, p)
        return Branch(p, x, rates, abscissa, self.points, end)
