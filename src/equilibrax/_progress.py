"""Progress on the terminal."""


def progress_bar(total: int, what: str, unit: str, shown: bool):
    """A tqdm bar for a loop on the host, displayed only if `shown` and on a terminal."""
    # Imported here, so that the core works without it.
    from tqdm import tqdm

    return tqdm(
        total=total, desc=what, unit=f" {unit}", unit_scale=True, disable=None if shown else True
    )
