r"""Integration on a GPU, as one kernel: from the first step of a trajectory to its last, all its
numbers stay in registers.

`run_lanes` is a loop of some twenty small programs, each of which reads and writes the state of all
lanes; where n is small, a GPU waits for memory and for launches (`benchmarks/README.md` has the
gain). Here every thread follows one trajectory and then takes another of its own share of the
queue. The rules are those of `_integrate`, and the plain loop is the oracle of the tests; vectors
are lists of their n components, and Butcher's tableau is written out.
"""

from functools import reduce
from operator import add, and_, truediv
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...networks import Convention, has_chambers
from .._flow import Flow
from .._phases import Phase
from .._speed import FUSED_LANES, FUSED_ROWS, LARGEST_TABLE, STEPS_PER_VISIT
from .._state import StopReason
from ..stepping import Queue, combined, judged_step, next_size
from ._stage import Problem
from ._stopping import followed, reason_to_stop

ORDER: Any = diffrax.Tsit5().order(None)  # pyright: ignore
"""Order of the error estimate of the steps."""

BLOCK = 32
"""Trajectories of one program: as many threads as work in step."""

Component = Float[Array, " block"]
Components = list[Component]


def is_fused(problem: Problem) -> bool:
    """Whether the kernel is there, and pays: for small threshold-linear networks on a GPU, from the
    number of rows on for which it is worth compiling."""
    small = problem.network.num_neurons <= LARGEST_TABLE and has_chambers(problem.network)
    suits = small and problem.flow.solver is None and len(problem.inputs) >= FUSED_ROWS
    return suits and jax.default_backend() in ("gpu", "cuda") and _triton() is not None


def _triton() -> Any:
    """The compiler of the kernel; None where JAX has it no more."""
    # Imported here, as nobody else needs to wait for it.
    try:
        from jax.experimental.pallas import triton
    except ImportError:
        return None
    return triton


class Lane(NamedTuple):
    """A trajectory, or nothing."""

    x: Components
    i: Components
    scale: Components
    velocity: Components
    growth: Components
    time: Component
    dt: Component
    num_steps: Array


class Equation(NamedTuple):
    """The network's numbers, and its equation by components (`RateNetwork`)."""

    weights: list[list[Any]]
    bias: list[Any]
    tau: list[Any]
    convention: Convention

    def product(self, y: Components) -> Components:
        """W y."""
        return [reduce(add, [w * a for w, a in zip(row, y, strict=True)]) for row in self.weights]

    def drive(self, x: Components, i: Components) -> Components:
        """The argument u of the transfer function."""
        u = x if self.convention == "voltage" else self.product(x)
        if self.convention == "activity":
            u = map(add, u, i)
        return [a - b for a, b in zip(u, self.bias, strict=True)]

    def velocity(self, x: Components, i: Components) -> Components:
        """dx/dt."""
        phi = [jnp.maximum(u, 0) for u in self.drive(x, i)]
        if self.convention == "voltage":
            phi = self.product(phi)
        if self.convention != "activity":
            phi = list(map(add, phi, i))
        return [(p - a) / t for p, a, t in zip(phi, x, self.tau, strict=True)]


class Numbers(NamedTuple):
    """What the steps of a phase depend on."""

    rtol: Any
    atol: Any
    steady_rtol: Any
    steady_atol: Any
    settling: Any
    horizon: Any
    end: Any
    t1: Any
    first: Any

    @classmethod
    def of(cls, phase: Phase, first: Any, dtype: Any) -> Float[Array, " numbers"]:
        """These numbers of a phase, in one array, and the size of a trajectory's first step."""
        own = (phase.settling, phase.horizon, phase.end, phase.t1, first)
        tolerances = jax.tree.leaves(phase.tolerances)
        return jnp.stack([jnp.asarray(a, dtype) for a in (*tolerances, *own)])


def step(
    lane: Lane, running: Array, stop: Array, equation: Equation, numbers: Numbers, flow: Flow
) -> tuple[Lane, Array, Array]:
    """One step of the running lanes, which of them go on, and why the others have stopped."""
    table, x, i = diffrax.Tsit5.tableau, lane.x, lane.i
    dt = jnp.minimum(lane.dt, numbers.horizon - lane.time)
    new, stages = x, [lane.velocity]
    for row in table.a_lower:
        by_component = zip(x, *stages, strict=True)
        new = [a + dt * combined(row, list(slopes)) for a, *slopes in by_component]
        stages.append(equation.velocity(new, i))
    errors = [dt * combined(table.b_error, list(slopes)) for slopes in zip(*stages, strict=True)]
    tiny = float(jnp.finfo(dt.dtype).tiny / jnp.finfo(dt.dtype).eps)
    squares = [
        jnp.square(
            e / (jnp.maximum(numbers.atol * s, tiny) + numbers.rtol * jnp.maximum(abs(a), abs(b)))
        )
        for e, s, a, b in zip(errors, lane.scale, x, new, strict=True)
    ]
    accepted, factor = judged_step(reduce(add, squares) / len(x), ORDER)
    moved = running & accepted

    def where(mask: Array, new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)

    lane = lane._replace(
        x=where(moved, new, x),
        velocity=where(moved, stages[-1], lane.velocity),
        time=where(moved, lane.time + dt, lane.time),
        dt=where(running, next_size(dt, dt * factor, accepted, lane.dt), lane.dt),
        num_steps=lane.num_steps + running.astype(jnp.int32),
    )
    speeds = [abs(t * v) for t, v in zip(equation.tau, lane.velocity, strict=True)]
    rest = [
        speed <= numbers.steady_atol * s + numbers.steady_rtol * abs(a)
        for speed, s, a in zip(speeds, lane.scale, lane.x, strict=True)
    ]
    fastest = reduce(jnp.maximum, map(truediv, speeds, lane.scale))
    drive = map(abs, equation.drive(lane.x, i))
    distance = reduce(jnp.minimum, map(truediv, drive, lane.scale))
    at_rest = reduce(and_, rest) | (fastest < numbers.settling * distance)
    reason = reason_to_stop(
        at_rest, lane.time, lane.num_steps, numbers.end, numbers.t1, flow.max_steps
    )
    stop = jnp.where(running, reason.astype(stop.dtype), stop)
    return lane, running & (stop == int(StopReason.NONE)), stop


