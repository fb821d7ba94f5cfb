r"""One solver step of every lane: a Runge-Kutta step and the size of the next one.

States are (n, lanes). Two steppers follow the same rules, and agree to the solver's tolerance:

- `DiffraxStepper`: Diffrax's own solver and `PIDController`, lane by lane under `vmap`: the
  reference, for any adaptive solver, implicit ones included.
- `UnrolledStepper`: the same explicit tableau and the same rule for the step size, written
  out for all lanes at once, so that the compiler fuses it into a few loops over the lanes.
  `benchmarks/README.md` has the gain.

The equation of motion is autonomous: every step begins at t = 0, and no digits of the step
are lost to a large t.
"""

from typing import Any, overload

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...networks import AbstractDynamics, RateNetwork
from ._iterate import Iteration

StateLanes = Float[Array, "n lanes"]
InputLanes = Float[Array, "k lanes"]
PerLane = Float[Array, " lanes"]


class Lanewise(eqx.Module):
    """Dynamics whose equation of motion takes and gives (n, lanes)."""

    dynamics: AbstractDynamics

    @property
    def tau(self) -> Float[Array, "n 1"]:
        """Time constants, for all lanes."""
        return self.dynamics.tau[:, None]

    @property
    def fastest(self) -> Float[Array, ""]:
        """The fastest time scale of the dynamics."""
        return self.dynamics.fastest

    def vector_field(self, t, x: StateLanes, i: InputLanes) -> StateLanes:
        """dx/dt."""
        return jax.vmap(self.dynamics.vector_field, in_axes=(None, -1, -1), out_axes=-1)(t, x, i)

    def drift(self, x: StateLanes, i: InputLanes) -> StateLanes:
        """tau dx/dt."""
        return self.tau * self.vector_field(jnp.zeros((), x.dtype), x, i)


@overload
def in_lanes(network: RateNetwork) -> RateNetwork: ...
@overload
def in_lanes(network: AbstractDynamics) -> RateNetwork | Lanewise: ...
def in_lanes(network: AbstractDynamics) -> RateNetwork | Lanewise:
    """The same dynamics, whose equation of motion takes and gives (n, lanes): a rate network with
    its own equations, whose arrays are made to fit; other dynamics lane by lane under `vmap`."""
    if not isinstance(network, RateNetwork):
        return Lanewise(network)
    view = (network.bias[:, None], network.tau[:, None])
    return eqx.tree_at(lambda net: (net.bias, net.tau), network, view)


class StepTolerances(eqx.Module):
    """Tolerances of the adaptive step size: `rtol`, and an absolute one for each component."""

    rtol: Float[Array, ""]
    atol: StateLanes


class Tolerances(eqx.Module):
    """Relative tolerances; the absolute ones are in units of each component's scale."""

    rtol: Any
    atol: Any
    steady_rtol: Any
    steady_atol: Any

    def of_steps(self, scale: StateLanes) -> StepTolerances:
        """Tolerances of the step size in lanes of these scales."""
        # A component that is zero, as all its terms are, makes no error.
        tiny = jnp.finfo(scale.dtype).tiny / jnp.finfo(scale.dtype).eps
        return StepTolerances(self.rtol, jnp.maximum(self.atol * scale, tiny))

    def at_rest(self, x, scale):
        """The largest |tau dx/dt| of a component at rest."""
        return self.steady_atol * scale + self.steady_rtol * jnp.abs(x)


