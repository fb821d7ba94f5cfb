"""Files and folders that are written atomically: completely, or not at all."""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


def write_atomic(
    path: str | os.PathLike, write: Callable[[IO[bytes]], object], *, overwrite: bool
) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it to `path`.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; any error of `write`
    or the disk, in which case no partial file is left.
    """
    path = Path(path)
    check_absent(path, overwrite)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


ALLOW = "overwrite=True (--force on the command line) writes there all the same"
"""Advice in messages about existing files."""


def checked_path(path: str | os.PathLike) -> Path:
    """The path, which has to be UTF-8 for the libraries that write files.

    **Raises:** `ValueError` otherwise.
    """
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path!r} is not UTF-8: choose a path that is") from error
    return path


def check_absent(path: str | os.PathLike, overwrite: bool, *, folder: bool = False) -> None:
    """Raise unless a file, or a `folder`, may be written to `path`."""
    path = checked_path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist")
    if path.is_dir() and not folder:
        raise FileExistsError(f"{path} is a folder")
    if path.is_dir():
        if any(path.iterdir()) and not overwrite:
            raise FileExistsError(f"{path} exists and is not empty; {ALLOW}")
    elif path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; {ALLOW}")


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder, and move it to `path` if the block succeeds.

    With `overwrite`, files of the same name in `path` are replaced, and others are kept.

    **Raises:** `FileExistsError` if `path` is a file, or a folder that is not empty and may
    not be written to; any error of the block or the disk, in which case `path` is unchanged.
    """
    path = Path(path)
    check_absent(path, overwrite, folder=True)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} exists and is not a folder")
    prefix = f".{path.name}."
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, suffix=".unfinished", dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        if not path.exists():
            os.rename(unfinished, path)
        else:
            for file in sorted(unfinished.iterdir()):
                os.replace(file, path / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, report: Any) -> None:
    """Write a report of plain Python types as JSON; NaN and infinity become null."""

    def finite(value):
        if isinstance(value, dict):
            return {name: finite(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    path.write_text(json.dumps(finite(report), indent=2, allow_nan=False) + "\n")
