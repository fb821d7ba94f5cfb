"""Files and folders that appear whole or not at all."""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


def write_whole(
    path: str | os.PathLike, write: Callable[[IO[bytes]], object], *, overwrite: bool
) -> None:
    """Write a file under a temporary name, flush it to the disk, then give it its name.

    **Raises:** `FileExistsError` if the file exists and may not be replaced; whatever
    `write` or the disk raises, in which case nothing is left behind.
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
"""What a user who meant it can do."""


def check_absent(path: str | os.PathLike, overwrite: bool, *, folder: bool = False) -> None:
    """Raise unless a file, or a `folder`, may come to stand here."""
    path = Path(path)
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
def whole_folder(path: str | os.PathLike, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder whose files move to `path` together when the block ends well.

    With `overwrite`, files of the same name in `path` are replaced, others stay.

    **Raises:** `FileExistsError` if `path` is a file, or a folder that is not empty and may
    not be written to; whatever the block or the disk raises, with `path` left as it was.
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
    """Write a report of Python's own types; what is not a number becomes null."""

    def sound(value):
        if isinstance(value, dict):
            return {name: sound(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [sound(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    path.write_text(json.dumps(sound(report), indent=2, allow_nan=False) + "\n")
