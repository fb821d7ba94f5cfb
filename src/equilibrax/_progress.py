"""Progress on the terminal."""


def progress_bar(total: int, what: str, unit: str, shown: bool):
    """A tqdm bar for a loop on the host, displayed only if `shown` and on a terminal."""
    # Here, since the core works without it.
    from tqdm import tqdm

    class Bar(tqdm):
        """A bar without tqdm's thread, which would outlive it."""

        monitor_interval = 0

    return Bar(
        total=total,
        desc=what,
        unit=f" {unit}",
        unit_scale=True,
        miniters=1,
        disable=None if shown else True,
    )
