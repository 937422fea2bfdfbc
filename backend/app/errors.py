"""Every error of the back end.

CitycacheError
├── BadSetting          a setting cannot be used
├── NotFound            no such row
├── Conflict            the row clashes with one that is there
├── Unprocessable       well-formed input that cannot be applied
├── BadFeedLine         a line of a change feed cannot be applied
├── Refused             the operation is not possible in this set-up
├── Stalled             work waits and does not advance
└── Away                a server did not answer in time
    ├── DatabaseAway
    └── BrokerAway
"""

from __future__ import annotations


class CitycacheError(Exception):
    """Something in citycache went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class BadSetting(CitycacheError):
    """A setting has a value that cannot be used."""


class NotFound(CitycacheError):
    """There is no such row."""


class Conflict(CitycacheError):
    """The row clashes with one that is already there."""


class Unprocessable(CitycacheError):
    """The input is well formed but cannot be applied."""


class BadFeedLine(CitycacheError):
    """A line of a change feed cannot be applied."""

    def __init__(self, source: str, line: int, reason: str) -> None:
        super().__init__(f"{source}:{line}: {reason}")
        self.source, self.line, self.reason = source, line, reason


class Refused(CitycacheError):
    """This operation is not possible in the present set-up."""


class Stalled(CitycacheError):
    """Work waits and does not advance."""


class Away(CitycacheError):
    """A server that is needed did not answer in time."""


class DatabaseAway(Away):
    """The database did not answer in time."""


class BrokerAway(Away):
    """The message broker did not answer in time."""
