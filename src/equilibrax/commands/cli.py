"""The command line.

`equilibrax reproduce | study | sample | train | evaluate | export | benchmark | explore`
"""

import contextlib
import dataclasses
import difflib
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_args
from zipfile import BadZipFile

import jax
import tyro
from jax.errors import JaxRuntimeError
from tyro.conf import CascadeSubcommandArgs, subcommand

from ._approximate import Evaluate, Export, Train
from ._networks import Network
from ._reports import Benchmark, Explore, Reproduce, Study
from ._sample import Cluster, Sample

Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Study, subcommand("study")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Explore, subcommand("explore")]
)


def _named(union: Any) -> dict[str, Any]:
    """The classes of a union of subcommands, by name."""
    parts = [get_args(part) for part in get_args(union)]
    return {configuration.name: kind for kind, configuration in parts}


COMMANDS = _named(Command)
NETWORKS = {f"network:{name}": kind for name, kind in _named(Network).items()}


def parse(args: list[str] | None) -> Command:
    """Parse the arguments; a mistake is reported in one line, with exit code 2."""
    words = sys.argv[1:] if args is None else args
    if words == ["--version"]:
        print(f"equilibrax {version('equilibrax')}")
        sys.exit()
    name = words[0] if words else ""
    kind = COMMANDS.get(name)
    prog = "equilibrax" if kind is None else f"equilibrax {name}"
    # Options may follow the name of a network.
    config = (CascadeSubcommandArgs,)
    options = {"prog": prog, "args": words if kind is None else words[1:], "config": config}
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            if kind is None:
                return tyro.cli(Command, description=__doc__, **options)  # pyright: ignore
            return tyro.cli(kind, **options)
    except SystemExit:
        mistake = box.getvalue()
        if mistake:
            said = _misspelt(words, kind) or _in_one_line(mistake)
            print(f"equilibrax: {said} (`{prog} --help` lists all)", file=sys.stderr)
        raise


def _misspelt(words: list[str], kind: Any) -> str | None:
    """The first word that is no command, option or network, and those most like it; None if all
    are known."""
    if kind is None:
        known, what = list(COMMANDS), "command"
        unknown = [word for word in words[:1] if word not in known]
    else:
        known, what = _options(kind), "option"
        named = [word.partition("=")[0].replace("_", "-") for word in words[1:]]
        unknown = [word for word in named if word.startswith("--") and word not in known]
        if not unknown and "--network.n" in known:
            unknown = [
                word for word in named
                if f"network:{word}" in NETWORKS
                or (word.startswith("network:") and word not in NETWORKS)
            ]  # fmt: skip
            what, known = "network", list(NETWORKS)
    if not unknown:
        return None
    last = [
        name for name in known if name.replace(":", ".").rpartition(".")[2] == unknown[0].strip("-")
    ]
    near = last + [
        name
        for name in difflib.get_close_matches(unknown[0], known, cutoff=0.54)
        if name not in last
    ]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no {what} {unknown[0]}{hint}"


def _options(kind: Any, prefix: str = "") -> list[str]:
    """All options of a command, those of its networks included."""
    found = ["--help"] if not prefix else []
    for field in dataclasses.fields(kind):
        if field.name == "network":
            found += [o for network in NETWORKS.values() for o in _options(network, "network.")]
        elif field.name == "cluster":
            found += _options(Cluster)
        else:
            found += [f"--{prefix}{field.name.replace('_', '-')}"]
            notes = get_args(field.type)[1:]
            found += [a for note in notes for a in getattr(note, "aliases", None) or ()]
    return list(dict.fromkeys(found))


def _in_one_line(mistake: str) -> str:
    """What Tyro says in a box of several lines, unsuitable for scripts and logs."""
    lines = [line.strip("│╭╮╰╯─|+ ") for line in mistake.splitlines()[1:]]
    lines = lines[: next((k for k, line in enumerate(lines) if "full helptext" in line), None)]
    said = " ".join(line for line in lines if line.strip("-")).replace(" (required)", "")
    return said.partition(" Argument helptext:")[0]


def main(args: list[str] | None = None) -> None:
    """Run the command line; mistakes of the user are reported in one line, with exit code 2."""
    try:
        command = parse(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the help, such as `head`, has ended: flushing at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if args is None and not jax.config.jax_compilation_cache_dir:  # pyright: ignore
        # Each command is a new process: keep compiled programs in a cache on disk.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equilibrax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if args is None:
        os.environ["MPLBACKEND"] = "Agg"  # pictures go to files
    try:
        command.run()
    except (
        ValueError, TypeError, OSError, ImportError, EOFError, OverflowError, BadZipFile
    ) as error:  # fmt: skip
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        print(f"equilibrax: {' '.join(reason.split())}{where}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, JaxRuntimeError) as error:
        full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        words = f"{'out of memory: ' if full else ''}{' '.join(str(error).split())}"
        print(f"equilibrax: {words}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        what = getattr(command, "interrupted", "nothing was written")
        print(f"equilibrax: interrupted, {what}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
