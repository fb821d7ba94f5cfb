r"""`follow_branch`: numerical continuation of a fixed point, stable or not, in a parameter.

The curve F(x, p) = 0 is followed in its arclength s by Keller's pseudo-arclength method. From a
point z_0 = (x_0, p_0) with unit tangent v, the next point z solves

    F(z) = 0,    v . (z - z_0) = ds,

by Newton's method from z_0 + ds v, so that the curve may turn back in p. Special points are

- *folds*, where dp/ds changes sign and dF/dz has full rank;
- *Hopf points*, where a pair of complex eigenvalues of J crosses the imaginary axis;
- *branch points*, where real eigenvalues cross zero and another branch passes through: the curve
  does not turn, or dF/dz has not full rank, as at a pitchfork that is met from its side;
- *borders*, where a neuron of a threshold-linear network reaches its threshold. The curve is
  followed in the smooth flow of one chamber up to the border, and in that of the next chamber
  beyond it. Where it turns at a border, the point is a nonsmooth fold, and both are reported.

A map's points solve F(x, p) - x = 0, and its eigenvalues mu, those of dF/dx, cross the unit circle:

- *flips*, at mu = -1, where a cycle of two steps begins;
- *Neimark-Sacker points*, where a complex pair does, in place of Hopf's.

Special points are located by bisection in s.

H. B. Keller, in: Applications of Bifurcation Theory (1977), 359; M. di Bernardo et al.,
Piecewise-smooth Dynamical Systems (2008), doi:10.1007/978-1-84628-708-4; Yu. A. Kuznetsov,
Elements of Applied Bifurcation Theory (2004), chapter 4, for maps.
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
from .._described import Described, number_of
from ..fixed_points import find_fixed_points
from ..fixed_points._problem import as_problem
from ..fixed_points._result import in_words
from ..fixed_points.certificates import chamber_drift
from ..networks import AbstractDynamics, RateNetwork, is_map, is_threshold_linear, with_matrix

Kind = Literal["fold", "hopf", "branch", "border", "flip", "neimark-sacker"]


@dataclasses.dataclass(frozen=True)
class SpecialPoint:
    """A bifurcation or border on a branch.

    - `kind`: "fold", "hopf", "branch" or "border"; for maps "fold", "flip", "neimark-sacker" or
      "branch".
    - `parameter`, `state`: its location.
    - `index`: the point lies between the branch's points `index - 1` and `index`.
    - `period`: period of the small oscillations at a Hopf point, in time, or at a Neimark-Sacker
      point or flip, in steps; NaN elsewhere.
    - `neuron`: the neuron that reaches its threshold at a border; -1 elsewhere.

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


