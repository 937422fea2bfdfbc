"""The ledger `task_runs`: the state of every run, readable from any process and after any restart.

Celery's result backend is not asked: `rpc://` answers only the process that started a task, and a task that expired
in its queue leaves no trace there. A run's state only moves forward; EXPIRED is read off the clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from backend.app import db
from backend.app.database.statement import run_named
from backend.app.errors import BeingQueued
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("ledger.sql"))
MOST_RUNS: Final = 500  # of one answer
MOST_COUNTED: Final = 10_000  # runs of a task; counting so many takes milliseconds
AHEAD_SECONDS: Final = 60.0  # a due instant farther in the future was named by a clock that was wrong
QUEUEING_SECONDS: Final = 30.0  # longer than the broker's confirm takes, or its loss is noticed


@dataclass(frozen=True)
class Run:
    """One run as the API shows it."""

    task_id: UUID
    task: str
    trigger: str  # api, beat, event, replay, cli
    state: str  # PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, EXPIRED, SKIPPED
    progress: Any
    result: Any
    error: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """The contract's fields, ready for JSON."""
        fields = asdict(self) | {"task_id": str(self.task_id)}
        for name in ("queued_at", "started_at", "finished_at"):
            fields[name] = fields[name] and fields[name].isoformat()
        return fields


def announce(
    task_id: str, task: str, trigger: str, arguments: Mapping[str, Any], expires_seconds: float | None = None
) -> bool:
    """Write the PENDING row of a run about to be queued; False when it is there already."""
    return bool(_execute("insert", **_announced(task_id, task, trigger, arguments, expires_seconds)))


def announce_due(
    task_id: str,
    task: str,
    trigger: str,
    arguments: Mapping[str, Any],
    expires_seconds: float | None,
    scheduled_for: datetime,
) -> str | None:
    """The same for a due instant; the id to queue it by, None when it has been queued, by another beat.

    The run counts as not queued until `queued` says so. Until then whoever has announced it may do so again, and
    anybody else once it has not spoken for QUEUEING_SECONDS; before that BeingQueued is raised.
    """
    parameters = _announced(task_id, task, trigger, arguments, expires_seconds) | {
        "scheduled_for": scheduled_for,
        "ahead": AHEAD_SECONDS,
        "lease": QUEUEING_SECONDS,
    }
    with db.transaction() as connection:
        connection.exec_driver_sql(SQL["forget_ahead"], parameters)
        found = connection.exec_driver_sql(SQL["insert_due"], parameters).scalar()
        if found is None and connection.exec_driver_sql(SQL["is_being_queued"], parameters).scalar():
            raise BeingQueued
    return None if found is None else str(found)


def queued(task_id: str) -> None:
    """The broker has a due run's message."""
    _execute("queued", task_id=task_id)


def not_queued(task_id: str, error: str) -> None:
    """The broker does not have it; the run stays due."""
    _execute("not_queued", task_id=task_id, error=error)


def _announced(
    task_id: str, task: str, trigger: str, arguments: Mapping[str, Any], expires_seconds: float | None
) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "task": task,
        "trigger": trigger,
        "arguments": json.dumps(arguments),
        "expires": expires_seconds,
    }


def begin(task_id: str, task: str, trigger: str, arguments: Mapping[str, Any]) -> bool:
    """The run starts; False when it has ended already, so that a redelivered message must not run again."""
    return bool(_execute("begin", task_id=task_id, task=task, trigger=trigger, arguments=json.dumps(arguments)))


def progress(task_id: str, state: Mapping[str, Any]) -> None:
    """Show how far the run is."""
    _execute("progress", task_id=task_id, progress=json.dumps(state, default=str))


def retry(task_id: str, error: str) -> None:
    """The run waits to be tried again."""
    _execute("retry", task_id=task_id, error=error)


def finish(task_id: str, state: str, result: Any = None, error: str | None = None) -> None:
    """The run has ended."""
    _execute("finish", task_id=task_id, state=state, result=json.dumps(result, default=str), error=error)


def insert_finished(
    connection: Connection,
    task_id: str,
    task: str,
    trigger: str,
    result: Any,
    queued_at: float,
    started_at: float,
    state: str = "SUCCESS",
    error: str | None = None,
) -> None:
    """Record a run that is done, in the caller's transaction; instants in seconds since the epoch."""
    parameters = {
        "task_id": task_id, "task": task, "trigger": trigger, "state": state, "error": error,
        "result": json.dumps(result, default=str), "queued_at": queued_at, "started_at": started_at,
    }  # fmt: skip
    connection.exec_driver_sql(SQL["insert_finished"], parameters)


def run(task_id: UUID) -> Run | None:
    """One run, or None for an id that was never issued."""
    found = _read("run", task_id=str(task_id))
    return found[0] if found else None


def arguments(task_id: UUID) -> dict[str, Any] | None:
    """What a run was given; None where nobody wrote it down. Raises DatabaseAway."""
    found = _execute("arguments", task_id=str(task_id))
    return found[0][0] if found else None


def active(limit: int = MOST_RUNS) -> list[Run]:
    """Runs that are queued, running or waiting to be tried again; newest first."""
    return _read("active", limit=limit)


def history(
    state: str | None = None, task: str | None = None, limit: int = 50, before: UUID | None = None
) -> list[Run]:
    """Runs, newest first, below the run `before`."""
    return _read("history", state=state, task=task, limit=limit, before=str(before) if before else None)


def counts() -> dict[str, dict[str, int]]:
    """Runs of the last day by task and state. Above MOST_COUNTED of a task, about how many succeeded."""
    with db.transaction() as connection:
        rows = connection.exec_driver_sql(SQL["counts"], {"most": MOST_COUNTED}).fetchall()
        totals = {task: _about(connection, task) if runs == MOST_COUNTED else runs for task, runs, _ in rows}
    found = {task: {"SUCCESS": max(0, totals[task] - sum(others.values())), **others} for task, _, others in rows}
    return {task: states for task, by in found.items() if (states := {name: n for name, n in by.items() if n})}


def _about(connection: Connection, task: str) -> int:
    plan = connection.exec_driver_sql(SQL["about"], {"task": task}).scalar_one()
    return max(MOST_COUNTED, int(plan[0]["Plan"]["Plan Rows"]))


def last_due() -> dict[str, datetime]:
    """When each scheduled task was due last and queued; never later than now."""
    with db.transaction() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(SQL["last_due"])}


def failing_schedules() -> dict[str, int]:
    """Of each scheduled task, how many runs in a row have not succeeded, up to the last due one.

    One that could not be queued counts from the second attempt; one that is under way does not count.
    """
    with db.transaction() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(SQL["failing_schedules"])}


def abandon(error: str) -> None:
    """End all runs that are under way: their process is gone."""
    _execute("abandon", error=error)


def _execute(name: str, **parameters: Any) -> list[Any]:
    with db.transaction() as connection:
        return run_named(SQL, connection, name, **parameters)


def _read(name: str, **parameters: Any) -> list[Run]:
    return [Run(*row) for row in _execute(name, **parameters)]
