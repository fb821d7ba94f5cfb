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
    - `outcome`, `state`, `period`: the right answer; None where it is not asked for.
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

ADVERSARIES = {
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
