"""The host driver of the stages: program by program, chunk by chunk.

Every stage is a small compiled program of its own, run only if some row wants it, so that a stage
that is never needed is never compiled. Rows go in chunks of a fixed shape: the same programs serve
batches of every size. Workers pull the chunks.
"""

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from .._batching import (
    Collected,
    CollectedThere,
    Taken,
    at_home,
    cut,
    first_rows,
    joined,
    regrouped,
    spans,
    taken,
)
from .._devices import put, rows_over
from .._progress import progress_bar
from .._types import Device
from .._workers import in_parallel, num_cores, workers_beside
from ..networks import AbstractDynamics, RateNetwork
from ..networks.weights import Convolution
from ._flow import Flow
from ._linalg import alone, exactly
from ._phases import Phase, schedule
from ._result import FixedPoints, Outcome
from ._speed import LARGEST_KEPT, LARGEST_RANK, chunk_rows
from ._state import State, blank_state, initial_state, result
from ._traced import settle_traced
from .certificates import (
    AbstractCertificate,
    NoCertificate,
    certificate_for,
    has_low_rank,
    is_exact,
)
from .stages import CERTIFY, CLASSIFY, INTEGRATE, MEASURE, PHASE_STAGES, Problem, Stage
from .stepping import Queue


def settle_chunks(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None,
    flow: Flow,
    progress: bool = False,
    workers: Sequence[Device] | None = None,
) -> FixedPoints:
    """Settle a batch of any shape on all workers, or on these. A batch that its owner has spread
    over devices stays on them."""
    if len(inputs.devices()) > 1:
        return _settle_spread(network, inputs, x0, flow)
    batch, home = inputs.shape[:-1], next(iter(inputs.devices()))
    count = math.prod(batch)
    rows = [None if a is None else at_home(a).reshape(count, a.shape[-1]) for a in (inputs, x0)]
    size = chunk_rows(network.num_neurons, count, home.platform)
    settler = settler_for(network, flow, inputs.shape[-1], size, home)

    def chunk_of(span: tuple[int, int], device: Device) -> Chunk:
        return settler.start(*(cut(a, span, settler.size, device) for a in rows))

    workers = workers_for(flow, workers or workers_beside(home))
    if len(settler.spans(count, workers)) == 1:
        chunk = settler.run(chunk_of((0, count), home), settler.plan)
        return joined([settler.finish(chunk, count)], home, batch)
    with progress_bar(count, "settling", "inputs", progress) as bar:
        parts = settle_rows(settler, chunk_of, count, workers, bar.update)
    return joined([parts], home, batch)


def workers_for(flow: Flow, workers: Sequence[Device]) -> Sequence[Device]:
    """Those of the workers that may run side by side: on a CPU only one, where every solver step
    calls LAPACK (`_linalg`); of an accelerator two, so that one chunk is worked on while the other
    one's answer is read."""
    if any(device.platform != "cpu" for device in workers):
        return [*workers, *workers]
    return workers[:1] if flow.is_implicit else workers


class Chunk(NamedTuple):
    """Rows on their way: the problem, the state, and the byte of each row that says which stages
    want it."""

    problem: Problem
    state: State
    wanted: UInt8[Array, " m"]

    def pending(self, first: int) -> Taken:
        """The rows without an outcome, counted from `first` on, and these rows of the inputs and of
        all columns."""
        columns = jax.tree.leaves((self.problem.inputs, self.state, self.wanted))
        return taken(columns, self.wanted, PENDING_BIT, first)


Step = tuple[Stage, Phase]


