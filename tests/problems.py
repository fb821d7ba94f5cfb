"""A bank of named problems: networks that settle, and single inputs with known ends.

`SETTLING` are networks of which most inputs settle, for comparison with LSODA.
`ENDS` are single trajectories whose outcome follows from mathematics; where the state,
the abscissa or the period is known in closed form, it is given.
"""

import dataclasses
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import equilibrax as eqb
from equilibrax import Outcome


def _tanh_rnn():
    weights = 1.3 * jr.normal(jr.key(3), (20, 20), jnp.float64) / np.sqrt(20)
    return eqb.RateNetwork(weights, tau=np.linspace(0.5, 2.0, 20), transfer=eqb.tanh)


SETTLING: dict[str, Callable[[], eqb.RateNetwork]] = {
    "reference": eqb.partitioned,
    "reference-activity": lambda: eqb.partitioned(bias=0.1, convention="activity"),
    "reference-recurrent": lambda: eqb.partitioned(w_e=0.6, w_i=2.0, convention="recurrent"),
    "two-neuron-slow-fast": lambda: eqb.two_neuron(0.5, -1.0, tau=np.asarray([0.01, 0.05])),
    "ring-30": lambda: eqb.ring(30),
    "random-ei-20": lambda: eqb.random_ei(20, key=jr.key(1)),
    "tanh-20": _tanh_rnn,
}


@dataclasses.dataclass(frozen=True)
class End:
    network: Callable[[], eqb.RateNetwork]
    input: tuple[float, ...]
    outcomes: tuple[Outcome, ...]
    x0: tuple[float, ...] | None = None
    state: tuple[float, ...] | None = None
    abscissa: float | None = None
    period: float | None = None
    method: eqb.Flow | None = None


def _linear(weights):
    """A linear network: phi is the identity."""
    return lambda: eqb.RateNetwork(np.asarray(weights, float), transfer=identity)


def identity(u):
    return u


def steep(u):
    return 1e4 * jnp.tanh(u)


def _sigmoid_below_fold(distance):
    """x' = -x + 8 s(x - b), whose low fixed point vanishes where 8 s' = 1, at
    s = (1 - sqrt(1/2)) / 2, u = log(s / (1 - s)), b = 8 s - u; here b is below that."""
    s = (1 - np.sqrt(0.5)) / 2
    fold = 8 * s - np.log(s / (1 - s))
    return lambda: eqb.RateNetwork(np.asarray([[8.0]]), bias=fold - distance, transfer=eqb.sigmoid)


