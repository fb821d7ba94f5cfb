"""The schedule of a batch: integration in phases, with verdicts in between."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import _checks
from ..networks import AbstractDynamics, is_map, is_threshold_linear
from ._flow import Flow
from .certificates import AbstractCertificate
from .stepping import Tolerances


class Phase(NamedTuple):
    """One phase of all trajectories. Its numbers are data: one program serves all phases.

    - `tolerances`: each level is a hundred times tighter than the one before.
    - `settling`: how small |tau dx/dt| is to be, as a share of the distance to the nearest
      threshold; 0 where that does not count.
    - `horizon`: the time at which the phase ends; `end`, the same but for rounding; and `t1`, that
      of the last phase.
    - `judged`, `watched`: whether verdicts are passed, and cycles sought, after it.
    - `final`: whether it is the last one.
    - `spared`: whether no trajectory has to be followed before proofs are tried.
    """

    tolerances: Tolerances
    settling: Any
    horizon: Any
    end: Any
    t1: Any
    judged: Any
    watched: Any
    final: Any
    spared: Any


def schedule(
    flow: Flow, network: AbstractDynamics, certificate: AbstractCertificate
) -> list[Phase]:
    """All phases, in order; NumPy's numbers, unless the network is traced.

    Verdicts are passed only on trajectories that have rested at the loosest tolerances and gone on
    from there. Trajectories that still move early and at a fifth of the time are watched for a
    cycle, and once more at the end. Where every trajectory is proven to converge to the same point,
    the first two phases are as loose as a first look allows, and the first is spared if the point
    can be found without it.
    """
    dtype, convergent = network.dtype, certificate.convergent
    xp = _checks.library_of(network.tau, convergent)
    tau, convergent = xp.asarray(network.tau), xp.asarray(convergent)
    t1 = flow.horizon(network, tau, xp)
    nearly = 1 - 8 * float(jnp.finfo(dtype).eps)
    last = flow.last_level(dtype)
    # A weakly damped spiral of a smooth network is kept from rest by the solver's own errors, which
    # add up to rtol / |abscissa dt|: trajectories that still move go on with smaller ones.
    going_on = 0 if is_threshold_linear(network) else min(1, last)
    first, second, third = certificate.settling
    # Level, settling, share of the time, judged, watched.
    rows = [
        (0, first, certificate.early, False, True),
        (0, second, 0.2, False, True),
        (going_on, third, 1.0, False, False),
    ]
    levels = range(1, last + 1) or range(1)
    rows += [(level, 0.0, 1.0, True, level == levels[-1]) for level in levels]

    def number(value):
        return xp.asarray(value, dtype)[()]

    def phase(k: int, level: int, settling: float, share: float, judged: bool, watched: bool):
        tight = flow.tolerances(level, dtype)
        if k < 2:
            loose = flow.tolerances(level - 1, dtype)
            tight = [xp.where(convergent, a, b) for a, b in zip(loose, tight, strict=True)]
        horizon = t1 * number(share)
        if is_map(network):
            horizon = xp.ceil(horizon)  # of whole steps
        spared = convergent & np.bool_(k == 0 and certificate.solves)
        return Phase(
            Tolerances(*map(number, tight)), number(settling), horizon, horizon * number(nearly),
            t1 * number(nearly), np.bool_(judged), watched & ~spared, np.bool_(k == len(rows) - 1),
            spared,
        )  # fmt: skip

    return [phase(k, *row) for k, row in enumerate(rows)]


def tolerances_at(flow: Flow, level: int, dtype) -> Tolerances:
    """The tolerances of a level."""
    return Tolerances(*(np.asarray(t, dtype)[()] for t in flow.tolerances(level, dtype)))