class Settler:
    """Settles chunks of one network, whose certificate is worked out once.

    - `size`: rows of a chunk; `lanes`: how many of them are in flight at once.
    - `plan`: all stages of all phases; `first`, those after which most rows have an outcome;
      `last`, what is asked of rows that have one; and `rest`, all others and then the last.
    """

    def __init__(
        self, network: AbstractDynamics, flow: Flow, num_inputs: int, size: int, device: Device
    ):
        network = with_few_modes(network)
        # Inputs of a few components become what drives the neurons when a chunk starts.
        self.maps = None
        if isinstance(network, RateNetwork) and network.input_weights is not None:
            self.maps = network.input_weights
            network, num_inputs = network.driven_directly, network.num_neurons
        self.network, self.flow, self.size = network, flow, size
        self.lanes = flow.num_lanes(network, size)
        _compile_together(network, flow, num_inputs, size, device)
        self.certificate = certificate_of(network, flow)
        phases = schedule(flow, network, self.certificate)

        plan: list[Step] = [(stage, phase) for phase in phases for stage in PHASE_STAGES]
        self.last: list[Step] = [(MEASURE, phases[-1])]
        few = PHASE_STAGES.index(CLASSIFY)
        self.plan, self.first, self.rest = plan + self.last, plan[:few], plan[few:] + self.last

    def spans(self, count: int, workers: Sequence[Device]) -> list[tuple[int, int]]:
        """The spans of so many rows; for several cores or devices as long as the lanes at least."""
        several = len(workers) if workers[0].platform == "cpu" else len(set(workers))
        return spans(count, self.size, self.lanes if several > 1 else self.size)

    def problem(self, inputs: Float[Array, "m n"]) -> Problem:
        """The problem of what these inputs drive the neurons with, on their device."""
        network, certificate = self.network, self.certificate
        device = next(iter(inputs.devices()))
        if device.platform != "cpu":
            network, certificate = put((network, certificate), device)
        return Problem(network, certificate, self.flow, inputs)

    def start(self, inputs: Float[Array, "m k"], x0: Float[Array, "m n"] | None) -> Chunk:
        """Trajectories about to start."""
        device = next(iter(inputs.devices()))
        state = _blank(len(inputs), self.network.num_neurons, inputs.dtype, device)
        if x0 is not None:
            state = eqx.tree_at(lambda state: state.x, state, x0)
        if self.maps is not None:
            inputs = _received(put(self.maps, device), inputs)
        problem = self.problem(inputs)
        return Chunk(problem, *_begin(problem, self.plan[0][1], state))

    def resume(self, left: Sequence[Taken], span: tuple[int, int], device: Device) -> Chunk:
        """Pending trajectories that other chunks have left."""
        inputs = left[0].columns[0]
        state = blank_state(1, self.network.num_neurons, inputs.dtype)
        state.outcome[:] = Outcome.INVALID
        idle = (np.full((1, inputs.shape[1]), np.nan, inputs.dtype), state, np.zeros(1, np.uint8))
        leaves, structure = jax.tree.flatten(idle)
        columns = regrouped(left, span, leaves, self.size, device)
        inputs, state, wanted = jax.tree.unflatten(structure, columns)
        return Chunk(self.problem(inputs), state, wanted)

    def run(self, chunk: Chunk, plan: Sequence[Step]) -> Chunk:
        """Run the stages that some row wants."""
        problem, state, wanted = chunk
        bits = _union(wanted)
        for stage, phase in plan:
            if stage is INTEGRATE and phase.spared:
                continue
            # Integration, with no row to move, still says what the phase's other stages want.
            if not bits & (PENDING_BIT if stage is INTEGRATE else BITS[stage.name]):
                continue
            advance = alone(_advance) if stage.uses_lapack(problem) else _advance
            for part, queue in _queues(problem, state, wanted, stage):
                state, wanted = advance(part, state, phase, stage, queue)
                jax.block_until_ready(wanted)
            bits = _union(wanted)
        return Chunk(problem, state, wanted)

    def finish(self, chunk: Chunk, count: int | None = None) -> FixedPoints:
        """The first rows' results, or those of all."""
        return first_rows(_finish(chunk.problem, chunk.state), count)


def settle_rows(
    settler: Settler,
    chunk_of: Callable[[tuple[int, int], Device], Chunk],
    count: int,
    workers: Sequence[Device],
    update: Callable[[int], Any] = lambda count: None,
) -> FixedPoints:
    """Settle many rows: chunk after chunk through the first stages, then the few that are left.

    `chunk_of(span, device)` makes the chunk of a span of rows, `update(count)` hears of progress.
    What is left of all chunks fills few chunks anew.
    """
    found = Collected(count) if workers[0].platform == "cpu" else CollectedThere()

    def begin(span: tuple[int, int], device: Device):
        chunk = settler.run(chunk_of(span, device), settler.first)
        pending = chunk.pending(span[0])  # and which stages of this phase want them
        chunk = settler.run(chunk, settler.last)
        found.store(span, settler.finish(chunk, span[1] - span[0]))
        return pending

    def go_on(span: tuple[int, int], device: Device):
        chunk = settler.run(settler.resume(left, span, device), settler.rest)
        found.replace(rows[slice(*span)], settler.finish(chunk))

    def report(span: tuple[int, int], _: Any) -> None:
        update(span[1] - span[0])

    left = in_parallel(begin, settler.spans(count, workers), workers, report)
    rows = np.concatenate([part.rows for part in left])
    if len(rows):
        in_parallel(go_on, settler.spans(len(rows), workers), workers)
    return found.whole


def with_few_modes(network: AbstractDynamics) -> AbstractDynamics:
    """The network whose weights, if they are a convolution with few Fourier modes, are of low
    rank: its products cost less, and it is proven."""
    weights = network.weights if isinstance(network, RateNetwork) else None
    if not isinstance(weights, Convolution):
        return network
    few = weights.with_few_modes(LARGEST_RANK)
    return network if few is None else eqx.tree_at(lambda net: net.weights, network, few)


