"""The commands of the shell, `equilibrax sample`, `train`, `study` and the others.

`cli` reads the words. The commands and their options are in `_sample`, `_approximate` and
`_reports`; what the reports compute is in a module of each one's name.
"""

import sys

from .._extras import extra


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        with extra("cli", "the command line"):
            from .cli import main
    except ImportError as error:
        print(f"equilibrax: {error}", file=sys.stderr)
        sys.exit(2)
    main()
