"""Journeys: trajectories, leg by leg, from their starts to rest, escape or the end of time."""

import enum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..networks import AbstractDynamics, is_threshold_linear
from ._chambers import has_table
from ._flow import Flow
from ._lanes import Queue, pool
from ._steps import Ride, board, in_lanes, ride_on
from ._whole import Whole


class Halt(enum.IntEnum):
    """Why a journey stands still."""

    NOT_YET = 0
    RESTING = 1
    INTERRUPTED = 2  # before the end of time
    ESCAPED = 3
    EXHAUSTED = 4  # of time or of steps


class Log(eqx.Module):
    """Where m journeys are: one row for each, so that a row moves in one piece.

    The columns are x (n of them), then those named here. `verdict` is 0 until the outcome is
    known, and one more than it then.
    """

    rows: Float[Array, "m columns"]

    COLUMNS = (
        "time", "dt", "num_steps", "halt", "scale", "verdict", "abscissa", "certified", "period",
    )  # fmt: skip

    @property
    def n(self) -> int:
        """Number of neurons."""
        return self.rows.shape[1] - len(self.COLUMNS)

    @property
    def x(self) -> Float[Array, "m n"]:
        """Where each journey is."""
        return self.rows[:, : self.n]

    def __getitem__(self, name: str) -> Float[Array, " m"]:
        return self.rows[:, self.n + self.COLUMNS.index(name)]

    def take(self, rows: Int[Array, " k"]) -> "Log":
        """These rows; one past the end gives the last."""
        return Log(self.rows.at[rows].get(mode="clip"))

    def put(self, rows: Int[Array, " k"], part: "Log") -> "Log":
        """With these rows replaced; one past the end is dropped."""
        return Log(self.rows.at[rows].set(part.rows, mode="drop"))

    def replace(self, x: Float[Array, "m n"] | None = None, **columns: Array) -> "Log":
        """With other values in some columns."""
        rows = self.rows if x is None else self.rows.at[:, : self.n].set(x)
        for name, values in columns.items():
            column = self.n + self.COLUMNS.index(name)
            rows = rows.at[:, column].set(values.astype(rows.dtype))
        return Log(rows)

    @classmethod
    def start(cls, x0: Float[Array, "m n"], scale: Float[Array, " m"]) -> "Log":
        """Journeys that have not left yet."""
        blank = jnp.zeros((x0.shape[0], len(cls.COLUMNS)), x0.dtype)
        return cls(jnp.concatenate([x0, blank], axis=1)).replace(scale=scale)


class Leg(eqx.Module):
    """One leg of all journeys.

    - `level`: of tightness of the tolerances.
    - `settling`: how small |tau dx/dt| is to be, as a share of the distance to the nearest
      threshold; 0 where that does not count.
    - `horizon`: the time at which the leg ends, and `end`, the same but for rounding.
    - `judged`, `watched`: whether verdicts are passed, and cycles sought, after it.
    """

    level: Int[Array, " legs"]
    settling: Float[Array, " legs"]
    horizon: Float[Array, " legs"]
    end: Float[Array, " legs"]
    judged: Bool[Array, " legs"]
    watched: Bool[Array, " legs"]


def plan(flow: Flow, network: AbstractDynamics, whole: Whole | None) -> tuple[Leg, int]:
    """All legs, one after the other, and the index of the last one.

    Verdicts are passed only on what has rested at the loosest tolerances and gone on from
    there. What still moves early and at a fifth of the time is watched for a cycle, and once more
    at the end.
    Where every trajectory is proven to converge to the same point, the first two legs are as loose
    as a first look allows.
    """
    dtype = network.dtype
    # A watch is long: most of what settles has done so before the first. Small networks are quick.
    early, later, late = 0.05 if has_table(network) else 0.1, 0.2, 1.0
    levels = range(flow.last_level(dtype) + 1)
    shares = [0.0, 0.0, 0.0]
    if is_threshold_linear(network):
        shares = [0.7, 1 / 10, 1 / 100] if has_table(network) else [1 / 30, 1 / 300, 0.0]
    # Level, settling, share of the time, judged, watched.
    legs = [(0, shares[0], early, False, True), (0, shares[1], later, False, True)]
    # A weakly damped spiral of a smooth network is kept from rest by the solver's own errors, which
    # add up to rtol / |abscissa dt|: what still moves goes on with smaller ones.
    going_on = 0 if is_threshold_linear(network) else min(1, levels[-1])
    legs += [(going_on, shares[2], late, False, False)]
    legs += [(level, 0.0, late, True, level == levels[-1]) for level in levels[1:] or levels]
    level, settling, share, judged, watched = (
        np.asarray(column) for column in zip(*legs, strict=True)
    )
    horizon = flow.horizon(network) * share.astype(dtype)
    end = horizon * (1 - 8 * float(jnp.finfo(dtype).eps))
    if whole is not None:
        level = level - (whole.convergent & (np.arange(len(legs)) < 2))
    columns = (level, settling.astype(dtype), horizon, end, judged, watched)
    return Leg(*map(jnp.asarray, columns)), len(legs) - 1


