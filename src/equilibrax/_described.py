"""Results that print as one line of their numbers."""

from . import _checks


class Described:
    """A result, printed as the name of its class and what `describe` says, once it is known."""

    def describe(self) -> str:
        """The numbers, in one line."""
        raise NotImplementedError

    def __str__(self) -> str:
        known = _checks.all_concrete(self)
        return f"{type(self).__name__}: {self.describe()}" if known else super().__str__()


def number_of(count: int, what: str) -> str:
    """The count, and what is counted in the singular or plural."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