class UnrolledStepper(eqx.Module):
    """An explicit Runge-Kutta pair, written out for all lanes."""

    network: RateNetwork | Lanewise  # in lanes
    solver: diffrax.AbstractERK

    def init(
        self, x: StateLanes, i: InputLanes, tolerances: StepTolerances
    ) -> tuple[PerLane, Array]:
        """A first step size for each lane, and the memory of a step."""
        velocity = self.network.vector_field(jnp.zeros((), x.dtype), x, i)
        # Within the fastest time scale, and to the tolerance.
        first = self.network.fastest * tolerances.rtol ** (1 / self.order)
        return jnp.broadcast_to(first, x.shape[1:]), velocity

    @property
    def order(self) -> int:
        """Order of the error estimate."""
        order = self.solver.order(None)  # pyright: ignore
        assert order is not None
        return order

    def step(
        self, x: StateLanes, i: InputLanes, dt: PerLane, velocity: Array, tolerances: StepTolerances
    ) -> tuple[StateLanes, Bool[Array, " lanes"], PerLane, Array]:
        """The next state, whether the step is accepted, the next step's size, its memory."""
        table = self.solver.tableau
        assert isinstance(table, diffrax.ButcherTableau)
        start, stages, place = jnp.zeros((), x.dtype), [velocity], x
        for row in table.a_lower:
            place = x + dt * combined(row, stages)
            stages.append(self.network.vector_field(start, place, i))
        if table.ssal and table.fsal:
            new, new_velocity = place, stages[-1]
        else:
            new = x + dt * combined(table.b_sol, stages)
            new_velocity = self.network.vector_field(start, new, i)
        error = dt * combined(table.b_error, stages)
        size = tolerances.atol + tolerances.rtol * jnp.maximum(jnp.abs(x), jnp.abs(new))
        square = jnp.mean(jnp.square(error / size), axis=0)
        accepted, factor = judged_step(square, self.order)
        return new, accepted, dt * factor, jnp.where(accepted, new_velocity, velocity)

    def velocity(self, memory: Array, x: StateLanes, i: InputLanes) -> StateLanes:
        """dx/dt at the present state."""
        del x, i
        return memory


def judged_step(square: PerLane, order: int) -> tuple[Bool[Array, " lanes"], PerLane]:
    """Whether a step of this mean square error, in units of the tolerances, is accepted, and how
    many times as long the next one is."""
    accepted = square < 1
    factor = 0.9 * square ** (-0.5 / order)
    factor = jnp.where(accepted, jnp.clip(factor, 1.0, 10.0), jnp.clip(factor, 0.2, 0.9))
    # A step that is not finite has been rejected, and is cut to a fifth.
    return accepted, jnp.where(jnp.isfinite(square), factor, 0.2)


def next_size(dt: PerLane, next_dt: Any, accepted: Any, wanted: PerLane) -> PerLane:
    """The size of the step after one of size dt that the horizon may have cut short: a short step
    says nothing against longer ones."""
    return jnp.where(accepted & (dt < wanted), wanted, next_dt)


def combined(coefficients: np.ndarray, stages: list[Array]) -> Array:
    """The sum of the stages, each times its coefficient."""
    return sum(float(c) * k for c, k in zip(coefficients, stages, strict=False) if c != 0)  # pyright: ignore


class DiffraxStepper(eqx.Module):
    """Any adaptive Diffrax solver for ordinary differential equations, with its controller."""

    network: AbstractDynamics
    solver: diffrax.AbstractSolver

    def _parts(self, tolerances: StepTolerances):
        term = diffrax.ODETerm(self.network.vector_field)

        def parts(atol):
            controller = diffrax.PIDController(jnp.asarray(tolerances.rtol), atol)
            return term, with_tolerances(self.solver, controller), controller

        return parts

    def init(self, x: StateLanes, i: InputLanes, tolerances: StepTolerances) -> tuple[PerLane, Any]:
        """A first step size for each lane, and the memory of a step."""
        parts = self._parts(tolerances)

        def one(x, i, atol):
            term, solver, controller = parts(atol)
            zero = jnp.zeros((), x.dtype)
            order = solver.error_order(term)
            dt, remembered = controller.init(term, zero, zero, x, None, i, solver.func, order)
            return dt, (solver.init(term, zero, dt, x, i), remembered)

        dt, memory = jax.vmap(one, in_axes=1, out_axes=-1)(x, i, tolerances.atol)
        return jnp.asarray(dt), memory

    def step(self, x: StateLanes, i: InputLanes, dt: PerLane, memory, tolerances: StepTolerances):
        """The next state, whether the step is accepted, the next step's size, its memory."""
        parts = self._parts(tolerances)

        def one(x, i, dt, memory, atol):
            term, solver, controller = parts(atol)
            state, remembered = memory
            zero = jnp.zeros((), x.dtype)
            new, error, _, new_state, _ = solver.step(term, zero, dt, x, i, state, False)
            order = solver.error_order(term)
            assert order is not None
            accepted, start, end, _, remembered, _ = controller.adapt_step_size(
                zero, dt, x, new, i, error, order, remembered
            )
            new_state = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new_state, state)
            return new, accepted, end - start, (new_state, remembered)

        axes = (1, 1, 0, -1, 1)
        return jax.vmap(one, in_axes=axes, out_axes=-1)(x, i, dt, memory, tolerances.atol)

    def velocity(self, memory, x: StateLanes, i: InputLanes) -> StateLanes:
        """dx/dt at the present state."""
        del memory
        return in_lanes(self.network).vector_field(jnp.zeros((), x.dtype), x, i)


