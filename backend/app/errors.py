"""Every error of the back end.

CitycacheError
├── BadSetting          a setting cannot be used
├── BadDefinition       a catalog's definition cannot be used
├── NotFound            no such row
├── Conflict            the row clashes with one that is there
├── Unprocessable       well-formed input that cannot be applied
├── BadFeedLine         a line of a change feed cannot be applied
├── Refused             the operation is not possible in this set-up
├── StatementFailed     a statement that was previewed fails
├── BeingQueued         another process is about to queue this run
└── Away                a server did not answer in time
    ├── DatabaseAway
    │   ├── LanesHeld       another transaction has held lanes for too long
    │   └── EveryKeyFails   what a patch needs is not there, whichever key it is of
    │   └── DatabaseUnfit   the database is there, and cannot be used as it is set up
    ├── TooLong         a statement took longer than it may
    └── BrokerAway
"""

from __future__ import annotations


class CitycacheError(Exception):
    """Something in citycache went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


def sentence(failure: BaseException, most: int = 300) -> str:
    """The first line of what a failure says, the driver's own where there is one."""
    lines = str(getattr(failure, "orig", None) or failure).strip().splitlines()
    return lines[0][:most] if lines else type(failure).__name__


def is_of_a_value(failure: BaseException) -> bool:
    """Whether an expression failed on what stands in a row: no number, a division by zero."""
    return str(getattr(getattr(failure, "orig", failure), "pgcode", "")).startswith("22")


def is_of_their_making(failure: BaseException) -> bool:
    """Whether a statement failed by what stands in somebody's rows, or since somebody's trigger has refused it."""
    code = str(getattr(getattr(failure, "orig", failure), "pgcode", ""))
    return is_of_a_value(failure) or code.startswith(("21", "P0"))


class BadSetting(CitycacheError):
    """A setting has a value that cannot be used."""


class BadDefinition(CitycacheError):
    """A catalog's definition cannot be used."""

    def __init__(self, file: str, key: str, reason: str) -> None:
        super().__init__(f"{file}: {key}: {reason}" if key else f"{file}: {reason}")
        self.file, self.key, self.reason = file, key, reason


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


class StatementFailed(CitycacheError):
    """A statement that was to be previewed fails."""


class BeingQueued(CitycacheError):
    """Another process is about to queue this run."""


class Away(CitycacheError):
    """A server that is needed did not answer in time."""


class DatabaseAway(Away):
    """The database did not answer in time."""


class LanesHeld(DatabaseAway):
    """Another transaction has held the lanes of these keys for too long."""


class EveryKeyFails(DatabaseAway):
    """The database is there, but patches of other keys fail as well: nothing is wrong with these."""


class DatabaseUnfit(DatabaseAway):
    """The database is there, and cannot be used as it is set up: whoever starts refuses, whoever runs waits."""


class TooLong(Away):
    """The database took longer than the statement may take."""


class BrokerAway(Away):
    """The message broker did not answer in time."""
