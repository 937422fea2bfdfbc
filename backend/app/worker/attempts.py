"""Messages that may be what kills workers, and how often they did.

A message that came back several times is applied alone, and the attempt is a run of the ledger from its beginning. A
process that dies leaves it there without an end; one that waits for a server, loses its connection or fails says so.
So only deaths count, however often an outage sends a message round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from backend.app import db
from backend.app.errors import CitycacheError, EveryKeyFails, sentence
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
MOST_DEATHS: Final = 5  # of processes that applied nothing but this message
WAITED: Final = "it waited for a server; whatever comes now is another attempt"
INTERRUPTED: Final = "the worker lost its connection to the broker, which gave the message to another attempt"
DIED: Final = "the process that applied it died"
Uuids = list[str]


class Suspect(msgspec.Struct, frozen=True):
    """A message that is applied alone."""

    message: str  # names it through all of its deliveries
    given_up: Mapping[str, Any]  # the dead letter that it becomes when it has killed often enough
    interrupted: Uuids = []  # attempts of this worker that ended with their connection


def begin(suspect: Suspect, task_id: str) -> int:
    """Write down that an attempt begins; how many before it ended by a death. Raises DatabaseAway."""
    try:
        with db.transaction() as connection:
            connection.exec_driver_sql(SQL["end"], {"task_ids": suspect.interrupted, "error": INTERRUPTED})
            parameters = {"task_id": task_id, "message": suspect.message}
            connection.exec_driver_sql(SQL["begin"], parameters)
            return int(connection.exec_driver_sql(SQL["deaths"], parameters).scalar_one())
    except CitycacheError:
        raise
    except Exception as failure:
        raise EveryKeyFails(f"an attempt cannot be written down: {sentence(failure)}") from failure


def wait(task_id: str) -> None:
    """The attempt waits for a server: whatever ends its process now is not the message's fault."""
    _end(task_id, WAITED)


@contextmanager
def ending(suspect: Suspect, task_id: str) -> Iterator[None]:
    """An attempt that comes to an end, whichever, did not die; one that is well ends those that did."""
    try:
        yield
    except Exception as failure:
        _end(task_id, sentence(failure))
        raise
    with suppress(Exception), db.transaction() as connection:
        connection.exec_driver_sql(SQL["survive"], {"message": suspect.message, "error": DIED})


def _end(task_id: str, error: str) -> None:
    with suppress(Exception), db.transaction() as connection:
        connection.exec_driver_sql(SQL["end"], {"task_ids": [task_id], "error": error})
