"""Maps and cells: iterated, polished, judged by the spectral radius; against closed forms and
PyTorch."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from safetensors.numpy import save_file

import equilibrax as eqb
from equilibrax import Evidence, Outcome
from equilibrax.fixed_points.certificates._spectrum import log_radius


class Logistic(eqb.AbstractMap):
    """x <- i x (1 - x)."""

    def step(self, x, i):
        return i * x * (1 - x)


def henon(x, i):
    """The Henon map, b = 0.3."""
    return jnp.stack([1 - i[0] * x[0] ** 2 + x[1], 0.3 * x[0]])


DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])


@DTYPES
def test_the_logistic_map(dtype):
    # At r = 3 the fixed point loses its stability and is reached algebraically; 3.9 is chaotic;
    # 4.5 leaves the interval, and then all numbers.
    growth = jnp.asarray([[2.8], [3.2], [3.5], [3.9], [3.0], [4.5]], dtype)
    found = eqb.find_fixed_points(Logistic(), growth, x0=jnp.asarray([0.3], dtype))
    expected = [
        Outcome.STABLE, Outcome.OSCILLATING, Outcome.OSCILLATING, Outcome.NOT_SETTLED,
        Outcome.NOT_SETTLED, Outcome.DIVERGED,
    ]  # fmt: skip
    assert found.outcome.tolist() == expected
    assert found.period.tolist()[1:3] == [2, 4]
    eps = jnp.finfo(dtype).eps
    assert abs(found.state[0, 0] - (1 - 1 / 2.8)) < 4 * eps
    assert abs(found.abscissa[0] - np.log(0.8)) < 20 * eps  # |2 - r|
    assert found.abscissa_bound[0] > np.log(0.8) - 20 * eps


def test_the_henon_map():
    # Fixed points x = (-(1 - b) +- sqrt((1 - b)^2 + 4 a)) / 2a; stable up to a = 0.3675, then cycles
    # of 2 steps up to 0.9125 and of 4 up to 1.026; a = 1.4 is chaotic.
    a = jnp.asarray([[0.2], [0.5], [1.0], [1.4]])
    found = eqb.find_fixed_points(eqb.as_map(henon), a, x0=jnp.zeros(2))
    assert found.outcome.tolist() == [0, 3, 3, 5]
    assert found.period.tolist()[1:3] == [2, 4]
    assert abs(found.state[0, 0] - (-0.7 + np.sqrt(0.49 + 0.8)) / 0.4) < 1e-14
    multipliers = np.linalg.eigvals([[-0.4 * float(found.state[0, 0]), 1.0], [0.3, 0.0]])
    assert abs(found.abscissa[0] - np.log(np.abs(multipliers).max())) < 1e-12


def test_a_cycle_of_every_length_is_exact():
    # Rotations of k cells, with a little decay towards a fixed pattern: period k for every start.
    for k in (3, 100):
        step = eqb.as_map(lambda x, i: jnp.roll(jnp.sign(x) - 0.1 * (jnp.sign(x) - x), 1))
        start = jnp.ones(k).at[0].set(-1.0)
        found = eqb.find_fixed_points(step, jnp.zeros(k), x0=start)
        assert found.outcome == Outcome.OSCILLATING
        assert found.period == k


def test_rotations_without_decay_are_no_cycles():
    # All multipliers on the circle: quasi-periodic, and neither attracting nor at rest.
    turn = jnp.asarray([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    rotation = eqb.as_map(lambda x, i: turn @ x)
    found = eqb.find_fixed_points(rotation, jnp.zeros(2), x0=jnp.ones(2))
    assert found.outcome == Outcome.NOT_SETTLED


@DTYPES
def test_starts_on_saddles_are_unstable_and_lines_of_points_marginal(dtype):
    saddle = eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i)
    found = eqb.find_fixed_points(saddle, jnp.zeros((1, 2), dtype))
    assert found.outcome.tolist() == [Outcome.UNSTABLE]
    assert abs(found.abscissa[0] - np.log(2)) < 1e-6
    line = eqb.as_map(lambda x, i: jnp.stack([x[0], x[1] / 2]))
    found = eqb.find_fixed_points(line, jnp.ones((1, 2), dtype))
    assert found.outcome.tolist() == [Outcome.MARGINAL]


@DTYPES
def test_the_radius_is_that_of_eigenvalues(dtype):
    matrices = jr.normal(jr.key(0), (50, 6, 6), dtype)
    nilpotent = jnp.triu(matrices[0], 1)
    expected = np.log(np.abs(np.linalg.eigvals(np.asarray(matrices, float))).max(axis=1))
    radii = jax.vmap(log_radius)(matrices)
    np.testing.assert_allclose(radii, expected, rtol=0, atol=300 * jnp.finfo(dtype).eps)
    assert log_radius(nilpotent) < -1
    assert np.isnan(log_radius(nilpotent.at[0, 0].set(jnp.inf)))


def test_what_needs_continuous_time_refuses_maps():
    # x <- -1.5 tanh(x) + i: as a flow its point is stable, as a map it is not.
    step, i = eqb.as_map(lambda x, i: -1.5 * jnp.tanh(x) + i), jnp.zeros(2)
    for call in (
        lambda: eqb.figures.phase_plane(step, i),
        lambda: eqb.settled_event(eqb.as_map(lambda x, i: x / 2, 1)),
    ):
        with pytest.raises(TypeError, match="must be in continuous time, but is a map"):
            call()


def special(branch):
    return [(point.kind, round(point.parameter, 6), point.period) for point in branch.points]


def test_branches_of_maps_flip_turn_and_begin_to_rotate():
    # Of x <- r x (1 - x), 1 - 1/r has the eigenvalue 2 - r, and passes zero at r = 1.
    logistic = eqb.as_map(lambda x, r: r * x * (1 - x))
    branch = eqb.follow_branch(lambda p: logistic, lambda p: p[None], 1.5, 3.5, x0=jnp.ones(1) / 3)
    (flip,) = branch.points
    assert (flip.kind, flip.period) == ("flip", 2.0)
    np.testing.assert_allclose([flip.parameter, *flip.state], [3, 2 / 3], rtol=1e-7)
    r = branch.parameter
    np.testing.assert_allclose(branch.abscissa, np.log(np.abs(2 - r)), rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(branch.stable, r < 3)
    back = eqb.follow_branch(lambda p: logistic, lambda p: p[None], 1.5, 0.5, x0=jnp.ones(1) / 3)
    assert [point.kind for point in back.points] == ["branch"]
    assert back.points[0].parameter == pytest.approx(1, abs=1e-3)
    # Henon's map, b = 0.3: a fold at -(1 - b)^2 / 4, and flips at 3 (1 - b)^2 / 4.
    henon = eqb.as_map(lambda x, i: jnp.stack([i[0] - x[0] ** 2 + 0.3 * x[1], x[0]]))
    branch = eqb.follow_branch(lambda p: henon, lambda p: p[None], 0.6, -1.0, x0=0.45 * jnp.ones(2))
    places = {point.kind: point.parameter for point in branch.points}
    assert places == pytest.approx({"flip": 3 * 0.7**2 / 4, "fold": -(0.7**2) / 4}, abs=1e-6)
    # x <- r x (1 - y), y <- x: a pair crosses the unit circle at r = 2, at angles of +-pi / 3.
    delayed = eqb.as_map(lambda x, r: jnp.stack([r[0] * x[0] * (1 - x[1]), x[0]]))
    branch = eqb.follow_branch(lambda p: delayed, lambda p: p[None], 1.5, 2.5, x0=jnp.ones(2) / 3)
    assert special(branch) == [("neimark-sacker", 2.0, pytest.approx(6, rel=1e-6))]
    assert eqb.figures.branch(branch).get_legend().get_texts()[-1].get_text() == "neimark-sacker"


def test_proofs_refuse_what_does_not_attract():
    # The matrix is the input; from its fixed point zero nothing moves.
    matrices = np.random.default_rng(0).normal(size=(60, 4, 4))
    matrices /= np.abs(np.linalg.eigvals(matrices)).max(axis=1)[:, None, None]
    step, start = eqb.as_map(lambda x, i: i.reshape(4, 4) @ x), jnp.zeros(4)
    for wanted in (0.97, 1 + 1e-9, 1.03):
        inputs = jnp.asarray(wanted * matrices).reshape(60, 16)
        found = eqb.find_fixed_points(step, inputs, x0=start)
        assert (np.asarray(found.stable) == (wanted < 1)).all()
        proven = np.asarray(found.evidence) == Evidence.STABLE_PROVEN
        assert proven.mean() > 0.9 if wanted < 1 else not proven.any()
        assert (np.asarray(found.abscissa_bound)[proven] >= np.log(wanted) - 1e-12).all()


def test_probes_say_what_proofs_say():
    # The matrix is the input; large transients among them.
    matrices = np.random.default_rng(1).normal(size=(100, 8, 8))
    matrices[50:] = np.triu(matrices[50:]) * np.where(np.eye(8), 1, 3)
    matrices /= np.abs(np.linalg.eigvals(matrices)).max(axis=1)[:, None, None]
    step, start = eqb.as_map(lambda x, i: i[8:].reshape(8, 8) @ x + i[:8]), jnp.zeros(8)
    probed = eqb.Flow(evidence="probe")
    for wanted in (0.9, 0.97, 1.001):
        shifts = np.random.default_rng(2).normal(size=(100, 8))
        inputs = jnp.asarray(np.concatenate([shifts, wanted * matrices.reshape(100, 64)], axis=1))
        found = eqb.find_fixed_points(step, inputs, x0=start, method=probed)
        seen = np.asarray(found.evidence) == Evidence.PROBED
        assert seen.mean() > 0.9 if wanted < 1 else not seen.any()
        assert (np.asarray(found.abscissa_bound)[seen] >= np.log(wanted) - 1e-12).all()
        proven = eqb.find_fixed_points(step, inputs, x0=start)
        both = np.asarray(found.stable & proven.stable)
        assert both.mean() > 0.9 if wanted < 1 else not found.stable.any()
        np.testing.assert_allclose(found.state[both], proven.state[both], rtol=1e-9, atol=1e-11)


def test_jit_vmap_and_batches_agree():
    inputs = jnp.linspace(0.1, 1.0, 12)[:, None]
    step, start = eqb.as_map(henon), jnp.zeros(2)

    def settle(i):
        return eqb.find_fixed_points(step, i, x0=start)

    batch, traced = settle(inputs), jax.jit(settle)(inputs)
    assert np.array_equal(batch.outcome, traced.outcome)
    assert np.array_equal(batch.period, traced.period, equal_nan=True)
    np.testing.assert_allclose(batch.state, traced.state, rtol=0, atol=1e-15)
    assert {0, 3} <= set(batch.outcome.tolist())


def test_derivatives_of_points_and_radii():
    def settle(r):
        return eqb.find_fixed_points(Logistic(), r, x0=jnp.asarray([0.3]))

    r = jnp.asarray([2.8])
    # x = 1 - 1/r, and the multiplier is 2 - r.
    assert abs(jax.grad(lambda r: settle(r).state[0])(r)[0] - 1 / 2.8**2) < 1e-14
    assert abs(jax.grad(lambda r: settle(r).abscissa)(r)[0] - 1 / 0.8) < 1e-12
    cell = eqx.nn.GRUCell(2, 6, key=jr.key(0))

    def total(scale):
        scaled = eqx.tree_at(lambda cell: cell.weight_hh, cell, scale * cell.weight_hh)
        return eqb.find_fixed_points(eqb.from_cell(scaled), jnp.ones(2)).rates.sum()

    difference = (total(1 + 1e-5) - total(1 - 1e-5)) / 2e-5
    assert abs(jax.grad(total)(1.0) - difference) < 1e-7


def test_batches_of_other_widths_than_the_state_are_taken_up_again():
    # Enough inputs for several chunks, some of which are left after the first look.
    cell = eqb.from_cell(eqx.nn.GRUCell(3, 8, key=jr.key(0)))
    inputs = jr.normal(jr.key(1), (20_000, 3))
    found = eqb.find_fixed_points(cell, inputs)
    assert found.stable.all()
    few = eqb.find_fixed_points(cell, inputs[:50])
    np.testing.assert_array_equal(found.state[:50], few.state)
    x = found.state
    for _ in range(3):
        x = jax.vmap(cell.step)(x, inputs)
    np.testing.assert_allclose(x, found.state, rtol=0, atol=1e-13)


def test_lstm_cells_have_pairs():
    cell = eqx.nn.LSTMCell(2, 4, key=jr.key(0))
    found = eqb.find_fixed_points(eqb.from_cell(cell), jnp.ones((3, 2)))
    assert found.state.shape == (3, 8)
    assert found.rates.shape == (3, 4)
    h, c = cell(jnp.ones(2), (found.state[0, :4], found.state[0, 4:]))
    np.testing.assert_allclose(jnp.concatenate([h, c]), found.state[0], rtol=0, atol=1e-14)


def test_sampling_stores_basins_and_distillation_take_maps(tmp_path):
    cell = eqx.nn.GRUCell(2, 5, key=jr.key(0))
    step = eqb.from_cell(cell)
    cube = eqb.UniformCube(-1.0, 1.0)
    data = eqb.sample_fixed_points(step, cube, 500, key=jr.key(1))
    store = eqb.sample_to_store(tmp_path / "store", step, cube, 500, key=jr.key(1))
    np.testing.assert_array_equal(store[0:500].rates, data.rates)
    found = eqb.basins(eqb.as_map(lambda x, i: jnp.tanh(2 * x) + i), jnp.zeros(1), jnp.asarray([[-1.0], [1.0]]))  # fmt: skip
    assert len(found.state) == 2
    swept = eqb.sweep(
        lambda g: eqb.as_map(lambda x, i: g * jnp.tanh(x) + i), jnp.asarray([0.5, 0.7]),
        jnp.asarray([[0.1], [0.2]]),
    )  # fmt: skip
    assert swept.found.stable.all()


BAD = {
    "a cell that is none": (lambda: eqb.from_cell(3), TypeError, "be an Equinox cell"),
    "another width": (
        lambda: eqb.find_fixed_points(eqb.as_map(lambda x, i: x[:1]), jnp.ones(2)),
        ValueError, "network.step` must return an array of shape (2,)",
    ),
    "unknown size": (
        lambda: eqb.sample_fixed_points(
            eqb.as_map(lambda x, i: x), eqb.UniformCube(-1, 1), 10, key=jr.key(0)
        ),
        ValueError, "as_map(function, num_neurons)",
    ),
    "a solver": (
        lambda: eqb.find_fixed_points(
            Logistic(), jnp.ones(1), method=eqb.Flow(solver=__import__("diffrax").Tsit5())
        ),
        ValueError, "be None for a map",
    ),
    "a class": (lambda: eqb.as_map(Logistic), TypeError, "be a function"),
    "an event": (lambda: eqb.settled_event(Logistic()), ValueError, "as_map(function"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind) as error:
        call()
    assert message in str(error.value)


def test_a_cell_whose_next_state_has_another_shape():
    class Wrong(eqx.Module):
        input_size: int = 2
        hidden_size: int = 3

        def __call__(self, input, hidden):
            return hidden[:2]

    with pytest.raises(ValueError, match=r"returns shape \(2,\)"):
        eqb.from_cell(Wrong())


def test_maps_that_meet_nan_do_not_settle():
    step = eqb.as_map(lambda x, i: jnp.where(x > 0.5, jnp.nan, 1.3 * x + i))
    found = eqb.find_fixed_points(step, jnp.asarray([[0.1], [jnp.nan]]), x0=jnp.asarray([0.2]))
    assert found.outcome.tolist() == [Outcome.NOT_SETTLED, Outcome.INVALID]


def saved(path, gates, n=4, k=3, names="{}_l0", **changes):
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (gates * n, k), "weight_hh": (gates * n, n)}
    shapes |= {"bias_ih": (gates * n,), "bias_hh": (gates * n,)}
    parts = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    parts |= changes
    save_file({names.format(name): part for name, part in parts.items()}, path)
    return parts


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("names", ["{}_l0", "{}", "rnn.{}_l0"])
def test_a_saved_gru_is_pytorchs_equation(tmp_path, names):
    path = tmp_path / "gru.safetensors"
    p = saved(path, 3, names=names)
    prefix = "rnn." if names.startswith("rnn") else ""
    step = eqb.load_cell(path, "gru", prefix=prefix).astype(jnp.float64)
    x, i = jr.normal(jr.key(0), (4,)), jr.normal(jr.key(1), (3,))
    given = p["weight_ih"] @ np.asarray(i) + p["bias_ih"]
    fed = p["weight_hh"] @ np.asarray(x) + p["bias_hh"]
    r, z = sigmoid(given[:4] + fed[:4]), sigmoid(given[4:8] + fed[4:8])
    new = np.tanh(given[8:] + r * fed[8:])
    np.testing.assert_allclose(step.step(x, i), (1 - z) * new + z * np.asarray(x), atol=1e-6)


def test_an_rnn_has_the_activation_that_it_is_given(tmp_path):
    p = saved(tmp_path / "rnn.safetensors", 1)
    step = eqb.load_cell(p, "rnn", activation=jax.nn.relu).astype(jnp.float64)
    x, i = jr.normal(jr.key(0), (4,)), jr.normal(jr.key(1), (3,))
    drive = p["weight_ih"] @ np.asarray(i) + p["bias_ih"]
    drive += p["weight_hh"] @ np.asarray(x) + p["bias_hh"]
    assert (drive < 0).any()
    np.testing.assert_allclose(step.step(x, i), np.maximum(drive, 0), atol=1e-6)


WRONG_FILES = {
    "lstm": (dict(gates=3), "weight_ih of shape (16, 3) for a lstm"),
    "gru": (dict(gates=3, names="other.{}"), "hold weight_ih_l0 and weight_hh_l0"),
    "rnn": (dict(gates=1, bias_ih=np.zeros(3, np.float32)), "bias_ih of shape (4,)"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_files_with_other_names_or_shapes(tmp_path, kind):
    options, message = WRONG_FILES[kind]
    saved(tmp_path / "cell.safetensors", **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        eqb.load_cell(tmp_path / "cell.safetensors", kind)


def test_files_that_are_none(tmp_path):
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="be a safetensors file"):
        eqb.load_cell(tmp_path / "text", "gru")
    with pytest.raises(FileNotFoundError):
        eqb.load_cell(tmp_path / "missing", "gru")
    with pytest.raises(ValueError, match="be one of 'gru', 'lstm', 'rnn'"):
        eqb.load_cell(tmp_path / "text", "elman")  # pyright: ignore


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_pytorch_cells_answer_alike_and_stay_at_our_points(tmp_path, kind):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    layer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "rnn": torch.nn.RNN}[kind](3, 8)
    save_file(layer.state_dict(), tmp_path / "cell.safetensors")
    step = eqb.load_cell(tmp_path / "cell.safetensors", kind)
    same = eqb.load_cell(layer.state_dict(), kind)
    assert eqx.tree_equal(jax.tree.leaves(step), jax.tree.leaves(same))
    inputs = jr.normal(jr.key(1), (5, 3), jnp.float32)
    found = eqb.find_fixed_points(step, inputs)
    assert found.stable.all()
    i = torch.tensor(np.asarray(inputs))
    state = torch.tensor(np.asarray(found.state))
    hidden = tuple(part[None].contiguous() for part in state.split(8, dim=1))
    with torch.no_grad():
        for _ in range(20):
            out, hidden = layer(i[None], hidden if kind == "lstm" else hidden[0])
            hidden = hidden if kind == "lstm" else (hidden,)
    np.testing.assert_allclose(out[0].numpy(), found.rates, rtol=0, atol=1e-6)


def test_cells_of_several_layers_or_directions_are_chosen_or_refused():
    rng = np.random.default_rng(0)

    def layer(k, width):
        shapes = {f"weight_ih_l{k}": (6, width), f"weight_hh_l{k}": (6, 2)}
        return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    both = layer(0, 3) | layer(1, 2)
    with pytest.raises(ValueError, match="`layer` must be chosen among 2 layers"):
        eqb.load_cell(both, "gru")
    assert [eqb.load_cell(both, "gru", layer=k).num_inputs for k in (0, 1)] == [3, 2]
    backwards = layer(0, 3) | {"weight_ih_l0_reverse": both["weight_ih_l0"]}
    with pytest.raises(ValueError, match="must hold cells of one direction"):
        eqb.load_cell(backwards, "gru")
    inner = {f"rnn.{name}": array for name, array in layer(0, 3).items()}
    with pytest.raises(ValueError, match=r"; prefix='rnn\.' chooses one"):
        eqb.load_cell(inner, "gru")
    assert eqb.load_cell(inner, "gru", prefix="rnn.").num_inputs == 3


def test_arrays_that_make_no_cell_are_named():
    parts = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))}
    with pytest.raises(ValueError, match=r"but holds weight_ih_l0\. See"):
        eqb.load_cell({"weight_ih_l0": parts["weight_ih_l0"]}, "rnn")
    with pytest.raises(TypeError, match="`activation` must be a function"):
        eqb.load_cell(parts, "rnn", activation=3)  # pyright: ignore
    for name in parts:
        with pytest.raises(
            ValueError, match=rf"hold {name[:-3]} as a matrix, but holds shape \(\)"
        ):
            eqb.load_cell(parts | {name: np.asarray(1.0)}, "rnn")