Stepper = UnrolledStepper | DiffraxStepper | Iteration


def with_tolerances(solver: diffrax.AbstractSolver, controller) -> diffrax.AbstractSolver:
    """An implicit solver whose root finder has the controller's tolerances where it has none
    of its own, as in `diffrax.diffeqsolve`."""
    if not isinstance(solver, diffrax.AbstractImplicitSolver):
        return solver
    finder = solver.root_finder
    open_ones = [
        name
        for name in ("rtol", "atol", "norm")
        if not isinstance(getattr(finder, name), (int, float, jax.Array))
        and not callable(getattr(finder, name))
    ]
    return eqx.tree_at(
        lambda s: [getattr(s.root_finder, name) for name in open_ones],
        solver,
        [getattr(controller, name) for name in open_ones],
    )


class StepperState(eqx.Module):
    """Where each lane's trajectory is, and what its next step needs."""

    x: StateLanes
    i: InputLanes
    scale: StateLanes
    time: PerLane
    dt: PerLane
    num_steps: Int[Array, " lanes"]
    memory: Any

    @property
    def unit(self) -> StateLanes:
        """The size of each component: |x| or its scale, whichever is larger, and 1 in place of
        0."""
        size = jnp.maximum(jnp.abs(self.x), self.scale)
        return jnp.where(size > 0, size, 1)


def init(
    stepper: Stepper, x: StateLanes, i: InputLanes, scale: StateLanes, tolerances: Tolerances
) -> StepperState:
    """Lanes that begin here, at time zero."""
    dt, memory = stepper.init(x, i, tolerances.of_steps(scale))
    none = jnp.zeros(dt.shape, jnp.int32)
    return StepperState(x, i, scale, jnp.zeros_like(dt), dt, none, memory)


def masked_step(
    stepper: Stepper,
    state: StepperState,
    running: Bool[Array, " lanes"],
    tolerances: Tolerances,
    horizon: Float[Array, ""] | float = jnp.inf,
) -> tuple[StepperState, Bool[Array, " lanes"], PerLane]:
    """One step of the running lanes, not past the horizon; which of them moved, and how far."""
    dt = jnp.minimum(state.dt, horizon - state.time)
    new, accepted, next_dt, memory = stepper.step(
        state.x, state.i, dt, state.memory, tolerances.of_steps(state.scale)
    )
    next_dt = next_size(dt, next_dt, accepted, state.dt)
    moved = running & accepted
    state = StepperState(
        jnp.where(moved, new, state.x), state.i, state.scale,
        jnp.where(moved, state.time + dt, state.time), jnp.where(running, next_dt, state.dt),
        state.num_steps + running,
        jax.tree.map(lambda a, b: jnp.where(running, a, b), memory, state.memory),
    )  # fmt: skip
    return state, moved, dt
