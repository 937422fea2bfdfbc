"""Errors of the event transport.

EventError
├── Malformed       bytes that are not an event of the contract
├── UnknownType     an event whose type the contract does not know
├── Unroutable      the broker had no queue for a message
├── MessageRefused  the broker takes no message at all
├── Unconfirmed     the broker did not take a message in time
├── BrokerGone      the connection to the broker is lost
├── NoStreams       the broker has no streams, and no other log is allowed
├── LogMissing      there is no log of events
├── NoLog           the relay may not write the table that is the log
├── LeaderLost      another relay leads now
└── LogTooShort     the log does not reach back as far as asked
"""

from __future__ import annotations


class EventError(Exception):
    """Something went wrong between outbox and consumer."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class Malformed(EventError):
    """The message is not an event of the contract."""


class UnknownType(Malformed):
    """The event's type is not one of the contract."""


class Unroutable(EventError):
    """The broker has no queue bound for this message."""


class MessageRefused(EventError):
    """The broker refuses even the smallest message."""


class Unconfirmed(EventError):
    """The broker did not confirm a message in time."""


class BrokerGone(EventError):
    """The connection to the broker is lost."""


class NoStreams(EventError):
    """The broker has no streams."""

    def __init__(self, refusal: str) -> None:
        super().__init__(f"the broker has no stream for the log ({refusal}): set EVENT_LOG=table, or auto")


class LogMissing(EventError):
    """There is no stream catalog.events.log any more."""


class NoLog(EventError):
    """The relay's role may not write event_log, which is the log: run 'citycache migrate --roles' again."""


class LeaderLost(EventError):
    """The database connection that holds the leader lock is gone; another relay may lead."""


class LogTooShort(EventError):
    """The log does not reach back as far as asked."""
