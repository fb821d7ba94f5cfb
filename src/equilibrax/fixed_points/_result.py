"""How a trajectory ended: `Outcome`, `Evidence` for it, and `FixedPoints`, which holds both."""

import enum
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .. import _checks
from .._batching import at_home
from .._described import Described


class Outcome(enum.IntEnum):
    """What kind of end a trajectory came to. No two of them are ever lumped together.

    |               | at rest | abscissa | what it means                                  |
    |---------------|---------|----------|------------------------------------------------|
    | `STABLE`      | yes     | < 0      | reached a stable fixed point                   |
    | `MARGINAL`    | yes     | ~ 0      | at rest, but neither stable nor unstable       |
    | `UNSTABLE`    | yes     | > 0      | came to rest on an unstable fixed point        |
    | `OSCILLATING` | no      | any      | returns to where it was, after `period`        |
    | `DIVERGED`    | no      | any      | grows, and does not slow down                  |
    | `NOT_SETTLED` | no      | any      | ran out of time or steps                       |
    | `INVALID`     | -       | -        | input, start, network or field was not finite, |
    |               |         |          | or a time constant not positive                |

    **Example:**

    ```python
    found = eqb.find_fixed_points(eqb.two_neuron(), jnp.asarray([0.3, 0.3]))
    outcome = eqb.Outcome(int(found.outcome))
    print(outcome.name)
    # > UNSTABLE
    print(outcome.message)
    # > Start elsewhere with `x0` to leave it.
    ```
    """

    STABLE = 0
    MARGINAL = 1
    UNSTABLE = 2
    OSCILLATING = 3
    DIVERGED = 4
    NOT_SETTLED = 5
    INVALID = 6

    @property
    def message(self) -> str:
        """What happened, and what to try."""
        return _MESSAGES[self]


_MESSAGES = {
    Outcome.STABLE: "The trajectory reached a stable fixed point.",
    Outcome.MARGINAL: (
        "The trajectory came to rest where the Jacobian's leading eigenvalue is zero within "
        "tolerance, or on thresholds where spectra do not decide. Look for a continuum of fixed "
        "points, a conserved sum (leave one component out and pass the sum as an input), a "
        "bifurcation or a blank input; float64 tells smaller abscissae from zero."
    ),
    Outcome.UNSTABLE: (
        "The trajectory came to rest on an unstable fixed point, as from a start on a "
        "symmetry axis. Start elsewhere with `x0` to leave it."
    ),
    Outcome.OSCILLATING: (
        "The trajectory returns to where it was: a closed orbit, of length `period`. "
        "There is no fixed point to report; weaken the delayed or rotating feedback."
    ),
    Outcome.DIVERGED: (
        "The trajectory grew beyond the divergence bound through 48 doublings that did not slow "
        "down, or is proven to grow for ever: excitation runs away. Strengthen the inhibition, or "
        "raise `divergence` in `Flow` if such states are meant."
    ),
    Outcome.NOT_SETTLED: (
        "The trajectory ran out of time or steps before it came to rest, or the dtype cannot "
        "resolve its end. Raise `t1` or `max_steps` in `Flow`, pass it an implicit solver if the "
        "network is stiff, or use float64. Where a component that must stay positive came too "
        "close to zero, pass its logarithm as the state."
    ),
    Outcome.INVALID: (
        "The input, the initial state or the network holds NaN or infinity, a time constant is not "
        "positive, or the vector field is not finite at the start."
    ),
}


class Evidence(enum.IntEnum):
    """What a verdict rests on. No two of them are ever lumped together.

    |                 | the fixed point is stable     | the trajectory converges to it          |
    |-----------------|-------------------------------|-----------------------------------------|
    | `PROVEN`        | proven                        | proven, from the last point on          |
    | `STABLE_PROVEN` | proven                        | it rests beside the point               |
    | `PROBED`        | but for a probability of 1e-9 | it is slow, and far from all thresholds |
    | `SPECTRUM`      | by its spectrum               | it rests beside the point               |
    | `NONE`          | no fixed point was found      | -                                       |

    - *PROVEN* rests on an ellipsoid around the fixed point of a threshold-linear network: it lies
      in one chamber, and the flow cannot leave it. Of low rank, it allows for what neurons that
      cross their thresholds can change. Or it rests on global stability.
    - *STABLE_PROVEN* rests on a power of I + h J with a norm below one, J being the Jacobian at the
      polished point. All proofs allow for the rounding of their products.
    - *PROBED* rests on a random vector that shrinks under powers of I + h J. If an eigenvalue's
      real part were not negative, it would shrink so much with a probability of at most 1e-9 (J.
      D. Dixon, SIAM J. Numer. Anal. 20:812 (1983), doi:10.1137/0720053). In a threshold-linear
      network, every drive is nearer to its value at the point than to zero, by a factor of four;
      other trajectories rest beside it.
    - *SPECTRUM* rests on the spectral abscissa at the polished point, which has the verdict's sign
      beyond the marginal band, or is within it. On a threshold it is that of the Jacobians on both
      sides, whose spectra alone are no proof; they may be bounded as for a proof.

    **Example:**

    ```python
    inputs = jnp.asarray([[0.3, 0.2], [0.3, 0.3]])
    found = eqb.find_fixed_points(eqb.two_neuron(), inputs)
    print([eqb.Evidence(int(kind)).name for kind in found.evidence])
    # > ['PROVEN', 'SPECTRUM']
    ```
    """

    PROVEN = 0
    STABLE_PROVEN = 1
    PROBED = 2
    SPECTRUM = 3
    NONE = 4


