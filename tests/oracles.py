"""Independent routes to the answers: SciPy's LSODA, and enumeration in plain NumPy."""

import itertools

import numpy as np
from scipy.integrate import solve_ivp

PHI = {
    "threshold_linear": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
}


def parameters(network):
    leaves = (network.weights, network.bias, network.tau)
    return (np.asarray(leaf, np.float64) for leaf in leaves)


def velocity(network):
    """dx/dt as a NumPy function of (t, x, i), written out from the three conventions."""
    weights, bias, tau = (
        np.asarray(a, np.float64) for a in (network.weights, network.bias, network.tau)
    )
    phi = PHI[network.transfer.name]
    right_hand_sides = {
        "voltage": lambda t, x, i: (-x + weights @ phi(x - bias) + i) / tau,
        "activity": lambda t, x, i: (-x + phi(weights @ x + i - bias)) / tau,
        "recurrent": lambda t, x, i: (-x + phi(weights @ x - bias) + i) / tau,
    }
    return right_hand_sides[network.convention]


def lsoda(network, i, x0=None, t1=400.0, rtol=1e-8, atol=1e-10, **options):
    """The trajectory in double precision."""
    f = velocity(network)
    i = np.asarray(i, np.float64)
    x0 = np.zeros_like(i) if x0 is None else np.asarray(x0, np.float64)
    return solve_ivp(
        lambda t, x: f(t, x, i), (0.0, t1), x0, method="LSODA", rtol=rtol, atol=atol, **options
    )


def enumerate_voltage(network, i):
    """All fixed points of a threshold-linear network under "voltage": (state, abscissa)."""
    weights, bias, tau = (
        np.asarray(a, np.float64) for a in (network.weights, network.bias, network.tau)
    )
    n = len(bias)
    points = []
    for active in itertools.product((0.0, 1.0), repeat=n):
        d = np.diag(active)
        matrix = weights @ d - np.eye(n)
        x = np.linalg.solve(-matrix, np.asarray(i) - weights @ d @ bias)
        if (((x - bias) > 0) == np.asarray(active, bool)).all():
            points.append((x, np.linalg.eigvals(matrix / tau[:, None]).real.max()))
    return points