# x = s / (1 + c - d) for both neurons of [[d, -c], [-c, d]] with input s.
ENDS: dict[str, End] = {
    "winner": End(
        lambda: eqb.two_neuron(0.5, -2.0), (1.0, 0.8), (Outcome.STABLE,),
        state=(2.0, -3.2), abscissa=-0.5,
    ),
    "saddle": End(
        lambda: eqb.two_neuron(0.5, -2.0), (1.0, 1.0), (Outcome.UNSTABLE,),
        state=(0.4, 0.4), abscissa=1.5,
    ),
    "past-the-saddle": End(
        lambda: eqb.two_neuron(0.5, -2.0), (1.0, 1.0), (Outcome.STABLE,),
        x0=(1e-7, 0.0), state=(2.0, -3.0), abscissa=-0.5,
    ),
    "runaway": End(lambda: eqb.two_neuron(1.5, 0.0), (1.0, 1.0), (Outcome.DIVERGED,)),
    "blow-up-in-finite-time": End(
        lambda: eqb.RateNetwork(
            np.asarray([[2.0]]), transfer=eqb.power_law(0.4, 2.0), convention="activity"
        ),
        (5.0,), (Outcome.DIVERGED,),
    ),
    "line-attractor": End(
        lambda: eqb.RateNetwork(np.diag([1.0, 0.5])), (0.0, 1.0), (Outcome.MARGINAL,),
        x0=(0.3, 0.0), state=(0.3, 2.0), abscissa=0.0,
    ),
    "nearly-integrating": End(
        lambda: eqb.RateNetwork(np.diag([0.999, 0.5])), (0.5, 1.0), (Outcome.NOT_SETTLED,),
    ),
    "cubic-slowing": End(
        lambda: eqb.RateNetwork(np.asarray([[1.0]]), transfer=eqb.tanh), (0.0,),
        (Outcome.MARGINAL, Outcome.NOT_SETTLED), x0=(0.5,),
    ),
    "ghost-passed": End(
        _sigmoid_below_fold(1e-3), (0.0,), (Outcome.STABLE,), method=eqb.Flow(t1=2000.0)
    ),
    "ghost-not-passed": End(
        _sigmoid_below_fold(1e-8), (0.0,), (Outcome.MARGINAL, Outcome.NOT_SETTLED)
    ),
    "three-cycle-symmetric": End(
        lambda: eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), (1.0, 1.0, 1.0),
        (Outcome.UNSTABLE,), state=(1 / 3.25,) * 3, abscissa=0.125,
    ),
    "three-cycle": End(
        lambda: eqb.from_graph([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), (1.0, 1.0, 1.0),
        (Outcome.OSCILLATING,), x0=(0.1, 0.0, 0.0),
    ),
    "harmonic": End(
        _linear([[1.0, -1.0], [1.0, 1.0]]), (0.0, 0.0), (Outcome.OSCILLATING,),
        x0=(1.0, 0.0), period=2 * np.pi, method=eqb.Flow(rtol=1e-7, atol=1e-9),
    ),
    "slow-spiral": End(
        _linear([[0.999, -1.0], [1.0, 0.999]]), (0.0, 0.0), (Outcome.NOT_SETTLED,),
        x0=(1.0, 0.0), method=eqb.Flow(rtol=1e-7, atol=1e-9),
    ),
    "barely-a-spiral": End(
        _linear([[0.9999, -1.0], [1.0, 0.9999]]), (0.0, 0.0), (Outcome.NOT_SETTLED,),
        x0=(1.0, 0.0), method=eqb.Flow(rtol=1e-7, atol=1e-9),
    ),
    # At rest for every tolerance, and about to be thrown out by a non-normal Jacobian:
    # x1 and x2 relax at different speeds, and their difference drives x3 a thousandfold.
    "thrown-out": End(
        lambda: eqb.RateNetwork(
            np.asarray([[0.0, 0, 0], [0, 0, 0], [1e3, -1e3, 3]]), tau=np.asarray([1.0, 5, 1])
        ),
        (1.0, 1.0, -0.02), (Outcome.DIVERGED,), x0=(1 - 8e-5, 1 - 8e-5, -0.02),
    ),
    "one-large-constant-component": End(
        lambda: eqb.RateNetwork(np.asarray([[0.0, 0, 0], [3, 3, 0], [0, 0, 0]])),
        (0.5, -2.0, 1000.0), (Outcome.NOT_SETTLED,), x0=(5.0, -1.0, 1000.0),
        method=eqb.Flow(t1=0.05),
    ),
    "on-a-threshold": End(
        lambda: eqb.RateNetwork(2 * np.eye(2)), (0.0, 0.0), (Outcome.MARGINAL,), abscissa=1.0
    ),
    "dies-out": End(
        lambda: eqb.RateNetwork(0.5 * np.eye(2)), (0.0, 0.0), (Outcome.STABLE,),
        x0=(0.5, 0.3), state=(0.0, 0.0), abscissa=-0.5,
    ),
    "dies-out-smoothly": End(
        lambda: eqb.RateNetwork(0.5 * np.eye(2), transfer=eqb.tanh), (0.0, 0.0),
        (Outcome.STABLE,), x0=(0.5, 0.3), state=(0.0, 0.0), abscissa=-0.5,
    ),
    "steep": End(
        lambda: eqb.RateNetwork(np.asarray([[-0.1]]), bias=1.0, transfer=steep), (0.0,),
        (Outcome.STABLE,), method=eqb.Flow(solver=diffrax.Kvaerno5()),
    ),
    # An explicit solver takes a thousand steps for each time constant and bounces, near enough.
    "stiff": End(
        lambda: eqb.RateNetwork(np.asarray([[-0.1]]), bias=1.0, transfer=steep), (0.0,),
        (Outcome.STABLE,),
    ),
    "not-a-number": End(lambda: eqb.two_neuron(), (np.nan, 1.0), (Outcome.INVALID,)),
    "infinite": End(lambda: eqb.two_neuron(), (1.0, -np.inf), (Outcome.INVALID,)),
    "start-not-finite": End(
        lambda: eqb.two_neuron(), (1.0, 1.0), (Outcome.INVALID,), x0=(np.inf, 0.0)
    ),
    # As a step of gradient descent may leave it, which no constructor checks.
    "a-negative-time-constant": End(
        lambda: eqx.tree_at(lambda net: net.tau, eqb.two_neuron(), jnp.asarray([1.0, -0.1])),
        (1.0, 1.0), (Outcome.INVALID,),
    ),
}  # fmt: skip
