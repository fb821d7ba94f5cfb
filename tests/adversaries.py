"""Small systems that tempt a verdict to be false, each with the right answer and its source.

`ADVERSARIES` are settled in both precisions. Answers hold for every row unless they are lists.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np

import equilibrax as eqb
from equilibrax import Flow, Outcome


@dataclasses.dataclass
class Adversary:
    """What is settled, and how that must end.

    - `dynamics`: made anew for each dtype; a function of (t, x, i) or a network.
    - `outcome`, `state`, `period`: the right answer, or one for each dtype; None where it is not
      asked for.
    - `unit`: what states are compared in.
    - `source`: where the answer comes from.
    """

    dynamics: Callable[[Any], Any]
    x0: Any
    outcome: Any
    source: str
    state: Any = None
    period: float | None = None
    input: Any = None
    method: Flow = dataclasses.field(default_factory=Flow)
    unit: float = 1.0
    within: float = 1e-5


def toggle(s):
    """Two genes that repress each other, in units of s."""
    return lambda t, x, i: jnp.stack(
        [s * 4 / (1 + (x[1] / s) ** 3) - x[0], s * 4 / (1 + (x[0] / s) ** 3) - x[1]]
    )


def fitzhugh_nagumo(eps):
    return lambda t, u, i: jnp.stack(
        [u[0] - u[0] ** 3 / 3 - u[1] + 0.5, eps * (u[0] + 0.7 - 0.8 * u[1])]
    )


def van_der_pol(mu):
    return lambda t, u, i: jnp.stack([u[1], mu * (1 - u[0] ** 2) * u[1] - u[0]])


def lorenz(t, u, i):
    x, y, z = u
    return jnp.stack([10 * (y - x), x * (24 - z) - y, x * y - 8 / 3 * z])


def robertson(t, u, i):
    a, b, c = u
    slow, fast, back = 0.04 * a, 3e7 * b**2, 1e4 * b * c
    return jnp.stack([-slow + back, slow - back - fast, fast])


def rosenzweig_macarthur(capacity):
    """Prey and predators."""
    return lambda t, u, i: jnp.stack([
        u[0] * (1 - u[0] / capacity) - u[0] * u[1] / (1 + u[0]), u[0] * u[1] / (1 + u[0]) - u[1] / 5
    ])  # fmt: skip


def by_logarithms(field):
    return lambda t, u, i: field(t, jnp.exp(u), i) / jnp.exp(u)


def transition(t, u, i):
    """A non-normal linear part, and a nonlinear one that only turns: transients grow 1 / 0.16-fold."""
    size = jnp.hypot(*u)
    return jnp.stack([-u[0] / 25 + u[1] - size * u[1], -2 * u[1] / 25 + size * u[0]])


HIGH, LOW = 3.99906996, 0.06158002
TOGGLE_STARTS = np.asarray([(3, 1), (1, 3), (2, 1.9), (0.1, 0.5), (1e3, 1.01e3), (1e6, 1)])
TOGGLE_ENDS = np.asarray(
    [(HIGH, LOW), (LOW, HIGH), (HIGH, LOW), (LOW, HIGH), (LOW, HIGH), (HIGH, LOW)]
)
SPIRAL = np.asarray([np.sqrt(8 / 3 * 23), np.sqrt(8 / 3 * 23), 23.0])
"""Where the trajectories from these starts end, by LSODA; and the stable point of `lorenz`."""

LARGE_CYCLE = np.asarray([
    (1.46, -1.63, -1.46, -0.05, -1.14), (-2.58, -1.49, -2.28, -0.31, 1.56),
    (-0.61, 0.09, -1.17, -0.29, -0.63), (-0.87, 0.15, 0.21, 0.66, 1.6),
    (0.56, -0.21, -2.25, -1.36, 0.51),
])  # fmt: skip

BLANK = np.asarray([(2.0, 2.0), (-5.0, -3.0)])
"""All silent and all active this is stable; neuron 1 alone grows, and keeps neuron 2 silent."""

MATCHED = np.asarray([(-4.67, -2.82, -3.9), (-2.35, 1.16, 4.77), (5.89, -0.24, 0.66)])
"""Stable with neuron 1 silent and with it active, but not where it crosses its threshold."""


def ghost(delta):
    """Where two fixed points have met and gone; x passes in a time of pi / sqrt(delta)."""
    return lambda t, x, i: delta + (x - 1) ** 2


def may_leonard(t, x, i):
    a, b, c = x
    return jnp.stack([
        a * (1 - a - 0.8 * b - 1.3 * c), b * (1 - b - 0.8 * c - 1.3 * a),
        c * (1 - c - 0.8 * a - 1.3 * b),
    ])  # fmt: skip


def roessler(c):
    return lambda t, u, i: jnp.stack([-u[1] - u[2], u[0] + 0.2 * u[1], 0.2 + u[2] * (u[0] - c)])


def two_clocks(frequency):
    """Unit circles that know nothing of each other."""

    def field(t, x, i):
        a, b, c, d = x
        r, q = 1 - a**2 - b**2, 1 - c**2 - d**2
        return jnp.stack([a * r - b, b * r + a, c * q - frequency * d, d * q + frequency * c])

    return field


def spiral(damping):
    return lambda t, x, i: jnp.stack([x[1] - damping * x[0], -x[0] - damping * x[1]])


def henon(a):
    return eqb.as_map(lambda x, i: jnp.stack([1 - a * x[0] ** 2 + x[1], 0.3 * x[0]]))


def logistic(r):
    return eqb.as_map(lambda x, i: r * x * (1 - x))


ADVERSARIES = {
    **{
        f"a-blank-input-{convention}": Adversary(
            lambda dtype, convention=convention: eqb.RateNetwork(
                jnp.asarray(BLANK, dtype), convention=convention
            ),
            [(0.0, 0.0)], Outcome.MARGINAL, "exp(t) from (1e-3, 0)", state=(0.0, 0.0),
        )
        for convention in ("voltage", "activity", "recurrent")
    },
    "a-blank-input-of-rank-one": Adversary(
        lambda dtype: eqb.RateNetwork(
            eqb.low_rank(jnp.asarray([[1.0], [-1.0]], dtype), jnp.asarray([[3.0], [2.2]], dtype))
        ),
        [(0.0, 0.0)], Outcome.MARGINAL, "exp(2 t) from (1e-3, 0)", state=(0.0, 0.0),
    ),
    "two-stable-sides-of-a-threshold": Adversary(
        lambda dtype: eqb.RateNetwork(jnp.asarray(MATCHED, dtype)), [(0.0, 1.0, 1.0)],
        Outcome.MARGINAL, "LSODA: 1e-6 beside it grows at a rate of 0.12",
        input=np.asarray([(0.0, 1.0, 1.0)]) - np.asarray([(0.0, 1.0, 1.0)]) @ MATCHED.T,
    ),
    "a-ghost": Adversary(
        lambda dtype: ghost(1e-6 if dtype == np.float32 else 3e-15),
        1 - np.asarray([(1e-3,), (2e-3,), (4e-3,)]), Outcome.NOT_SETTLED,
        "dx/dt is positive everywhere", method=Flow(t1=2e3),
    ),
    "a-phase-that-drifts": Adversary(
        lambda dtype: lambda t, x, i: 0.011 - 0.01 * jnp.sin(x), [(1003.0,), (1005.0,)],
        Outcome.NOT_SETTLED, "dx/dt is 0.001 at least", method=Flow(t1=2e3),
    ),
    "beside-a-saddle-off-zero": Adversary(
        lambda dtype: lambda t, x, i: 0.1 * ((x - 1) - (x - 1) ** 3), [(1 + 4e-6,)],
        {np.float32: Outcome.NOT_SETTLED, np.float64: Outcome.STABLE},
        "goes to 2; in single precision slower than its tolerances", method=Flow(t1=1e3),
    ),
    "a-heteroclinic-cycle": Adversary(
        lambda dtype: may_leonard, [(0.5, 0.3, 0.2)], Outcome.NOT_SETTLED,
        "May and Leonard 1975; LSODA in logarithms leaves every saddle",
        method=Flow(t1=2e3, max_steps=100_000),
    ),
    "roessler-chaos": Adversary(
        lambda dtype: roessler(5.7), np.random.default_rng(0).uniform(-5, 5, (20, 3)) * (1, 1, 0.1),
        Outcome.NOT_SETTLED, "Roessler 1976: a Lyapunov exponent of 0.071",
    ),
    "roessler-twice-around": Adversary(
        lambda dtype: roessler(2.86), [(1.0, 1.0, 0.0)], Outcome.OSCILLATING,
        "LSODA's crossings, at two heights", period=11.5376,
        method=Flow(t1=2e3, max_steps=100_000), within=1e-3,
    ),
    "roessler-four-times-around": Adversary(
        lambda dtype: roessler(3.85), [(1.0, 1.0, 0.0)], Outcome.NOT_SETTLED,
        "LSODA's crossings: 23.15 in all, 11.57 for a turn that nearly closes",
        method=Flow(t1=2e3, max_steps=100_000),
    ),
    "clocks-that-slip": Adversary(
        lambda dtype: two_clocks(1.0003), [(1.0, 0.0, 1.0, 0.0)], Outcome.NOT_SETTLED,
        "together they return after 2 pi / 0.0003", method=Flow(t1=2e3, max_steps=50_000),
    ),
    "clocks-that-agree": Adversary(
        lambda dtype: two_clocks(2.0), [(1.0, 0.0, 1.0, 0.0)], Outcome.OSCILLATING, "2 pi",
        period=2 * np.pi, method=Flow(t1=2e3, max_steps=50_000), within=1e-4,
    ),
    "a-spiral-that-hardly-shrinks": Adversary(
        lambda dtype: spiral(1e-5), [(1.0, 0.0)], Outcome.NOT_SETTLED, "exp(-1e-5 t)",
    ),
    "a-spiral-that-hardly-grows": Adversary(
        lambda dtype: spiral(-1e-5), [(1.0, 0.0)], Outcome.NOT_SETTLED, "exp(1e-5 t)",
    ),
    "henon-before-its-doubling": Adversary(
        lambda dtype: henon(0.3674), [(0.1, 0.1)], Outcome.NOT_SETTLED,
        "a multiplier of -0.99989: 4e5 steps to 0.95244575",
    ),
    "logistic-before-its-second-doubling": Adversary(
        lambda dtype: logistic(3.449), [(0.3,)], Outcome.NOT_SETTLED,
        "doubles at 1 + sqrt(6) = 3.44949: alternates about a cycle of two",
    ),
    "a-decillion": Adversary(
        lambda dtype: eqb.two_neuron(0.5, -1.0).astype(dtype), np.zeros((1, 2)), Outcome.STABLE,
        "homogeneous: 1e30 times the point of (1, 1.2)", input=[(1e30, 1.2e30)],
        state=(-1.4e30, 2.4e30), unit=1e30,
    ),
    "a-large-component-beside-a-small-one": Adversary(
        lambda dtype: lambda t, u, i: jnp.stack([0 * u[0], 2 - u[1]]), [(1e6, 5.0)],
        Outcome.MARGINAL, "the first is constant, the second relaxes to 2", state=(1e6, 2.0),
    ),
    "a-large-input-beside-competitors": Adversary(
        lambda dtype: eqb.RateNetwork(jnp.asarray([[0, 0, 0], [0, 0, -2], [0, -2, 0]], dtype)),
        np.zeros((2, 3)), Outcome.STABLE, "the larger of two inputs wins: the chamber's point",
        input=[(1e6, 1, 0.999), (1e6, 0.999, 1)],
        state=[(1e6, 1, 0.999 - 2), (1e6, 0.999 - 2, 1)], within=1e-4,
    ),
    **{
        f"toggle-switch-in-units-of-{s:g}": Adversary(
            lambda dtype, s=s: toggle(s), s * TOGGLE_STARTS, Outcome.STABLE, "LSODA",
            state=s * TOGGLE_ENDS, unit=s,
        )
        for s in (1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e9)
    },
    "a-fixed-point-a-million-times-the-start": Adversary(
        lambda dtype: lambda t, x, i: 1e-3 * (1e6 - x), [(0.4,)], Outcome.STABLE,
        "a linear equation", state=(1e6,), method=Flow(t1=2e4), unit=1e6,
    ),
    "and-too-little-time-for-it": Adversary(
        lambda dtype: lambda t, x, i: 1e-3 * (1e6 - x), [(0.4,)], Outcome.NOT_SETTLED,
        "1e6 (1 - exp(-0.2)) at t1 = 200",
    ),
    "logistic-growth-over-twelve-decades": Adversary(
        lambda dtype: lambda t, x, i: x * (1 - x / 1e12), [(0.4,)], Outcome.STABLE,
        "the logistic equation", state=(1e12,), unit=1e12,
    ),
    "a-cycle-of-amplitude-291110": Adversary(
        lambda dtype: eqb.RateNetwork(
            jnp.asarray(LARGE_CYCLE, dtype), bias=jnp.asarray([-0.24, 0.26, 0.15, 0.07, 0.17], dtype),
            tau=jnp.asarray([0.33, 0.85, 1.71, 0.86, 2.85], dtype),
        ),
        np.zeros((1, 5)), Outcome.OSCILLATING, "LSODA: period 40.169",
        input=[(0.43, -0.39, 0.27, 0.02, 0.04)], period=40.169, within=2e-3,
    ),
    "exponential-growth": Adversary(
        lambda dtype: lambda t, x, i: x, [(0.4,)], Outcome.DIVERGED, "exp(t)"
    ),
    "a-pole-in-finite-time": Adversary(
        lambda dtype: lambda t, x, i: x**2, [(0.4,)], Outcome.DIVERGED, "0.4 / (1 - 0.4 t)"
    ),
    "linear-growth": Adversary(
        lambda dtype: lambda t, x, i: 1 + 0 * x, [(0.4,)], Outcome.NOT_SETTLED, "0.4 + t"
    ),
    "death-of-what-was-large": Adversary(
        lambda dtype: lambda t, x, i: -x, [(1e6,)], Outcome.STABLE, "1e6 exp(-t)", state=(0.0,),
    ),
    "a-weakly-damped-spiral": Adversary(
        lambda dtype: lorenz, SPIRAL + 0.01 * np.random.default_rng(0).uniform(-1, 1, (20, 3)),
        Outcome.STABLE, "Lorenz 1963: stable below r = 24.74", state=SPIRAL, within=1e-3,
    ),
    "a-slow-reaction": Adversary(
        lambda dtype: robertson, [(1.0, 0.0, 0.0)], Outcome.NOT_SETTLED,
        "Robertson 1966: reacts until t = 1e11",
        method=Flow(solver=diffrax.Kvaerno5(), t1=1e6, atol=1e-8),
    ),
    **{
        f"fitzhugh-nagumo-{eps:g}": Adversary(
            lambda dtype, eps=eps: fitzhugh_nagumo(eps), [(0.0, 0.0)], Outcome.OSCILLATING,
            "LSODA's crossings", period=period, method=Flow(t1=20 / eps), within=1e-4,
        )
        for eps, period in ((0.08, 39.474417), (0.01, 226.64799), (0.001, 2023.6221))
    },
    **{
        f"van-der-pol-{mu:g}": Adversary(
            lambda dtype, mu=mu: van_der_pol(mu), [(1.0, 0.0)], Outcome.OSCILLATING,
            "LSODA's crossings", period=period, method=method, within=1e-4,
        )
        for mu, period, method in (
            (10.0, 19.078369, Flow()),
            (20.0, 34.682322, Flow(t1=2000.0, max_steps=400_000)),
            (50.0, 82.508331, Flow(t1=2000.0, max_steps=400_000)),
        )
    },
    "prey-that-nearly-dies-out": Adversary(
        lambda dtype: rosenzweig_macarthur(5.0), [(1.0, 1.0)], Outcome.OSCILLATING,
        "LSODA's crossings, by logarithms", period=43.711386, method=Flow(t1=4000.0), within=1e-3,
    ),
    "prey-of-one-in-1e17": Adversary(
        lambda dtype: rosenzweig_macarthur(9.0), [(1.0, 1.0)], Outcome.NOT_SETTLED,
        "an absolute tolerance of 1e-6 decides on the period, and on which side of zero it ends",
        method=Flow(t1=4000.0, max_steps=100_000),
    ),
    "prey-of-one-in-1e17-by-logarithms": Adversary(
        lambda dtype: by_logarithms(rosenzweig_macarthur(9.0)), [(0.0, 0.0)], Outcome.OSCILLATING,
        "LSODA's crossings", period=73.755519, method=Flow(t1=4000.0), within=1e-3,
    ),
    "a-transient-that-dies-out": Adversary(
        lambda dtype: transition, [(0.0, 1e-4), (0.0, 1e-5)], Outcome.STABLE,
        "Trefethen et al., Science 261:578 (1993), by LSODA", state=(0.0, 0.0), unit=1e-4,
        method=Flow(t1=2000.0), within=1e-3,
    ),
    "a-transient-that-does-not": Adversary(
        lambda dtype: transition, [(0.0, 1e-3)], Outcome.STABLE, "LSODA",
        state=(0.07974359, 0.99359481), method=Flow(t1=2000.0),
    ),
    "beside-a-saddle": Adversary(
        lambda dtype: lambda t, x, i: x - x**3, [(1e-30,), (-1e-30,)], Outcome.STABLE,
        "the side of zero it starts on", state=[(1.0,), (-1.0,)],
    ),
    "on-a-saddle": Adversary(
        lambda dtype: lambda t, x, i: x - x**3, [(0.0,)], Outcome.UNSTABLE,
        "f(0) = 0, f'(0) = 1", state=(0.0,),
    ),
    "competitors-with-the-same-input": Adversary(
        lambda dtype: eqb.RateNetwork(jnp.asarray([[0.5, -2], [-2, 0.5]], dtype)),
        [(0.0, 0.0)], Outcome.UNSTABLE, "x = i / (1 - 0.5 + 2) on the axis, eigenvalue 1.5",
        input=[(1.0, 1.0)], state=(0.4, 0.4),
    ),
    **{
        f"van-der-pol-by-{type(solver).__name__}": Adversary(
            lambda dtype: van_der_pol(1.0), [(1.0, 0.0)], Outcome.OSCILLATING,
            "LSODA's crossings", period=6.6632869, method=Flow(solver=solver), within=1e-4,
        )
        for solver in (diffrax.Kvaerno3(), diffrax.Kvaerno5())
    },
}  # fmt: skip