def settler_for(
    network: AbstractDynamics, flow: Flow, num_inputs: int, size: int, device: Device
) -> Settler:
    """The settler of this network; that of a small one is kept for the next call."""
    arrays, kind = _kind_of(network, flow, num_inputs, size, device)
    if kind is None or sum(np.size(a) for a in arrays) > LARGEST_KEPT:
        return Settler(network, flow, num_inputs, size, device)
    same = (kind, *(np.asarray(a).tobytes() for a in arrays))
    settler = _KEPT.get(same)
    if settler is None:
        settler = Settler(network, flow, num_inputs, size, device)
        with _KEEPING:
            while len(_KEPT) >= 32:
                _KEPT.pop(next(iter(_KEPT)))
            _KEPT[same] = settler
    return settler


_KEPT: dict[Any, Settler] = {}
_KEEPING = threading.Lock()


def _compile_together(
    network: AbstractDynamics, flow: Flow, num_inputs: int, size: int, device: Device
) -> None:
    """Compile the programs that every batch needs on all cores at once, where they are new: each is
    run on a chunk without a row."""
    kind = _kind_of(network, flow, num_inputs, size, device)[1]
    cores = [device] * num_cores()
    if kind is None or kind in _KINDS or len(cores) == 1:
        return
    _KINDS.add(kind)
    m, n, dtype = size, network.num_neurons, network.dtype
    shape_of = eqx.filter_eval_shape(_certificate, network, flow, known_exact(network))
    certificate = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape_of)
    inputs = jax.device_put(np.zeros((m, num_inputs), dtype), device)
    problem = Problem(network, certificate, flow, inputs)
    phase, state = schedule(flow, network, certificate)[0], _blank(m, n, dtype, device)
    nothing = _queue(np.arange(0), m)
    by_spectrum = isinstance(certificate, NoCertificate)
    stages = [INTEGRATE, CLASSIFY] if by_spectrum else [INTEGRATE, CERTIFY]
    if MEASURE.applies(problem) and not certificate.bounds_are_exact and not by_spectrum:
        stages.append(MEASURE)
    programs: list[Callable] = [lambda: certificate_of(network, flow)]
    for stage in stages:
        part = problem.typical if stage.in_parts else problem
        programs.append(functools.partial(_advance, part, state, phase, stage, nothing))
    programs += [lambda: _finish(problem, state), lambda: _begin(problem, phase, state)]
    in_parallel(lambda program, _: program(), programs, cores)


