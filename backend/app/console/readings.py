"""What database and broker say about the way of an event, once a second while somebody looks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backend.app import db
from backend.app.celery_app import app
from backend.app.errors import BrokerAway
from backend.app.health.inspector import declared
from backend.app.health.worker_answers import HeldEvents, understood
from backend.app.settings import settings
from backend.app.telemetry import latency
from events import times, topology
from events.connection import LOST, connect
from events.errors import BrokerGone
from events.outbox import LEADER_LOCK
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
WINDOW_SECONDS: Final = 5.0  # over which applied events are counted
REPLY_SECONDS: Final = 0.5  # a worker's main loop answers within milliseconds


@dataclass(frozen=True)
class Stored:
    """The database's part."""

    last_id: int  # of the outbox's sequence
    first_waiting: int  # id of the oldest event in the outbox, or the next one
    outbox_rows: int
    outbox_seconds: float | None  # age of the oldest event in the outbox; None when it is empty
    relay_leads: bool
    wide_companies: int  # wide patches that are not done
    wide_seconds: float | None
    applied: int  # events of the last WINDOW_SECONDS
    changed: int  # mapping rows that those changed
    changed_seconds: float | None  # since a patch changed a mapping
    canary_ms: float | None  # of the last canary that arrived
    canary_seconds: float | None  # since then
    p50_ms: float | None = None  # of the last minute
    p99_ms: float | None = None
    events: int = 0  # of the last minute


@dataclass(frozen=True)
class Carried:
    """The broker's part, and that of the workers behind it."""

    queue_exists: bool
    ready: int  # messages in the updater's queue
    consumers: int  # workers that take from it
    workers: tuple[str, ...]  # of them, those that answer
    held: int  # messages in the workers' hands
    oldest_held: str | None  # time of the oldest event that a worker holds


def stored() -> Stored:
    """Ask the database. Raises DatabaseAway."""
    parameters = {"window": WINDOW_SECONDS, "leader_lock": LEADER_LOCK}
    with db.transaction() as connection:
        row = dict(connection.exec_driver_sql(SQL["stored"], parameters).mappings().one())
        counts = latency.total(found[0] for found in connection.exec_driver_sql(SQL["latency"]))
    p50_ms, p99_ms = (latency.percentile(counts, share) for share in (0.5, 0.99))
    return Stored(**row, p50_ms=p50_ms, p99_ms=p99_ms, events=sum(counts))


class BrokerReader:
    """Asks on one connection that it keeps.

    It may have ended while nobody looked, which tells nothing about the broker: then a new one is asked at once.
    """

    def __init__(self) -> None:
        self._connection: Any = None

    def __call__(self) -> Carried:
        """Ask the broker, then its workers. Raises BrokerAway."""
        kept = self._connection is not None
        try:
            if not kept:
                url = settings().celery_broker_url
                self._connection = connect(url, "console", read_timeout=2, write_timeout=2)
            return self._ask()
        except (BrokerGone, *LOST) as failure:
            self.close()
            if kept:
                return self()
            raise BrokerAway(f"the broker is away: {failure}") from failure

    def close(self) -> None:
        """Give up the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST):
                connection.collect(socket_timeout=0.2)

    def _ask(self) -> Carried:
        found = declared(self._connection, topology.UPDATER.name)
        ready, consumers = found or (0, 0)
        held = self._held(consumers) if consumers else {}
        oldest = times.earliest(worker.oldest for worker in held.values() if worker.messages)
        return Carried(
            found is not None, ready, consumers, tuple(sorted(held)), sum(one.messages for one in held.values()),
            oldest,
        )  # fmt: skip

    def _held(self, consumers: int) -> dict[str, HeldEvents]:
        replies = app.control.broadcast(
            "held_events", reply=True, limit=consumers, timeout=REPLY_SECONDS, connection=self._connection
        )
        return understood(replies or [], HeldEvents)