class FixedPoints(eqx.Module, Described):
    """How each input's trajectory ended; every array has the batch shape of the inputs.

    - `state`: x at the end, shape `(..., n)`; the fixed point itself when it came to
      rest, NaN for invalid inputs.
    - `rates`: the output there, shape `(..., n)` for rate networks without a readout.
    - `outcome`: an `Outcome`, int8.
    - `evidence`: an `Evidence` for that outcome, int8.
    - `residual`: max_j |tau_j dx_j/dt| at `state`, recomputed there.
    - `abscissa`: largest real part of the Jacobian's eigenvalues at `state`, in 1/time; NaN where
      no verdict needed it, unless n <= 8 or `Flow(abscissa=True)` asks for it.
    - `abscissa_bound`: an upper bound on it where the outcome is `STABLE`, proven or probed as
      `evidence` says; to LAPACK's rounding where it is the abscissa itself.
    - `time`: simulated time at which integration stopped.
    - `num_steps`: solver steps taken, rejected ones included.
    - `period`: of the cycle when `OSCILLATING`, in time; NaN elsewhere.

    `state`, `rates` and `abscissa` carry derivatives, and only where the outcome is `STABLE`. The
    derivatives of an abscissa are there even where its value is not.

    **Example:**

    ```python
    inputs = jnp.asarray([[0.3, 0.2], [0.2, 0.3], [0.3, 0.3]])
    found = eqb.find_fixed_points(eqb.two_neuron(), inputs)
    print(found.state.shape, found.stable, found.certified)
    # > (3, 2) [ True  True False] [ True  True False]
    print(found.counts[eqb.Outcome.STABLE], found.counts[eqb.Outcome.UNSTABLE])
    # > 2 1
    ```
    """

    state: Float[Array, "*batch n"]
    rates: Float[Array, "*batch outputs"]
    outcome: Int[Array, "*batch"]
    evidence: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    abscissa: Float[Array, "*batch"]
    abscissa_bound: Float[Array, "*batch"]
    time: Float[Array, "*batch"]
    num_steps: Int[Array, "*batch"]
    period: Float[Array, "*batch"]

    @property
    def stable(self) -> Bool[Array, "*batch"]:
        """Where the outcome is `STABLE`."""
        return self.outcome == Outcome.STABLE

    @property
    def certified(self) -> Bool[Array, "*batch"]:
        """Where convergence from the trajectory's last point to `state` is proven: the evidence is
        `PROVEN`."""
        return self.evidence == Evidence.PROVEN

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many inputs ended in each outcome, in the enum's order."""
        return counts_of(self.outcome)

    def describe(self) -> str:
        """How many inputs ended in each outcome, and on which evidence, in one line."""
        evidence = np.bincount(np.ravel(self.evidence), minlength=len(Evidence))
        kinds = {kind: int(evidence[kind]) for kind in Evidence if kind is not Evidence.NONE}
        words = f"{self.outcome.size} inputs: {in_words(self.counts)}"
        return f"{words}; evidence: {in_words(kinds)}" if any(kinds.values()) else words


class FixedPointError(RuntimeError):
    """Raised under `throw=True` when some inputs have no stable fixed point.

    **Example:**

    ```python
    inputs = jnp.asarray([[0.3, 0.2], [0.3, 0.3]])
    try:
        eqb.find_fixed_points(eqb.two_neuron(), inputs, throw=True)
    except eqb.FixedPointError as error:
        print(error)
    # > 1 of 2 inputs have no stable fixed point.
    # > 1 UNSTABLE
    ```
    """


def in_words(counts: Mapping[Any, int]) -> str:
    """The outcomes, or kinds of evidence, that occur, and how often, in one line."""
    return ", ".join(f"{count} {kind.name}" for kind, count in counts.items() if count)


def counts_of(outcome: Int[Array, "*batch"] | np.ndarray) -> dict[Outcome, int]:
    """How many of each outcome, in the enum's order; on the host."""
    if not isinstance(outcome, np.ndarray) and outcome.is_fully_addressable:
        outcome = at_home(outcome)
    if isinstance(outcome, np.ndarray):
        tally = np.bincount(outcome.ravel(), minlength=len(Outcome))
    else:
        tally = jax.device_get(tally_outcomes(outcome))
    return {kind: int(tally[kind]) for kind in Outcome}


def add_counts(*counts: Mapping[Outcome, int]) -> dict[Outcome, int]:
    """Sum over the arguments for each outcome, in the enum's order; zeros without arguments."""
    return {outcome: sum(part[outcome] for part in counts) for outcome in Outcome}


def tally_outcomes(outcome: Int[Array, "*batch"]) -> Int[Array, " outcomes"]:
    """How many of each outcome, indexed by `Outcome`."""
    return jnp.bincount(outcome.ravel().astype(jnp.int32), length=len(Outcome))


def raise_unsettled(found: FixedPoints) -> FixedPoints:
    """`found`, or a `FixedPointError` that names how many inputs failed and why.

    Where the outcomes are not known yet, inside `jax.jit`, the error is raised when
    the compiled program runs, without the counts.
    """
    if not _checks.is_concrete(found.outcome):
        return eqx.error_if(
            found,
            ~jnp.all(found.stable),
            "find_fixed_points: some inputs have no stable fixed point.",
        )
    total = int(np.prod(found.outcome.shape))
    failed = {o: c for o, c in found.counts.items() if c and o is not Outcome.STABLE}
    if failed:
        lines = [f"{sum(failed.values())} of {total} inputs have no stable fixed point."]
        lines += [
            f"  {count} {outcome.name}: {outcome.message}" for outcome, count in failed.items()
        ]
        raise FixedPointError("\n".join(lines) + f"\n{_checks.see('how-to/verdict').strip()}")
    return found
