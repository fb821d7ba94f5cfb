"""What is measured of an approximation, against NumPy, closed forms and repeated sampling."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import equilibrax as eqb
from equilibrax import Outcome

RNG = np.random.default_rng(11)
MODEL = eqb.FeedForward(5, 6, 5, key=jax.random.key(0))
COUNTS = {outcome: 0 for outcome in Outcome}


def made_up(inputs, rates, network, outcome=None):
    """Samples that no network has settled."""
    m = len(inputs)
    outcome = np.zeros(m, np.int8) if outcome is None else outcome
    return eqb.Samples(
        jnp.asarray(inputs), jnp.asarray(rates), jnp.asarray(rates), jnp.asarray(outcome), m, COUNTS,
        network,
    )  # fmt: skip


def test_the_jackknife_of_a_mean_is_the_textbooks():
    x = RNG.normal(size=37)
    value, error = eqb.metrics.jackknife(lambda x: {"mean": float(x.mean())}, x, groups=37)
    assert value["mean"] == pytest.approx(x.mean())
    assert error["mean"] == pytest.approx(x.std(ddof=1) / np.sqrt(37))
    # Groups of 8, 8, 7, 7 and 7 rows.
    _, error = eqb.metrics.jackknife(lambda x: x.mean(), x, groups=5)
    ends = [0, 8, 16, 23, 30, 37]
    means = np.asarray([np.r_[x[:a], x[b:]].mean() for a, b in itertools.pairwise(ends)])
    assert float(error) == pytest.approx(np.sqrt(4 / 5 * ((means - means.mean()) ** 2).sum()))
    assert np.isnan(eqb.metrics.jackknife(lambda x: x.mean(), x[:1])[1])
    with pytest.raises(ValueError, match="same number of rows"):
        eqb.metrics.jackknife(lambda x, y: 0.0, x, x[:3])


def test_error_bars_are_as_wide_as_repeated_samples_scatter(samples):
    parts = [
        made_up(samples.inputs[k::25], samples.rates[k::25], samples.network) for k in range(25)
    ]
    found = [eqb.evaluate(MODEL, part) for part in parts]
    for name in ("normalised_error", "winner_agreement", "winner_raw"):
        values = np.asarray([getattr(f, name) for f in found])
        errors = np.asarray([getattr(f.standard_error, name) for f in found])
        # A standard deviation of 25 values is known to 14 %, the mean of 25 errors to 4 %.
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.5)
    assert found[0].standard_error.neuron_error.shape == (5,)
    assert found[0].num_inputs == 2000


def test_winners_against_the_recurrent_network_and_both_sums(samples):
    found = eqb.evaluate(MODEL, samples)
    inputs, rates, output = (
        np.asarray(a) for a in (samples.inputs, samples.rates, MODEL.batch(samples.inputs))
    )

    def sums(values):
        return values[:, :4].reshape(-1, 2, 2).sum(2)

    has = sums(rates).max(1) > 0
    ours, active = sums(output).argmax(1), sums(output).max(1) > 0
    for name, values in (
        ("winner_agreement", rates), ("winner_rectified", inputs.clip(0)), ("winner_raw", inputs)
    ):  # fmt: skip
        share = ((sums(values).argmax(1) == ours) & active)[has].mean()
        assert float(getattr(found, name)) == pytest.approx(share, abs=1e-12)


def test_competition_of_the_network_and_of_a_model(samples):
    for model, rates in ((None, samples.rates), (MODEL, MODEL.batch(samples.inputs))):
        found = eqb.metrics.competition(samples, model)
        rates, inputs = np.asarray(rates), np.asarray(samples.inputs)
        R, s = (a[:, :4].reshape(-1, 2, 2).sum(2) for a in (rates, inputs))
        has = R.max(1) > 0
        R, s, rest = R[has], s[has], inputs[has, 4]
        w = R.argmax(1)
        own, other = s[np.arange(len(w)), w], s[np.arange(len(w)), 1 - w]
        X = np.stack([own, other, np.ones(len(w)), rest], 1)
        fit = np.linalg.lstsq(X, R.max(1), rcond=None)[0]
        residual = R.max(1) - X @ fit
        assert found["suppression"] == pytest.approx(1 - R.min(1).sum() / R.max(1).sum())
        assert found["gain"] == pytest.approx(fit[0])
        assert found["linearity"] == pytest.approx(1 - residual.var() / R.max(1).var())
    # Among the recurrent network's own fixed points no loser is active.
    assert eqb.metrics.competition(samples)["suppression"] == 1


def test_the_decision_boundary_is_the_logistic_fit(reference):
    inputs = RNG.uniform(-1, 1, (4000, 5))
    s = inputs[:, :4].reshape(-1, 2, 2).sum(2)

    def rates_of(angle, offset, noise):
        """Winners that are decided along a line at this angle and distance, with some doubt."""
        normal = np.asarray([np.cos(angle - np.pi / 4), np.sin(angle - np.pi / 4)])
        lead = s @ normal - offset + noise * RNG.logistic(size=len(s))
        a = lead > 0
        return np.stack([a, a, ~a, ~a, 0 * a], 1).astype(float)

    rates = rates_of(0.1, 0.2, 0.2)
    output = rates_of(-0.3, -0.1, 0.0)
    found = eqb.metrics.decision_boundary(
        made_up(inputs, rates, reference), Lookup(jnp.asarray(inputs), jnp.asarray(output))
    )

    def loss(w, y):
        z = s @ w[:2] + w[2]
        return (np.logaddexp(0, z) - y * z).mean()

    w = minimize(loss, np.zeros(3), args=(rates[:, 0],), tol=1e-12).x
    angle = np.degrees(np.arctan2(w[1], w[0])) + 45
    assert float(found.angle[0]) == pytest.approx(angle, abs=0.02)
    assert float(found.offset[0]) == pytest.approx(-w[2] / np.hypot(*w[:2]), abs=1e-3)
    # What generated it, within a few standard errors; the other one is sharp.
    assert float(found.angle[0]) == pytest.approx(np.degrees(0.1), abs=2.5)
    assert float(found.angle[1]) == pytest.approx(np.degrees(-0.3), abs=0.2)
    assert float(found.offset[1]) == pytest.approx(-0.1, abs=0.01)
    distance = np.abs(s @ w[:2] + w[2]) / np.hypot(*w[:2])
    wrong = rates[:, 0] != output[:, 0]
    for k in range(10):
        rows = (distance >= k / 10) & (distance < (k + 1) / 10)
        # Within the fit's own tolerance a row may change its bin.
        assert float(found.misclassified[k]) == pytest.approx(wrong[rows].mean(), abs=0.01)


class Lookup(eqx.Module):
    """A model that answers known inputs with known outputs."""

    inputs: jax.Array
    outputs: jax.Array

    def __call__(self, i):
        return self.outputs[jnp.argmin(jnp.sum(jnp.square(self.inputs - i), axis=1))]


def test_noise_rejection_of_linear_networks_is_known():
    """All neurons are active at every input, so that rates are a linear map of the inputs."""
    network = eqb.RateNetwork(np.diag([0.5, -1.0]), bias=np.full(2, -50.0), partitions=(1, 1))
    # Averages its inputs: the noise is halved, and the signals, which are equal in both, are not.
    model = eqb.FeedForward(2, 1, 2, key=jax.random.key(0))
    model = eqx.tree_at(
        lambda m: jax.tree.leaves(m), model,
        [jnp.full((1, 2), 0.5), jnp.full(1, -50.0), jnp.ones((2, 1)), jnp.zeros(2)],
    )  # fmt: skip
    signals = np.tile(RNG.normal(size=(60, 1)), (1, 2))
    found = eqb.metrics.noise_rejection(
        network, model, signals, [0.5], key=jax.random.key(1), repeats=40
    )
    v = np.var(signals[:, 0], ddof=1)
    snr = v / 0.25
    assert float(found.snr_in[0]) == pytest.approx(snr, rel=0.1)
    # tr(G S G') / tr(G G') sigma^2 is the input's own SNR for any diagonal G of equal signals.
    assert float(found.recurrent[0]) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(found.linear, found.recurrent, rtol=1e-6)
    assert float(found.feedforward[0]) == pytest.approx(2, rel=0.1)
    assert float(found.settled[0]) == 1
    assert 0 < float(found.standard_error.snr_in[0]) < 0.5 * snr
    smooth = eqb.RateNetwork(np.diag([0.5, -1.0]), partitions=(1, 1), transfer=eqb.tanh)
    for t1, settled in ((1e-3, 0), (100.0, 1)):
        found = eqb.metrics.noise_rejection(
            smooth, model, signals, [0.5], key=jax.random.key(1), repeats=2,
            method=eqb.Flow(t1=t1),
        )  # fmt: skip
        assert float(found.settled[0]) == settled


def test_mutual_information_of_a_gaussian_pair_is_known(reference):
    rho = 0.9
    x = RNG.normal(size=4000)
    y = rho * x + np.sqrt(1 - rho**2) * RNG.normal(size=4000)

    def halves(v):
        return np.stack([v, 0 * v, 0 * v, 0 * v, 0 * v], 1)

    found = eqb.metrics.mutual_information(made_up(halves(x), halves(y), reference))
    assert found == pytest.approx(-0.5 * np.log2(1 - rho**2), abs=0.06)
    same = eqb.metrics.mutual_information(made_up(halves(x), halves(x[::-1]), reference))
    assert same == pytest.approx(0, abs=0.06)
    more = eqb.metrics.mutual_information(made_up(halves(x), halves(y), reference), neighbours=20)
    assert more != found
    assert more == pytest.approx(-0.5 * np.log2(1 - rho**2), abs=0.06)
    # The rows after the first thousand are unrelated, and ignored.
    other = np.concatenate([y[:1000], RNG.normal(size=3000)])
    limited = eqb.metrics.mutual_information(
        made_up(halves(x), halves(other), reference), limit=1000
    )
    alone = made_up(halves(x[:1000]), halves(y[:1000]), reference)
    assert limited == eqb.metrics.mutual_information(alone)
    with pytest.raises(ValueError, match="`limit` must be an integer of at least 4"):
        eqb.metrics.mutual_information(alone, limit=3)


def test_answers_to_inputs_without_a_stable_fixed_point_by_hand(reference):
    inputs = np.zeros((5, 5))
    rates = np.asarray([[1.0, 0, 0, 0, 0], [0, 3.0, 0, 0, 0], *np.zeros((3, 5))])
    output = np.asarray([[0.0] * 5, [0.0] * 5, [2.0, 0, 0, 0, 0], [0.0] * 5, [0, 1.0, 0, 0, 0]])
    inputs[:, 0] = np.arange(5)
    outcome = np.asarray([0, 0, 3, 3, 4], np.int8)
    found = eqb.metrics.unsettled_behaviour(
        made_up(inputs, rates, reference, outcome), Lookup(jnp.asarray(inputs), jnp.asarray(output))
    )
    assert found == {
        Outcome.OSCILLATING: {"share": 0.4, "size": 0.5, "outside": 0.5, "silent": 0.5},
        Outcome.DIVERGED: {"share": 0.2, "size": 0.5, "outside": 0.0, "silent": 0.0},
    }
    with pytest.raises(ValueError, match="must hold a stable fixed point"):
        eqb.metrics.unsettled_behaviour(made_up(inputs, rates, reference, outcome + 3), MODEL)


def test_networks_without_partitions_are_refused():
    ring = made_up(np.zeros((3, 4)), np.zeros((3, 4)), eqb.ring(4))
    model = eqb.FeedForward(4, 4, 4, key=jax.random.key(0))
    for call in (
        lambda: eqb.metrics.decision_boundary(ring, model), lambda: eqb.metrics.mutual_information(ring),
        lambda: eqb.metrics.competition(ring),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must (be of a network with two|hold between)"):
            call()
    with pytest.raises(ValueError, match=r"`signals` must have shape \(p, 4\)"):
        eqb.metrics.noise_rejection(
            eqb.ring(4), model, np.zeros((3, 5)), [0.1], key=jax.random.key(0)
        )
    with pytest.raises(ValueError, match="`std` must be positive"):
        eqb.metrics.noise_rejection(
            eqb.ring(4), model, np.zeros((3, 4)), [0.0], key=jax.random.key(0)
        )


def test_partitions_get_what_input_weights_give_their_neurons(reference):
    maps, x = RNG.normal(size=(5, 2)), RNG.uniform(-1, 1, (500, 2))
    rates = RNG.uniform(-1, 1, (500, 5)).clip(0)
    network = eqx.tree_at(
        lambda net: net.input_weights,
        reference,
        jnp.asarray(maps),
        is_leaf=lambda leaf: leaf is None,
    )
    mapped, direct = made_up(x, rates, network), made_up(x @ maps.T, rates, reference)
    assert eqb.metrics.competition(mapped) == pytest.approx(eqb.metrics.competition(direct))
    assert eqb.metrics.mutual_information(mapped) == eqb.metrics.mutual_information(direct)
    model = eqb.FeedForward(2, 6, 5, key=jax.random.key(0))
    found = eqb.evaluate(model, mapped)
    every = np.asarray(model.batch(x)), x @ maps.T, rates
    output, received, won = (a[:, :4].reshape(-1, 2, 2).sum(2) for a in every)
    agree = ((output.argmax(1) == received.argmax(1)) & (output.max(1) > 0))[won.max(1) > 0]
    assert float(found.winner_raw) == pytest.approx(agree.mean(), abs=1e-6)
    # No input drives one partition alone, and the mixtures are of such inputs.
    assert jnp.isnan(found.switch)
    with pytest.raises(ValueError, match="for each neuron, without `input_weights`"):
        eqb.figures.mixture_response(network, model)


def test_outputs_of_a_readout_have_no_inputs_of_their_own():
    network = eqb.RateNetwork(np.eye(5) / 2, readout=RNG.normal(size=(3, 5)), partitions=(1, 1))
    samples = made_up(RNG.normal(size=(60, 5)), RNG.normal(size=(60, 3)), network)
    model = eqb.FeedForward(5, 6, 3, key=jax.random.key(0))
    found = eqb.evaluate(model, samples)
    assert 0 <= found.winner_agreement <= 1
    for value in (found.winner_raw, found.winner_rectified, found.switch):
        assert jnp.isnan(value)
    for call in (
        lambda: eqb.metrics.competition(samples), lambda: eqb.metrics.mutual_information(samples),
        lambda: eqb.metrics.decision_boundary(samples, model),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="without a readout, whose partitions are neurons"):
            call()


def test_inputs_without_a_stable_fixed_point_do_not_count():
    """And may hold anything."""
    network = eqb.partitioned(w_ii=0.0)
    inputs = RNG.uniform(-1, 1, (600, 5))
    rates = RNG.uniform(0, 1, (600, 5))
    outcome = np.where(np.arange(600) < 500, 0, 4).astype(np.int8)
    rates[500:] = np.inf
    every = made_up(inputs, rates, network, outcome)
    stable = made_up(inputs[:500], rates[:500], network)
    assert eqb.metrics.competition(every) == eqb.metrics.competition(stable)
    assert eqb.metrics.mutual_information(every) == eqb.metrics.mutual_information(stable)
    for a, b in zip(
        jax.tree.leaves(eqb.metrics.decision_boundary(every, MODEL)),
        jax.tree.leaves(eqb.metrics.decision_boundary(stable, MODEL)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="must hold a stable fixed point"):
        eqb.metrics.competition(made_up(inputs[500:], rates[500:], network, outcome[500:]))


def test_a_boundary_needs_two_winners_and_rising_distances(samples):
    silent = eqx.tree_at(lambda m: m.bias2, MODEL, jnp.full(5, 1e3))
    found = eqb.metrics.decision_boundary(samples, silent)
    assert np.isnan(found.angle[1])
    assert np.isfinite(found.angle[0])
    assert found.misclassified[0] == 1
    with pytest.raises(ValueError, match="`edges` must rise"):
        eqb.metrics.decision_boundary(samples, MODEL, [0.0, 0.5, 0.2])
    assert eqb.metrics.decision_boundary(samples, MODEL, [0.0, 0.5]).misclassified.shape == (1,)


def test_least_squares_keep_all_directions_in_single_precision():
    from equilibrax.approximation._metrics import least_squares

    x = RNG.uniform(0, 1, (200_000, 2)).astype(np.float32) * [1, 1e-3]
    x = np.concatenate([x, np.ones((len(x), 1))], 1).astype(np.float32)
    np.testing.assert_allclose(
        least_squares(jnp.asarray(x), jnp.asarray(x @ np.asarray([1.5, -20.0, 0.5], np.float32))),
        [1.5, -20.0, 0.5], rtol=1e-2,
    )  # fmt: skip