class Cargo(eqx.Module):
    """What a lane carries of its journey."""

    ride: Ride
    halt: Int[Array, " lanes"]


STEPS_PER_TURN = 8
"""Solver steps between two visits of the pool. Fewer waste steps of lanes that have ended,
more spend time on storing and loading."""


def travel(
    network: AbstractDynamics,
    inputs: Float[Array, "m k"],
    log: Log,
    queue: Queue,
    flow: Flow,
    leg: Leg,
) -> Log:
    """Take the journeys in the queue one leg further."""
    steps, lanewise = flow.steps(network), in_lanes(network)
    dtype = inputs.dtype
    tight = flow.tolerances(leg.level, dtype)
    t1 = flow.horizon(network) * (1 - 8 * float(jnp.finfo(dtype).eps))

    def load(log: Log, rows) -> Cargo:
        part, i = log.take(rows), inputs.at[rows].get(mode="clip")
        ride = board(
            steps, part.x.T, i.T, part["scale"], tight,
            time=part["time"], dt=part["dt"], num_steps=part["num_steps"].astype(jnp.int32),
        )  # fmt: skip
        return Cargo(ride, jnp.zeros_like(ride.num_steps))

    def step(cargo: Cargo, running):
        ride = ride_on(steps, cargo.ride, running, tight, leg.horizon)[0]
        speed = jnp.abs(lanewise.tau * steps.velocity(ride.memory, ride.x, ride.i))
        limit = tight.steady_atol * ride.scale + tight.steady_rtol * jnp.abs(ride.x)
        resting = jnp.all(speed <= limit, axis=0)
        if is_threshold_linear(lanewise):
            distance = jnp.min(jnp.abs(lanewise.drive(ride.x, ride.i)), axis=0)
            resting |= jnp.max(speed, axis=0) < leg.settling * distance
        escaped = jnp.max(jnp.abs(ride.x), axis=0) > flow.divergence * ride.scale
        exhausted = (ride.time >= t1) | (ride.num_steps >= flow.max_steps)
        halt = jnp.select(
            [escaped, resting, exhausted, ride.time >= leg.end],
            [Halt.ESCAPED, Halt.RESTING, Halt.EXHAUSTED, Halt.INTERRUPTED],
            Halt.NOT_YET,
        ).astype(jnp.int32)
        halt = jnp.where(running, halt, cargo.halt)
        return Cargo(ride, halt), running & (halt == Halt.NOT_YET)

    def advance(cargo, running):
        return jax.lax.fori_loop(0, STEPS_PER_TURN, lambda _, c: step(*c), (cargo, running))

    def store(log: Log, rows, cargo: Cargo) -> Log:
        ride = cargo.ride
        columns = [ride.time, ride.dt, ride.num_steps, cargo.halt, ride.scale]
        left = len(Log.COLUMNS) - len(columns)
        blank = jnp.zeros((left, rows.size), dtype)
        part = jnp.concatenate([ride.x, jnp.stack([c.astype(dtype) for c in columns]), blank])
        return log.put(rows, Log(part.T))

    lanes = flow.num_lanes(network, len(queue.rows))
    return pool(queue, lanes, load, advance, store, log, few=lanes // 16)
