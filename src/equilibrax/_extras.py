"""Libraries that not every user needs, and the extras that bring them."""

from types import TracebackType


class extra:
    """A context in which the libraries of one extra are imported; without them, the error says
    how to install it.

        with extra("figures", "pictures"):
            import matplotlib
    """

    def __init__(self, name: str, what: str):
        self.name, self.what = name, what

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ModuleNotFoundError):
            needed = f"needs {error.name}: pip install 'equilibrax[{self.name}]'"
            raise ImportError(f"{self.what} {needed}", name=error.name) from error