def _kind_of(network: AbstractDynamics, flow: Flow, *others: Any) -> tuple[list[Array], Any]:
    """The arrays of a network, and all that decides which programs settle it; None for a network
    that cannot be told from others."""
    arrays, static = eqx.partition((network, flow), eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    shapes = tuple((a.shape, a.dtype) for a in leaves)
    rest = tuple(jax.tree.leaves(static))
    kind = (structure, jax.tree.structure(static), shapes, rest, *others, jax.config.jax_enable_x64)  # pyright: ignore
    try:
        hash(kind)
    except TypeError:
        return leaves, None
    return leaves, kind


_KINDS: set[Any] = set()
"""Networks, without their values, whose programs have been compiled together."""

BITS = {stage.name: 1 << k for k, stage in enumerate((*PHASE_STAGES, MEASURE))}
"""The bit of a row's byte that says that this stage wants the row."""

PENDING_BIT = 128
"""The bit that says that the row has no outcome yet."""


def _union(wanted: UInt8[Array, " m"]) -> int:
    """The bits that some row has."""
    wanted = at_home(wanted)
    on_host = isinstance(wanted, np.ndarray)
    return int(np.bitwise_or.reduce(wanted) if on_host else _union_there(wanted))


@jax.jit
def _union_there(wanted: UInt8[Array, " m"]) -> UInt8[Array, ""]:
    return jax.lax.reduce(wanted, np.uint8(0), jax.lax.bitwise_or, (0,))


def _queues(
    problem: Problem, state: State, wanted: UInt8[Array, " m"], stage: Stage
) -> Iterator[tuple[Problem, Queue]]:
    """The rows that the stage wants, part by part. Where they live on an accelerator, so does the
    queue, unless the parts are told on the host."""
    bit, in_parts = BITS[stage.name], stage.in_parts and problem.certificate.has_parts
    wanted = at_home(wanted)
    if not (in_parts or isinstance(wanted, np.ndarray)):
        yield problem, _queue_there(wanted, bit)
        return
    rows = np.flatnonzero(np.asarray(wanted) & bit)
    for part, some in problem.parts(state.x, rows) if in_parts else [(problem, rows)]:
        yield part, _queue(some, len(wanted))


def _queue(rows: np.ndarray, m: int) -> Queue:
    queue = np.full(m, m, np.int32)
    queue[: len(rows)] = rows
    return Queue(queue, np.int32(len(rows)))


@jax.jit
def _queue_there(wanted: UInt8[Array, " m"], bit: int) -> Queue:
    return Queue.where((wanted & jnp.uint8(bit)) != 0)


def _wanted(problem: Problem, state: State, phase: Phase) -> UInt8[Array, " m"]:
    """For each row, which stages want it, and whether it is pending."""
    # Otherwise this would be compiled into one loop with all that led to the state.
    state = jax.lax.optimization_barrier(state)
    byte = jnp.where(state.pending, PENDING_BIT, 0).astype(jnp.uint8)
    for stage in (*PHASE_STAGES, MEASURE):
        if stage.applies(problem):
            wants = stage.wants(problem, state, phase)
            byte |= jnp.where(wants, BITS[stage.name], 0).astype(jnp.uint8)
    return byte


def certificate_of(network: AbstractDynamics, flow: Flow) -> AbstractCertificate:
    """The certificate of this network, worked out by a program of its own."""
    return jax.block_until_ready(_certificate(network, flow, known_exact(network)))


def known_exact(network: AbstractDynamics) -> bool | None:
    """Whether a network of low rank is as its proofs demand; None for other networks."""
    return bool(is_exact(network)) if has_low_rank(network) else None


@eqx.filter_jit
def _certificate(network: AbstractDynamics, flow: Flow, exact: bool | None) -> AbstractCertificate:
    with exactly():
        return certificate_for(network, flow, exact)


@functools.lru_cache(maxsize=64)
def _blank(m: int, n: int, dtype: Any, device: Device) -> State:
    return jax.device_put(blank_state(m, n, dtype), device)


@jax.jit
def _received(maps: Float[Array, "n k"], inputs: Float[Array, "m k"]) -> Float[Array, "m n"]:
    with exactly():
        return inputs @ maps.T


@eqx.filter_jit
def _begin(problem: Problem, phase: Phase, state: State) -> tuple[State, UInt8[Array, " m"]]:
    with exactly():
        state = initial_state(problem.network, problem.inputs, state)
        return state, _wanted(problem, state, phase)


@eqx.filter_jit
def _advance(
    problem: Problem, state: State, phase: Phase, stage: Stage, queue: Queue
) -> tuple[State, UInt8[Array, " m"]]:
    with exactly():
        state = stage.run(problem, state, phase, queue)
        return state, _wanted(problem, state, phase)


@eqx.filter_jit
def _finish(problem: Problem, state: State) -> FixedPoints:
    with exactly():
        return result(problem.network, problem.inputs, state)


_settle_together = eqx.filter_jit(settle_traced)
"""One program of all processes, for a batch that none of them holds whole."""


def _settle_spread(
    network: AbstractDynamics,
    inputs: Float[Array, "*batch k"],
    x0: Float[Array, "*batch n"] | None,
    flow: Flow,
) -> FixedPoints:
    """Settle a batch whose owner has spread it over devices, each device's rows there."""
    if not inputs.is_fully_addressable:
        return _settle_together(network, inputs, x0, flow)
    batch = inputs.shape[:-1]
    count = math.prod(batch)
    devices = sorted(inputs.devices(), key=lambda device: device.id)
    mesh = Mesh(np.asarray(devices), ("rows",))
    share = -(-count // len(devices))
    fill = ((0, share * len(devices) - count), (0, 0))

    def spread(rows: Array | None) -> list[Any]:
        """The rows of each device."""
        if rows is None:
            return [None] * len(devices)
        rows = jnp.pad(rows.reshape(count, -1), fill, constant_values=jnp.nan)
        shards = jax.device_put(rows, rows_over(mesh)).addressable_shards
        return [shard.data for shard in sorted(shards, key=lambda shard: shard.device.id)]

    parts, starts = spread(inputs), spread(x0)

    def work(k: int, device: Device) -> FixedPoints:
        del device
        here = devices[k]
        return settle_chunks(put(network, here), parts[k], starts[k], flow, workers=[here])

    found = in_parallel(work, range(len(devices)), workers_for(flow, devices))

    def whole(*columns: Array) -> Array:
        shape = (share * len(devices), *columns[0].shape[1:])
        rows = jax.make_array_from_single_device_arrays(shape, rows_over(mesh), list(columns))
        return rows[:count].reshape(*batch, *shape[1:])

    return jax.tree.map(whole, *found)
