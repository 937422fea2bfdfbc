"""Replay from the log, stream or table: read events again, gather their distinct keys, look at those keys again.

A million events on ten thousand products patch ten thousand. The offset and the keys gathered so far are saved every
second, so a replay that was killed goes on where it was. A dry run writes nothing but its own progress: it keeps the
keys in a table until all are known, since a key must not count twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta
from sqlalchemy import Connection
from tenacity import RetryCallState, retry, stop_after_delay, wait_exponential_jitter

from backend.app import db
from backend.app.caches import outlook
from backend.app.caches.apply import apply
from backend.app.caches.diff import BIGINT_MAX, BIGINT_MIN
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CacheType
from backend.app.celery_app import ledgered
from backend.app.database.statement import as_array
from backend.app.errors import BrokerAway, Refused, Unprocessable
from backend.app.relay import event_log
from backend.app.tasks.events import begin_wide_patches
from backend.app.tasks.roster import REPLAY
from backend.app.tasks.task import PATIENCE_SECONDS, LedgerTask
from events import contract, times
from events.contract import Event
from events.errors import BrokerGone, LogTooShort, Malformed
from events.log import Logged, LogReader, Start
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("replay.sql"))
MOST_KEYS: Final = 200_000  # gathered before they are patched; bounds memory and what a checkpoint holds
PART_KEYS: Final = 50_000  # of a dry run, compared at a time
CHECKPOINT_SECONDS: Final = 1.0  # between two checkpoints
CHECKPOINT_SHARE: Final = 0.05  # of the time at most; a checkpoint costs more the more keys have been gathered
WATCHED: Final = "watched"
Instant = Annotated[str, Meta(max_length=times.MOST_CHARACTERS, pattern=r"^[^\x00]*$")]
Offset = Annotated[int, Meta(ge=0, le=BIGINT_MAX)]
KEPT_IN: Final = {"product": "products", "company": "companies", "city": "cities"}


@dataclass(frozen=True)
class ReplayRange:
    """What to replay; neither `since` nor `from_offset` means the whole log."""

    since: datetime | None = None
    until: datetime | None = None
    from_offset: int | None = None
    dry_run: bool = False

    @classmethod
    def parse(
        cls,
        since: str | None = None,
        until: str | None = None,
        from_offset: int | None = None,
        dry_run: bool = False,
    ) -> ReplayRange:
        """From the task's arguments; raises Unprocessable that names what is wrong."""
        if since is not None and from_offset is not None:
            raise Unprocessable("give since or from_offset, not both")
        if from_offset is not None and from_offset < 0:
            raise Unprocessable(f"from_offset is {from_offset}, but offsets begin at 0")
        request = cls(_instant("since", since), _instant("until", until), from_offset, dry_run)
        if request.since and request.until and request.since > request.until:
            raise Unprocessable("since lies after until")
        return request

    def wants(self, event: Event, logged: Logged) -> bool:
        """Whether the event lies in the asked range; one written before `since` but published after it does."""
        if self.since is None and self.until is None:
            return True
        published_at = logged.published_at
        at = _written_at(event, published_at)
        if self.until is not None and at > self.until.timestamp():
            return False
        return self.since is None or at >= self.since.timestamp() or published_at >= int(self.since.timestamp())


def _written_at(event: Event, published_at: float) -> float:
    """Seconds since the epoch; another publisher may write its times in a way that says nothing: then the message's."""
    at = times.seconds(event.time)
    return published_at if at is None else at