def _any(mask: Array) -> Array:
    return jnp.max(mask.astype(jnp.int32)) > 0


def run_fused(
    problem: Problem,
    rows_of: Float[Array, "m columns"],
    queue: Queue,
    phase: Phase,
    lanes: int = FUSED_LANES,
    interpret: bool = False,
) -> Float[Array, "m columns"]:
    """The rows of `Packed`, those of the queue integrated to the end of the phase or to where they
    stop."""
    from jax.experimental import pallas as pl

    network, flow, triton = problem.network, problem.flow, _triton()
    (m, columns), dtype = rows_of.shape, rows_of.dtype
    num_programs = min(-(-m // BLOCK), lanes // BLOCK)
    first = network.fastest * phase.tolerances.rtol ** (1 / ORDER)

    def kernel(queue, count, given, inputs, weights, bias, tau, numbers, rows_of):
        del given  # the same memory as `rows_of`
        n = network.num_neurons
        ks = range(n)
        equation = Equation(
            [[weights[k * n + j] for j in ks] for k in ks],
            [bias[k] for k in ks], [tau[k] for k in ks], network.convention,
        )  # fmt: skip
        numbers = Numbers(*(numbers[k] for k in range(len(Numbers._fields))))
        places = pl.program_id(0) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
        stride, count = num_programs * BLOCK, count[0]

        def loaded(row: Array, mask: Array) -> Lane:
            def column(c: int):
                return triton.load(rows_of.at[row * columns + c], mask=mask, other=0)

            x, scale = ([column(start + k) for k in ks] for start in (0, n))
            *growth, time, dt, num_steps = (column(2 * n + k) for k in range(8))
            i = [triton.load(inputs.at[row * n + k], mask=mask, other=0) for k in ks]
            dt = jnp.where(dt > 0, dt, numbers.first)
            velocity = equation.velocity(x, i)
            return Lane(x, i, scale, velocity, growth, time, dt, num_steps.astype(jnp.int32))

        def stored(row: Array, mask: Array, lane: Lane, stop: Array) -> None:
            speeds = zip(equation.tau, lane.velocity, lane.x, lane.scale, strict=True)
            units = [(t * v, jnp.maximum(jnp.abs(x), s)) for t, v, x, s in speeds]
            squares = [jnp.square(speed / jnp.where(u > 0, u, 1)) for speed, u in units]
            speed = jnp.sqrt(reduce(add, squares) / n)
            numbers = (lane.time, lane.dt, lane.num_steps, stop, speed)
            for c, value in enumerate((*lane.x, *lane.scale, *lane.growth, *numbers)):
                triton.store(rows_of.at[row * columns + c], value.astype(dtype), mask=mask)

        def visit(carry: Any):
            place, row, lane = carry
            fresh = (row < 0) & (place < count)

            def begin(carry: Any):
                place, row, lane = carry
                new = triton.load(queue.at[place], mask=fresh, other=0)
                new = (place + stride, new, loaded(new, fresh))
                return jax.tree.map(lambda a, b: jnp.where(fresh, a, b), new, (place, row, lane))

            place, row, lane = jax.lax.cond(_any(fresh), begin, lambda same: same, carry)

            def steps(_, carry: Any) -> Any:
                lane, running, stop = carry
                return step(lane, running, stop, equation, numbers, flow)

            start = (lane, row >= 0, jnp.zeros_like(row))
            lane, running, stop = jax.lax.fori_loop(0, STEPS_PER_VISIT, steps, start)
            size = reduce(jnp.maximum, map(jnp.abs, lane.x))
            growth, escaped = followed(lane.growth, size, lane.time, flow.divergence)
            lane = lane._replace(growth=growth)
            stop = jnp.where(running & escaped, int(StopReason.ESCAPED), stop)
            ended = (row >= 0) & ~(running & ~escaped)

            def end(row):
                stored(row, ended, lane, stop)
                return jnp.where(ended, -1, row)

            return place, jax.lax.cond(_any(ended), end, lambda row: row, row), lane

        def unfinished(carry):
            place, row, _ = carry
            return _any((place < count) | (row >= 0))

        nothing, one = jnp.zeros(BLOCK, dtype), jnp.ones(BLOCK, dtype)
        ones, none = [one] * n, jnp.zeros(BLOCK, jnp.int32)
        idle = Lane(ones, ones, ones, ones, [one] * 5, nothing, one, none)
        jax.lax.while_loop(unfinished, visit, (places, jnp.full(BLOCK, -1, jnp.int32), idle))

    flat = (rows_of, problem.inputs, network.weights)
    rows, i, weights = (a.reshape(-1) for a in flat)
    count = jnp.asarray(queue.count, jnp.int32).reshape(1)
    return pl.pallas_call(
        kernel, grid=(num_programs,), out_shape=jax.ShapeDtypeStruct(rows.shape, dtype),
        input_output_aliases={2: 0}, name="integrate", interpret=interpret,
        compiler_params=None if interpret else triton.CompilerParams(num_warps=1, num_stages=1),
    )(
        jnp.asarray(queue.rows), count, rows, i, weights, network.bias, network.tau,
        Numbers.of(phase, first, dtype),
    ).reshape(m, columns)  # fmt: skip
