"""Folders of resumable runs.

    _settings.json           the settings of the run
    _settings.safetensors    the arrays among the settings

A folder can only be resumed with the settings it was created with, and by one writer at a time.
"""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ._devices import meet
from ._extras import extra
from ._files import check_absent, write_atomic
from ._settings import digest_of, dump_with_digest, first_difference, load_with_digest

HEADER, ARRAYS = "_settings.json", "_settings.safetensors"
"""Readers of Parquet skip files that begin with an underscore, so that they can read a folder of
shards as one table."""

LOCK = ".lock-{}"

STORED = "a folder of samples or checkpoints"


class Kind(NamedTuple):
    """A kind of folder."""

    what: str
    """Name in messages, such as "a store of samples"."""
    format: str
    version: int
    files: re.Pattern
    """Names of the files beside the settings."""


class DamagedSettings(ValueError):
    """The settings of a folder do not match their digest."""


@contextlib.contextmanager
def taken_up(
    path: Path, kind: Kind, settings: dict[str, Any], *, repair: bool = False
) -> Iterator[str]:
    """Lock a folder with these settings, created if absent, and yield its identity.

    With `repair`, damaged settings are written again. Every process of a distributed job calls
    this function; process 0 creates the folder.

    **Raises:** `ValueError` for a folder with other settings, naming the first difference;
    `FileExistsError` if `path` is something else; `BlockingIOError` if another process is writing.
    """
    with extra("stores", STORED):
        import filelock  # noqa: F401
        import safetensors  # noqa: F401
    check_absent(path, overwrite=True, folder=True)
    if path.exists():
        _refuse_foreign(path, kind)
    path.mkdir(exist_ok=True)
    with contextlib.ExitStack() as locks:
        for lock in _locks_of(path):
            locks.enter_context(_locked(lock))
        if jax.process_index() == 0:
            _create(path, kind, settings, repair)
        meet(f"equilibrax: {path} has its settings")
        found, identity = read_settings(path, kind)
        refuse_difference(path, found, settings)
        yield identity


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Add to errors of the disk that the same command resumes the run."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        what = f"{error.strerror}; what is committed stays, and the same command goes on from there"
        raise OSError(error.errno, what, error.filename or str(path)) from error


def read_settings(path: Path, kind: Kind) -> tuple[dict[str, Any], str]:
    """Read all settings by name, and the identity of the folder.

    **Raises:** `FileNotFoundError`; `ValueError` for another kind of folder, or a newer version;
    `DamagedSettings`.
    """
    with extra("stores", STORED):
        import safetensors.numpy

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not (path / HEADER).is_file():
        raise ValueError(f"{path} is not {kind.what}: it has no {HEADER}")
    text = (path / HEADER).read_bytes()
    try:
        header = load_with_digest(text)
    except ValueError as error:
        raise DamagedSettings(f"{path / HEADER} is damaged: {error}") from error
    if header["format"] != kind.format or header["version"] > kind.version:
        have, reads = f"{header['format']} {header['version']}", f"{kind.format} {kind.version}"
        raise ValueError(f"{path} has format {have}, and this version reads {reads}")
    content = (path / ARRAYS).read_bytes() if (path / ARRAYS).exists() else b""
    if digest_of(content) != header["arrays"]:
        raise DamagedSettings(f"{path / ARRAYS} is damaged: its content is not what was written")
    return {**header["settings"], **safetensors.numpy.load(content)}, digest_of(text)


def refuse_difference(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise `ValueError` if the settings of the folder differ from those wanted."""
    difference = first_difference(there, here)
    if difference:
        raise ValueError(f"{path} was made with other settings: {difference}.")


def _create(path: Path, kind: Kind, settings: dict[str, Any], repair: bool) -> None:
    """Remove unfinished files, and write the settings unless they exist."""
    import safetensors.numpy

    for file in path.glob(".*.unfinished"):
        file.unlink()
    if (path / HEADER).exists():
        try:
            refuse_difference(path, read_settings(path, kind)[0], settings)
        except DamagedSettings:
            if not repair:
                raise
        else:
            return
    arrays = {k: v for k, v in settings.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in settings.items() if k not in arrays}
    content = safetensors.numpy.save(arrays)
    header = {"format": kind.format, "version": kind.version, "arrays": digest_of(content)}
    text = dump_with_digest({**header, "settings": plain}).encode()
    write_atomic(path / ARRAYS, lambda file: file.write(content), overwrite=True)
    write_atomic(path / HEADER, lambda file: file.write(text), overwrite=True)


def _refuse_foreign(path: Path, kind: Kind) -> None:
    """Raise `FileExistsError` unless the path is a folder of this kind."""
    if not path.is_dir():
        raise FileExistsError(f"{path} exists and is not a folder")
    for file in path.iterdir():
        ours = file.name in (HEADER, ARRAYS) or kind.files.fullmatch(file.name)
        temporary = file.name.startswith(LOCK.format("")) or file.name.endswith(".unfinished")
        if not ours and not temporary:
            raise FileExistsError(f"{path} is a folder of another kind: it holds {file.name}")


def _locks_of(path: Path) -> list[Path]:
    """The lock of this process; for process 0 also the locks of further processes, which belong to
    a larger job that may still be writing."""
    mine = [path / LOCK.format(jax.process_index())]
    if jax.process_index() > 0:
        return mine
    there = {int(lock.name.split("-")[1]): lock for lock in path.glob(LOCK.format("*"))}
    return mine + [lock for index, lock in there.items() if index >= jax.process_count()]


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock of the operating system, which is released when the process ends in any way."""
    import filelock

    try:
        with filelock.FileLock(lock, blocking=False):
            yield
    except filelock.Timeout as error:
        what = "another process is writing there"
        raise BlockingIOError(errno.EWOULDBLOCK, what, str(lock.parent)) from error