def _instant(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Unprocessable(f"{name} is {text!r}, not an instant like 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise Unprocessable(f"{name} is {text!r}, which lacks its time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Unprocessable(f"{name} is {text!r}, which in UTC lies beyond the years 1 to 9999") from None


@dataclass
class Replay:
    """One replay under way."""

    marker: str
    next_offset: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    events: int = 0
    keys: int = 0
    rows_changed: int = 0
    products: set[int] = field(default_factory=set)
    companies: set[int] = field(default_factory=set)
    cities: set[int] = field(default_factory=set)
    truncated: bool = False

    @property
    def gathered(self) -> int:
        """Distinct keys not yet patched."""
        return len(self.products) + len(self.companies) + len(self.cities)

    def take(self, logged: Logged, request: ReplayRange) -> None:
        """Gather the keys of one message."""
        for event in logged.events:
            if isinstance(event, Malformed):
                continue  # the updater has buried it when it came first
            try:
                hint = contract.hint(event)
                if not request.wants(event, logged):
                    continue
            except Malformed:
                continue
            if hint.noun not in (*KEPT_IN, WATCHED):
                continue
            self.events += 1
            self.first_offset = logged.offset if self.first_offset is None else self.first_offset
            self.last_offset = logged.offset
            if hint.id is None or hint.noun == WATCHED:  # whom a row decided about then, nobody can say now
                self.truncated = True
            else:
                getattr(self, KEPT_IN[hint.noun]).add(hint.id)
        self.next_offset = logged.offset + 1

    def result(self) -> dict[str, Any]:
        """The numbers that the contract names."""
        names = ("first_offset", "last_offset", "events", "keys", "rows_changed")
        return {name: getattr(self, name) for name in names}


@ledgered
def replay_events(
    self: LedgerTask,
    since: Instant | None = None,
    until: Instant | None = None,
    from_offset: Offset | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Replay events from the log; a dry run answers what would change instead."""
    return replay(ReplayRange.parse(since, until, from_offset, dry_run), self.task_id, self.report)


def _may_go_on(state: RetryCallState) -> bool:
    """Whether the broker was lost on the way; a replay that finds none at its start says so at once."""
    failure = state.outcome.exception() if state.outcome else None
    return isinstance(failure, (BrokerGone, BrokerAway)) and _load(state.args[1]) is not None


@retry(
    retry=_may_go_on,
    wait=wait_exponential_jitter(multiplier=0.2, max=5),
    stop=stop_after_delay(PATIENCE_SECONDS),
    before_sleep=lambda state: log.warning("a replay waits: %s", state.outcome and state.outcome.exception()),
    reraise=True,
)
def replay(request: ReplayRange, task_id: str, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Read, gather, patch. Raises LogTooShort, BrokerGone, DatabaseAway; called again with its id it goes on."""
    with event_log.reading() as source:
        return _Replaying(request, task_id, report, source).run()


class _Replaying:
    def __init__(
        self, request: ReplayRange, task_id: str, report: Callable[[dict[str, Any]], None], log: LogReader
    ) -> None:
        self._request, self._task_id, self._report, self._log = request, task_id, report, log
        self._replay = _load(task_id) or Replay(log.new_marker())
        if not log.knows(self._replay.marker):
            raise Refused("this replay began in another log than the one of EVENT_LOG: start a new one")
        self._began, self._began_events = time.monotonic(), self._replay.events
        self._end = 0

    def run(self) -> dict[str, Any]:
        replay = self._replay
        _save(self._task_id, replay)
        start, is_fresh = self._start(), replay.next_offset is None
        self._end = self._log.end()
        save_at = time.monotonic() + CHECKPOINT_SECONDS
        for logged in self._log.read(start, replay.marker, mark=is_fresh):
            replay.take(logged, self._request)
            if replay.gathered >= MOST_KEYS:
                self._spill() if self._request.dry_run else self._patch()
            if (began := time.monotonic()) >= save_at:
                _save(self._task_id, replay)
                self._report(self._progress(logged.offset))
                ended = time.monotonic()
                save_at = ended + max(CHECKPOINT_SECONDS, (ended - began) / CHECKPOINT_SHARE)
        if self._request.dry_run:
            return {"dry_run": True, **self._would_change(), **replay.result()}
        self._patch()
        _save(self._task_id, replay)
        return {**replay.result(), "dry_run": False}

    def _start(self) -> Start:
        """Where to begin; refuses to replay less than was asked for."""
        if self._replay.next_offset is not None:
            return self._replay.next_offset
        beginning = self._log.beginning()
        since, offset = self._request.since, self._request.from_offset
        has = f"the log begins at offset {beginning.offset}, with an event of {beginning.time or 'unknown time'}"
        if offset is not None and offset < beginning.offset:
            raise LogTooShort(
                f"{has}; offset {offset} is not there any more. Replay from_offset {beginning.offset}, or rebuild"
            )
        if since is not None and beginning.since is not None and since.timestamp() < beginning.since:
            has += f", and has every event since {times.text(beginning.since)}"
            raise LogTooShort(f"{has}; {since.isoformat()} lies before that. Replay since then, or rebuild")
        return offset if offset is not None else since if since is not None else "first"

    def _progress(self, offset: int) -> dict[str, Any]:
        seconds = max(time.monotonic() - self._began, 0.001)
        rate = (self._replay.events - self._began_events) / seconds
        read = offset - (self._replay.first_offset or 0) + 1
        left = max(self._end - offset, 0)
        return {
            **self._replay.result(),
            "offset": offset,
            "gathered": self._replay.gathered,
            "events_per_second": round(rate),
            "eta_seconds": round(left * seconds / max(read, 1), 1),
        }

    def _keys(self) -> Keys:
        replay = self._replay
        return Keys(sorted(replay.products), sorted(replay.companies), sorted(replay.cities))

    def _patch(self) -> None:
        replay, keys = self._replay, self._keys()
        if len(keys) or replay.truncated:
            applied = apply(keys, Cause(REPLAY.name, self._task_id), replay.truncated)
            replay.keys += len(keys)
            replay.rows_changed += applied.patched
            if applied.leaves_some:
                begin_wide_patches("replay")
        replay.products, replay.companies, replay.cities, replay.truncated = set(), set(), set(), False

    def _spill(self) -> None:
        """Put the gathered keys aside, with the offset that they reach to."""
        replay, keys = self._replay, self._keys()
        replay.products, replay.companies, replay.cities = set(), set(), set()
        with db.transaction() as connection:
            for noun in KEPT_IN:
                ids = as_array(list(getattr(keys, KEPT_IN[noun])))
                connection.exec_driver_sql(SQL["spill"], {"task_id": self._task_id, "noun": noun, "ids": ids})
            _write(connection, self._task_id, replay)

    def _would_change(self) -> dict[str, Any]:
        self._spill()
        asked = {"task_id": self._task_id}
        with db.transaction() as connection:
            if not self._replay.keys:
                self._replay.keys = connection.exec_driver_sql(SQL["count_keys"], asked).scalar_one()
                _write(connection, self._task_id, self._replay)
            connection.exec_driver_sql(SQL["take_products_along"], asked)
        shown = outlook.dry_run(self._parts, self._replay.truncated)
        with db.transaction() as connection:
            connection.exec_driver_sql(SQL["forget_keys"], asked)
        return shown

    def _parts(self, connection: Connection) -> Iterator[tuple[CacheType, list[int]]]:
        """The keys, each once."""
        for noun in ("product", "company"):
            least: int = BIGINT_MIN
            while True:
                asked = {"task_id": self._task_id, "noun": noun, "least": least, "most": PART_KEYS}
                ids = list(connection.exec_driver_sql(SQL["keys_from"], asked).scalars())
                if ids:
                    yield "products" if noun == "product" else "companies", ids
                if len(ids) < PART_KEYS or ids[-1] == BIGINT_MAX:
                    break
                least = ids[-1] + 1


def _load(task_id: str) -> Replay | None:
    with db.transaction() as connection:
        row = connection.exec_driver_sql(SQL["load"], {"task_id": task_id}).one_or_none()
    if row is None:
        return None
    fields = dict(row._mapping)
    return Replay(**fields | {name: set(fields[name]) for name in ("products", "companies", "cities")})


def _save(task_id: str, replay: Replay) -> None:
    with db.transaction() as connection:
        _write(connection, task_id, replay)


def _write(connection: Connection, task_id: str, replay: Replay) -> None:
    values = {
        name: as_array(sorted(value)) if isinstance(value, set) else value for name, value in vars(replay).items()
    }
    connection.exec_driver_sql(SQL["save"], {"task_id": task_id, **values})


__all__ = ["BrokerGone", "Replay", "ReplayRange", "replay", "replay_events"]
