"""What can be wrong: each kind with the part that it belongs to, its weight, its effect, and what to do.

`serves`: while such an incident is open, requests or events do not get what they need, and readiness answers 503.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final, Literal

Severity = Literal["critical", "warning"]


class Sentences(Formatter):
    """Fills sentences with values of any release: one that lacks is unknown, one of another type stands as it is."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The value of this name."""
        return kwargs.get(str(key), "unknown")

    def format_field(self, value: Any, format_spec: str) -> str:
        """The value in its sentence."""
        return format(value, format_spec) if isinstance(value, (int, float)) else str(value)


SENTENCES: Final = Sentences()


@dataclass(frozen=True)
class Kind:
    """One kind; in its sentences {names} stand for an incident's values, {seconds} for how long it has lasted."""

    name: str
    part: str
    effect: str
    advice: str
    serves: bool = False
    stops_events: bool = False  # of all cities: no change reaches the caches while it lasts
    takes_time: bool = False  # shows only to who has looked for some time

    def sentence(self, values: Mapping[str, object], seconds: float) -> str:
        """The effect, of an incident that has lasted so long."""
        return SENTENCES.vformat(self.effect, (), {"seconds": seconds, **values})

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return "critical" if self.serves else "warning"


PARTS: Final = (
    "database", "reads", "capture", "broker", "relay", "worker", "log", "freshness", "caches", "dead_letters",
    "schedule", "observer",
)  # fmt: skip
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            "database_away", "database",
            "Nothing can be read or written, and no event is applied: {failure}.",
            "Bring PostgreSQL back, or correct DATABASE_URL. Everything goes on by itself then.",
            serves=True, stops_events=True,
        ),
        Kind(
            "schema_old", "database",
            "The schema is at version {version}; this release needs {wanted}.",
            "Run 'citycache migrate' of this release.",
            serves=True, stops_events=True,
        ),
        Kind(
            "replica_away", "reads",
            "The caches cannot be read, since the server of DATABASE_READ_URL does not answer: {failure}.",
            "Bring it back, or correct DATABASE_READ_URL; where it names the primary last, that one serves meanwhile.",
            serves=True,
        ),
        Kind(
            "replica_detached", "reads",
            "The caches are read from a server that follows no primary: what it shows grows older and older.",
            "Have it follow the primary again, or take it out of DATABASE_READ_URL.",
        ),
        Kind(
            "replica_behind", "reads",
            "What is read of the caches is up to {behind:.0f} s old, and READ_LAG_SECONDS allows {bound:g}.",
            "Look at the replica's load and at its connection to the primary; read from the primary meanwhile.",
            takes_time=True,
        ),
        Kind(
            "table_missing", "capture",
            "Events wait: there is no table {table} any more, which the catalog's definition uses.",
            "Correct the definition and run 'citycache adopt FILE --apply'. What waits is applied then.",
            serves=True, stops_events=True,
        ),
        Kind(
            "column_missing", "capture",
            "Events wait: {table} has no column {column} any more, which the catalog's definition uses.",
            "Correct the definition and run 'citycache adopt FILE --apply'. What waits is applied then.",
            serves=True, stops_events=True,
        ),
        Kind(
            "table_silent", "capture",
            "Writes into {table} make no events: its triggers {state}.",
            "Run 'citycache adopt FILE --apply', which makes what lacks and compares everything.",
        ),
        Kind(
            "table_passed", "capture",
            "Writes into {table} come past capture: lately {rows} cached rows went wrong without an event.",
            "Look for sessions with session_replication_role = replica or triggers that were off. The rows are mended.",
        ),
        Kind(
            "definition_differs", "capture",
            "This process follows another definition of the catalog than the database does.",
            "Run 'citycache adopt FILE --apply', or start the process with the definition that was applied.",
        ),
        Kind(
            "broker_away", "broker",
            "Events wait in the outbox and no task can be started: {failure}.",
            "Bring RabbitMQ back, or correct CELERY_BROKER_URL. Everything goes on by itself then.",
            serves=True, stops_events=True,
        ),
        Kind(
            "broker_alarm", "broker",
            "The broker takes no messages: it is short of memory or disk. Events wait in the outbox.",
            "Free disk space or memory on the broker's machine; 'rabbitmq-diagnostics alarms' says which.",
            serves=True, stops_events=True,
        ),
        Kind(
            "queue_missing", "worker",
            "The updater's queue does not exist: no event can be routed.",
            "Start a worker or a relay: each declares it.",
            stops_events=True,
        ),
        Kind(
            "relay_absent", "relay",
            "For {seconds:.0f} s no relay leads: nobody carries events from the outbox to the broker.",
            "Start 'citycache relay', or look into its log for why it ends.",
            stops_events=True, takes_time=True,
        ),
        Kind(
            "relay_stands", "relay",
            "Events stand still: for {seconds:.0f} s the relay publishes none of them.",
            "Look into the relay's log; restart it if it says nothing. Its lock passes on by itself.",
            serves=True, stops_events=True, takes_time=True,
        ),
        Kind(
            "worker_absent", "worker",
            "For {seconds:.0f} s no worker takes events from the queue.",
            "Start a worker: 'celery -A backend.app.celery_app worker'.",
            stops_events=True, takes_time=True,
        ),
        Kind(
            "worker_stands", "worker",
            "Events stand still: for {seconds:.0f} s no worker applies any of {messages} messages.",
            "Look into the worker's log for what it waits for; restart it if it says nothing. No event is lost.",
            serves=True, stops_events=True, takes_time=True,
        ),
        Kind(
            "worker_silent", "worker",
            "Events stand still: for {seconds:.0f} s {silent} worker(s) that may hold some give no answer.",
            "Restart the worker that does not answer; what it holds returns to the queue.",
            serves=True, stops_events=True, takes_time=True,
        ),
        Kind(
            "events_held", "worker",
            "Workers hold events for {seconds:.0f} s, since what fails is not theirs: {sentence}",
            "Mend what the sentence names. No event is lost or buried meanwhile; all go on by themselves.",
            serves=True, stops_events=True,
        ),
        Kind(
            "wide_patch_stands", "worker",
            "A patch of {companies} whole companies has not moved for {seconds:.0f} s.",
            "Look at the runs of apply_wide_patches and the worker's log.",
            takes_time=True,
        ),
        Kind(
            "log_short", "log",
            "The log lacks events before {since}, which nobody can replay; EVENT_LOG_DAYS promises {days:g} days.",
            "Raise what the stream's policy keeps, or lower EVENT_LOG_DAYS. Where rows may be wrong, start "
            "refresh_all_caches: it needs no log.",
            takes_time=True,
        ),
        Kind(
            "log_unreadable", "log",
            "For {seconds:.0f} s the log of events cannot be read, so nothing can be replayed: {failure}",
            "Look at the stream catalog.events.log, or the table event_log. A relay that starts makes the log where it "
            "is missing; roles of least rights need 'citycache migrate --roles' again.",
            takes_time=True,
        ),
        Kind(
            "canary_absent", "freshness",
            "No canary has come through for {seconds:.0f} s: changes may not reach the caches.",
            "Look at the parts above: the first that is bad is where events stand.",
        ),
        Kind(
            "freshness_over_target", "freshness",
            "99 of 100 changes took up to {p99_ms:.0f} ms in the last minute.",
            "Look at backlog and load; add a worker if the queue grows.",
        ),
        Kind(
            "rows_wrong", "caches",
            "{rows} cached rows are wrong and not mended yet.",
            "Start refresh_all_caches; 'citycache verify' names the rows.",
        ),
        Kind(
            "dead_letters_open", "dead_letters",
            "{letters} events or messages could not be applied.",
            "Read their reasons with 'citycache dead-letters list', mend the cause, then requeue them.",
        ),
        Kind(
            "run_failed", "schedule",
            "The last scheduled run of {task} ended as {state}: {error}",
            "Start it by hand, and look at its error. The next due run ends this when it succeeds.",
        ),
        Kind(
            "run_missed", "schedule",
            "{task} was due {seconds:.0f} s ago and has not been queued.",
            "Look whether beat runs: 'celery -A backend.app.celery_app beat'.",
        ),
    )
}  # fmt: skip
