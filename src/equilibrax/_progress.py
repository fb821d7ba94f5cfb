"""Progress on the terminal, for the host's loops and for compiled ones."""

import sys

import diffrax


def progress_bar(total: int, what: str, unit: str, shown: bool):
    """A tqdm bar for a loop on the host; silent unless `shown` on a terminal."""
    # Here, since the core works without it.
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=f" {unit}", unit_scale=True, disable=None if shown else True
    )


def progress_meter(steps: int, shown: bool) -> diffrax.AbstractProgressMeter:
    """Diffrax's meter for a compiled loop of this many steps, under the same condition."""
    if shown and sys.stderr.isatty():
        return diffrax.TqdmProgressMeter(refresh_steps=max(1, steps // 100))
    return diffrax.NoProgressMeter()
