"""Fixed points that are the same."""

import numpy as np


def distinct(
    state: np.ndarray, stable: np.ndarray, tolerance: float, others: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Index of one row for each distinct fixed point, and for each row the index of its fixed
    point, or -1 if it is not stable. Each component is measured by its largest finite size in these
    states and others."""
    label = np.full(len(state), -1)
    sizes = np.abs(state[stable] if others is None else np.concatenate([state[stable], others]))
    unit = tolerance * np.where(np.isfinite(sizes), sizes, 0).max(axis=0, initial=0)
    unit += 16 * np.finfo(state.dtype).eps * unit.max(initial=0) / tolerance
    first, left = [], np.flatnonzero(stable)
    while left.size:
        point = state[left[0]]
        far = np.abs(state[left] - point) > unit
        same = ~far.any(axis=1)
        label[left[same]] = len(first)
        first.append(left[0])
        left = left[~same]
    return np.asarray(first, int), label