class Branch(eqx.Module, Described):
    """A curve of m fixed points, in the order in which they were computed.

    - `parameter`: shape `(m,)`.
    - `state`: shape `(m, n)`.
    - `rates`: the output at each point, shape `(m, outputs)`.
    - `abscissa`: spectral abscissa of the Jacobian at each point, in 1/time, or the logarithm of a
      map's spectral radius, shape `(m,)`.
    - `stable`: whether the abscissa is negative, shape `(m,)`.
    - `points`: the folds, Hopf points, branch points and borders, in order.
    - `end`: reason for the end: "left" the interval, "max_points", or "lost" if Newton's method
      failed for the smallest step.

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
        """Whether each fixed point is stable."""
        return self.abscissa < 0

    def describe(self) -> str:
        """How many points, between which parameters, and the special ones, in one line."""
        p = np.asarray(self.parameter)
        special = ", ".join(f"{point.kind} {point.parameter:.4g}" for point in self.points)
        words = f"{number_of(len(p), 'point')} from {p[0]:.4g} to {p[-1]:.4g}"
        return f"{words}{', with ' if special else ''}{special}; end: {self.end}"


class CurvePoint(eqx.Module):
    """A point z = (x, p) of the curve, with its tangent, drive, eigenvalues (a map's mu) and the
    growth that each stands for: its real part, or log |mu|."""

    z: Float[Array, " n+1"]
    tangent: Float[Array, " n+1"]
    drive: Float[Array, " n"]
    eigenvalues: Any
    growth: Float[Array, " n"]
    converged: Bool[Array, ""]

    @property
    def num_unstable(self) -> int:
        """Number of modes that grow."""
        return int(np.sum(np.asarray(self.growth) > 0))


class Curve(eqx.Module):
    """The curve F(z; sigma) = 0. For threshold-linear networks, F is the flow of the chamber with
    the active set sigma, continued to all x, and so smooth."""

    network_of: Callable
    input_of: Callable

    def drift(self, z, sigma):
        """F, tau dx/dt at z; for a map, a step's change of x."""
        x, p = z[:-1], z[-1]
        network, i = self.network_of(p), self.input_of(p)
        if is_threshold_linear(network):
            return chamber_drift(network, sigma, x, i)
        return network.drift(x, i)

    def point(self, z, along, sigma, converged) -> CurvePoint:
        """The curve's point at z; its tangent has a positive product with `along`."""
        jacobian = jax.jacfwd(self.drift)(z, sigma)
        network = self.network_of(z[-1])
        bordered = jnp.concatenate([jacobian, along[None]])
        tangent = jnp.linalg.solve(bordered, jnp.zeros_like(z).at[-1].set(1))
        tangent = tangent / jnp.linalg.norm(tangent)
        drive = jnp.zeros_like(z[:-1])
        if isinstance(network, RateNetwork):
            drive = network.drive(z[:-1], self.input_of(z[-1]))
        spectrum = jnp.linalg.eigvals(jacobian[:, :-1] / network.tau[:, None])
        growth = spectrum.real
        if is_map(network):
            spectrum = 1 + spectrum
            growth = jnp.log(jnp.abs(spectrum))
        converged &= jnp.all(jnp.isfinite(tangent))
        return CurvePoint(z, tangent, drive, spectrum, growth, converged)

    def step(self, start: CurvePoint, ds: float, sigma) -> CurvePoint:
        """The curve's point at pseudo-arclength ds from `start`; ds = 0 refines `start`."""
        # A Python float would be compiled into the program.
        return self._step(start, jnp.asarray(ds, start.z.dtype), sigma)

    @eqx.filter_jit
    def _step(self, start: CurvePoint, ds: Float[Array, ""], sigma) -> CurvePoint:
        guess = start.z + ds * start.tangent
        tolerance = 100 * jnp.finfo(guess.dtype).eps

        def newton(carry):
            z, _, k = carry
            jacobian = jax.jacfwd(self.drift)(z, sigma)
            bordered = jnp.concatenate([jacobian, start.tangent[None]])
            residual = jnp.append(self.drift(z, sigma), start.tangent @ (z - guess))
            change = jnp.linalg.solve(bordered, residual)
            return z - change, jnp.max(jnp.abs(change)) / (1 + jnp.max(jnp.abs(z))), k + 1

        def unfinished(carry):
            _, change, k = carry
            return ~(change < tolerance) & (k < 12)

        initial = (guess, jnp.asarray(jnp.inf, guess.dtype), 0)
        z, change, _ = jax.lax.while_loop(unfinished, newton, initial)
        return self.point(z, start.tangent, sigma, change < 1e3 * tolerance)


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
    """Follow a fixed point from parameter `start` until the parameter leaves the interval.

    **Arguments:**

    - `network_of`: function from the parameter, a scalar, to the dynamics or the map.
    - `input`: shape `(k,)`, or a function from the parameter to an input.
    - `start`, `stop`: ends of the parameter's interval; the branch starts in direction of `stop`.
    - `x0`: the fixed point at `start`, or a guess, which Newton's method refines. If absent, the
      stable fixed point that the trajectory from zero reaches.
    - `step`, `max_step`: the first and the largest step, in arclength of (x, p); a thousandth and
      a fiftieth of the interval if absent.
    - `max_points`: largest number of points.

    **Returns:** a `Branch`, with its special points.

    **Raises:** `ValueError` if `x0` is absent and there is no stable fixed point at `start`, or if
    Newton's method does not converge from `x0`; otherwise as `find_fixed_points`.

    Arclength combines parameter and state: rescale a parameter that is much larger or smaller than
    the state. Locations are exact to about 1e-6 of a step in double precision.

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
    _checks.function("network_of", network_of, "from the parameter to the dynamics")
    start, stop = (
        _checks.number(k, v, above=-np.inf) for k, v in (("start", start), ("stop", stop))
    )
    if start == stop:
        _checks.fail("stop", "differ from `start`", f"is {stop}")
    span = abs(stop - start)
    first = _checks.number("step", span / 1000 if step is None else step, above=0.0)
    largest = _checks.number("max_step", span / 50 if max_step is None else max_step, above=0.0)
    max_points = _checks.integer("max_points", max_points, minimum=2)
    constant = None if callable(input) else jnp.asarray(_checks.floating("input", input))

    def input_of(p):
        return _checks.returned("input", input, p) if constant is None else constant

    def network_at(p):
        return with_matrix("network", _checks.returned("network_of", network_of, p))

    p = jnp.asarray(start, jnp.result_type(float))
    network, i, x = as_problem(network_at(p), input_of(p), x0)
    if x is None:
        found = find_fixed_points(network, i)
        if not bool(found.stable):
            must = "be given where there is no stable fixed point at `start`"
            _checks.fail("x0", must, f"the trajectory from zero is {in_words(found.counts)}")
        x = found.state
    n = network.num_neurons

    def dynamics_of(p):
        return as_problem(network_at(p), input_of(p), None if n == i.shape[-1] else x)[0]

    curve = Curve(dynamics_of, input_of)
    return _Continuation(curve, x, start, stop, first, largest, max_points).run()


class _Continuation:
    """Continuation along a curve. The host chooses each step; a compiled program computes it."""

    def __init__(self, curve, x, start, stop, first, largest, max_points):
        self.curve, self.ds, self.largest = curve, first, largest
        self.low, self.high = sorted((start, stop))
        self.max_points = max_points
        self.points: list[CurvePoint] = []
        self.leaving = False
        self.special: list[SpecialPoint] = []
        z = jnp.append(x, jnp.asarray(start, x.dtype))
        network = curve.network_of(z[-1])
        self.piecewise = is_threshold_linear(network)
        self.sigma = jnp.zeros(x.shape, bool)
        if self.piecewise:
            self.sigma = network.drive(x, curve.input_of(z[-1])) > 0
        # Newton's method at constant p, then the tangent in direction of `stop`.
        along = jnp.zeros_like(z).at[-1].set(np.sign(stop - start))
        nothing = jnp.zeros_like(x)
        blank = CurvePoint(z, along, nothing, nothing + 0j, nothing, jnp.asarray(True))
        self.iterated = is_map(network)
        self.here = curve.step(blank, 0.0, self.sigma)
        if not bool(self.here.converged):
            i = curve.input_of(z[-1])
            matrix = np.asarray(network.jacobian(x, i) * network.tau[:, None], np.float64)
            least, most = np.linalg.svd(matrix, compute_uv=False)[[-1, 0]]
            if not least > 100 * float(jnp.finfo(x.dtype).eps) * most:
                must = "have an isolated fixed point at `start`; where a sum is conserved, "
                must += "leave one component out and pass the sum as an input"
                _checks.fail("network", must, "has a singular Jacobian there")
            _checks.fail(
                "x0", "be near a fixed point at `start`", "Newton's method did not converge"
            )

    def run(self) -> Branch:
        """Follow the curve to its end."""
        self.points = [self.here]
        end = "max_points"
        while len(self.points) < self.max_points:
            new = self.next()
            if new is None:
                end = "lost"
                break
            self.points.append(new)
            if self.leaving:
                end = "left"
                break
            self.here = new
        return self.branch(end)

    def within(self, new: CurvePoint) -> CurvePoint:
        """The new point, or that at which the curve leaves the interval on the way there."""
        p = float(new.z[-1])
        self.leaving = not self.low <= p <= self.high
        if not self.leaving:
            return new
        edge = self.high if p > self.high else self.low
        return self.locate(lambda point: float(point.z[-1]) - edge, new)[0]

    def next(self) -> CurvePoint | None:
        """Take one step along the curve; None if Newton's method fails for the smallest step."""
        while self.ds > 1e-9 * self.largest:
            new = self.curve.step(self.here, self.ds, self.sigma)
            # A corrector far from the tangent may have converged to another part of the curve.
            turn = float(new.tangent @ self.here.tangent)
            aside = float(jnp.linalg.norm(new.z - self.here.z - self.ds * self.here.tangent))
            if not bool(new.converged) or not turn > 0.95 or aside > 0.2 * self.ds:
                self.ds /= 2
                continue
            new = self.within(new)
            crossed = self.crossed(new)
            if crossed.any():
                self.leaving = False
                return self.cross(new, crossed)
            self.detect(new)
            self.ds = min(self.largest, self.ds * (1.5 if turn > 0.995 else 1.0))
            return new
        return None

    def crossed(self, point: CurvePoint) -> np.ndarray:
        """Whether each neuron has crossed its threshold."""
        if not self.piecewise:
            return np.zeros(len(point.drive), bool)
        drive, sigma = np.asarray(point.drive), np.asarray(self.sigma)
        rounding = 1e3 * np.finfo(drive.dtype).eps * (1 + np.abs(drive).max())
        return np.where(sigma, drive, -drive) < -rounding

    def cross(self, beyond: CurvePoint, crossed: np.ndarray) -> CurvePoint | None:
        """Step to the first border, and switch to the chamber behind it."""
        sign = np.where(np.asarray(self.sigma), 1.0, -1.0)

        def distance(point):
            return float(np.min((sign * np.asarray(point.drive))[crossed]))

        border, inside = self.locate(distance, beyond)
        neuron = int(np.flatnonzero(crossed)[np.argmin((sign * np.asarray(border.drive))[crossed])])
        self.detect(inside)
        self.record("border", border, neuron=neuron)
        before = border.tangent
        self.sigma = self.sigma.at[neuron].set(~self.sigma[neuron])
        # Orient the tangent behind the border so that it leads into the new chamber.
        behind = self.curve.step(border, 0.0, self.sigma)
        if not bool(behind.converged):
            return None
        ahead = self.curve.step(behind, 1e-6, self.sigma)
        wanted = 1.0 if bool(self.sigma[neuron]) else -1.0
        if wanted * float(ahead.drive[neuron] - behind.drive[neuron]) < 0:
            behind = eqx.tree_at(lambda p: p.tangent, behind, -behind.tangent)
        if float(behind.tangent[-1]) * float(before[-1]) < 0:
            self.record("fold", border)
        return behind

    def detect(self, new: CurvePoint) -> None:
        """Record the special points other than borders between here and the new point."""
        old = self.here
        turned = float(old.tangent[-1]) * float(new.tangent[-1]) < 0
        if turned:
            point = self.locate(lambda point: float(point.tangent[-1]), new)[0]
            self.record("branch" if self.meets_another(point) else "fold", point)
        count = old.num_unstable
        pair = abs(new.num_unstable - count) == 2
        if new.num_unstable == count or (turned and not pair):
            return
        point = self.locate(lambda point: 1.0 if point.num_unstable == count else -1.0, new)[0]
        spectrum = np.asarray(point.eigenvalues)
        nearest = spectrum[np.argmin(np.abs(np.asarray(point.growth)))]
        rotates = abs(nearest.imag) > 1e-6 * np.abs(spectrum).max()
        if pair and rotates and self.iterated:
            self.record("neimark-sacker", point, period=2 * np.pi / abs(np.angle(nearest)))
        elif pair and rotates:
            self.record("hopf", point, period=2 * np.pi / abs(nearest.imag))
        elif self.iterated and nearest.real < 0:
            self.record("flip", point, period=2.0)
        else:
            # One real eigenvalue, or two at once, as symmetry brings about.
            self.record("branch", point)

    def meets_another(self, point: CurvePoint) -> bool:
        """Whether another branch passes through a point where the curve turns: a pitchfork, met
        from the side. There dF/dz has more than one null vector, at a fold only the tangent."""

        def values(z):
            matrix = np.array(jax.jacfwd(self.curve.drift)(z, self.sigma), np.float64)
            matrix[:, -1] *= self.high - self.low
            return np.linalg.svd(matrix, compute_uv=False)

        return bool(values(point.z)[-1] < 1e-4 * values(self.points[0].z)[0])

    def locate(
        self, test: Callable[[CurvePoint], float], new: CurvePoint
    ) -> tuple[CurvePoint, CurvePoint]:
        """Bisect for the change of sign of a test function between here and the new point.
        Returns the points just beyond and just before it."""
        old, sign = self.here, np.sign(test(self.here))
        low, high = 0.0, float((new.z - old.z) @ old.tangent)
        inside, beyond = old, new
        for _ in range(40):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            point = self.curve.step(old, middle, self.sigma)
            if np.sign(test(point)) == sign and sign != 0:
                low, inside = middle, point
            else:
                high, beyond = middle, point
        return beyond, inside

    def record(self, kind: Kind, point: CurvePoint, **more: Any) -> None:
        """Append to the special points."""
        z = np.asarray(point.z)
        self.special.append(SpecialPoint(kind, float(z[-1]), z[:-1], len(self.points), **more))

    def branch(self, end: str) -> Branch:
        """The points computed so far as a `Branch`."""
        z = jnp.stack([point.z for point in self.points])
        x, p = z[:, :-1], z[:, -1]
        abscissa = jnp.stack([jnp.max(point.growth) for point in self.points])
        rates = jax.vmap(lambda x, p: self.curve.network_of(p).rates(x))(x, p)
        return Branch(p, x, rates, abscissa, self.special, end)
