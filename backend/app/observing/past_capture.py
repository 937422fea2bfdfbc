"""Names the table whose writes come past capture, where a cached row is wrong; never on suspicion.

That is so only where capture said something else about a row last than what the row is: the newest event of the row in
the log has another image, or there is none although the row was written, or has gone, since the witness began to
remember. An event that was lost behind the log, or that failed, is in the log as the row is, so it names nothing;
neither does a cache that was tampered with, whose counts and mappings disagree, nor anything while the log cannot be
read, or a slim event hides what capture said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff
from backend.app.catalog import definition
from backend.app.catalog.sources import quoted
from backend.app.database.statement import run
from backend.app.errors import CitycacheError, sentence
from backend.app.observing import findings
from backend.app.observing.findings import WrongRow
from backend.app.observing.witness import MEMORY_SECONDS, SQL, Witness, captured_sql, images, key_of, spelled
from backend.app.relay import event_log
from events.contract import Event
from events.errors import EventError

log = logging.getLogger(__name__)
MOST_ROWS: Final = 200  # wrong rows that are looked at; one is enough to name its table
READ_SECONDS: Final = 10.0  # for the log; one that is longer says nothing
MOST_IMAGES: Final = 10_000  # young rows of a watched table
NOUN_OF: Final = {"products": "product", "companies": "company", "counts": "city"}


@dataclass(frozen=True)
class SourceRow:
    """A row of the catalog that a wrong cached row follows from."""

    noun: str
    id: int
    table: str  # as SQL writes it
    part: str | None  # the table or partition that it is in; None: it has gone
    version: str | None

    @property
    def subject(self) -> str:
        """As events have it."""
        return f"{self.noun}/{self.id}"


@dataclass(frozen=True)
class LastWord:
    """The newest event of a row."""

    event: Event
    offset: int


def tables_of(witness: Witness, cache: str, wrong: Sequence[WrongRow]) -> dict[str, str]:
    """The tables, by key, whose writes came past capture; those of which nobody can say so are left out."""
    if cache not in NOUN_OF or not wrong or witness.mark is None:
        return {}
    follows = {row.key: list(_subjects(cache, row)) for row in wrong[:MOST_ROWS]}
    try:
        with findings.snapshot() as connection:
            if _is_tampered(connection, wrong):
                return {}
            young = list(_young(connection, witness, follows))
            watched = dict(_watched(connection, witness.mark, follows))
            explained = set(_explained(connection, cache, wrong[:MOST_ROWS]))
        said = _last_words(sorted({subject for some in follows.values() for subject in some})) if young else {}
        blamed = {} if said is None else {one.subject: _told(one) for one in young if _is_unsaid(one, said, explained)}
    except Exception as failure:  # such as a right that lacks; mending does not depend on it
        is_known = isinstance(failure, (CitycacheError, EventError))
        log.warning("nobody can say whether writes come past capture: %s", sentence(failure), exc_info=not is_known)
        return {}
    named = {key: [blamed[one] for one in subjects if one in blamed] for key, subjects in follows.items()}
    return watched | {key: tables[0] for key, tables in named.items() if tables}


def _subjects(cache: str, row: WrongRow) -> Iterator[str]:
    """What a cached row follows from, the nearest first."""
    yield f"{NOUN_OF[cache]}/{row.key}"
    for noun in ("company", "city"):
        for image in (row.after, row.before):
            if image and (key := image.get(f"{noun}_id")) is not None and noun != NOUN_OF[cache]:
                yield f"{noun}/{key}"


def _is_tampered(connection: Connection, wrong: Sequence[WrongRow]) -> bool:
    cities = {image["city_id"] for row in wrong for image in (row.before, row.after) if image}
    return bool(run(connection, SQL["disagreeing"], cities=sorted(cities), seconds=MEMORY_SECONDS)[0][0])


def _young(connection: Connection, witness: Witness, follows: Mapping[str, list[str]]) -> Iterator[SourceRow]:
    """Rows that were written, or have gone, lately, and of which no event waits in the outbox."""
    subjects = sorted({subject for some in follows.values() for subject in some})
    waiting = {row[0] for row in run(connection, SQL["in_outbox"], subjects=subjects)}
    for table in run(connection, captured_sql("captured")):
        ids = [int(one.partition("/")[2]) for one in subjects if one.partition("/")[0] == table.role]
        if not ids or table.role in waiting:
            continue
        for source, is_young in _sources(connection, table.role, table.table_name, ids, witness.mark):
            if source.subject not in waiting and (is_young if source.part else witness.has_gone(table.role)):
                yield source


def _sources(
    connection: Connection, noun: str, table: str, ids: list[int], mark: str | None
) -> Iterator[tuple[SourceRow, bool]]:
    key = spelled(key_of(connection, table, noun))
    query = f"""
        SELECT asked.id, source.tableoid::regclass::text, source.xmin::text,
               coalesce(age(source.xmin) BETWEEN 0 AND age(%(mark)s::xid), false)
          FROM unnest(%(ids)s::bigint[]) AS asked (id)
          LEFT JOIN {spelled(table)} AS source ON source.{key} = asked.id"""
    for id_, part, version, is_young in run(connection, query, ids=ids, mark=mark):
        yield SourceRow(noun, id_, table, part, version), is_young


def _last_words(subjects: Sequence[str]) -> dict[str, LastWord] | None:
    """The newest event of each; None where that took too long, or an event of all rows hides them."""
    asked, said = set(subjects), dict[str, LastWord]()
    deadline = time.monotonic() + READ_SECONDS
    with event_log.reading() as source:
        since = datetime.now(UTC) - timedelta(seconds=MEMORY_SECONDS)
        for logged in source.read(since, source.new_marker(), mark=True):
            for event in logged.events:
                if isinstance(event, Event) and event.subject in asked:
                    said[event.subject] = LastWord(event, logged.offset)
                elif isinstance(event, Event) and event.type.endswith(".truncated"):
                    return None
            if time.monotonic() > deadline:
                return None
    return said


def _explained(connection: Connection, cache: str, wrong: Sequence[WrongRow]) -> Iterator[str]:
    """Rows that may be wrong for the sake of another one, so that silence about themselves says nothing: products of a
    company that is wrong or was lately, and what watched rows that capture did tell of decide about."""
    owners = {row.key: image["company_id"] for row in wrong for image in (row.before, row.after)
              if image and cache == "products"}  # fmt: skip
    companies = sorted(set(owners.values()))
    ill = set(diff.among(connection, "companies", companies).keys)
    recent = {"keys": [str(company) for company in companies], "seconds": MEMORY_SECONDS}
    ill.update(int(row[0]) for row in run(connection, SQL["found_lately"], **recent))
    yield from (f"product/{key}" for key, company in owners.items() if company in ill)
    ids = sorted({int(row.key) for row in wrong})
    for watch in run(connection, SQL["watches"]) if definition.current().is_adopted else ():
        if NOUN_OF[cache] == watch.noun:
            query = SQL["told_lately"].replace("watch_ids", f"watch_{watch.number}_ids")
            asked: dict[str, Any] = {"ids": ids, "plain": watch.plain, "seconds": MEMORY_SECONDS}
            yield from (f"{watch.noun}/{row[0]}" for row in run(connection, query, **asked))


def _is_unsaid(source: SourceRow, said: Mapping[str, LastWord], explained: set[str]) -> bool:
    """Whether capture knows nothing of this row as it is; asked again after the log, where it must still be so."""
    word = said.get(source.subject)
    if word is None and source.subject in explained:
        return False
    with db.transaction() as connection:
        rows = list(_sources(connection, source.noun, source.table, [source.id], "3"))
        if [row for row, _ in rows] != [source]:
            return False
        if word is None or source.part is None or word.event.type.endswith(".deleted"):
            return word is None or (source.part is None) != word.event.type.endswith(".deleted")
        image = _image(connection, word)
        return image is not None and _differs(connection, source, image)


def _image(connection: Connection, word: LastWord) -> str | None:
    if word.event.data is not None:
        return bytes(word.event.data.after).decode()
    found = run(connection, SQL["logged_image"], offset=word.offset, event=word.event.id)
    return found[0][0] if found else None


def _differs(connection: Connection, source: SourceRow, image: str) -> bool:
    """Both sides as this session writes their values: the writer's may have written a time in another way."""
    columns = [spelled(quoted(name)) for name in msgspec.json.decode(image)]
    table, key = spelled(source.table), spelled(key_of(connection, source.table, source.noun))
    now, then = (f"jsonb_build_array({', '.join(f'{row}.{name}' for name in columns)})" for row in ("source", "told"))
    query = f"""
        SELECT bool_and({now} <> {then})
          FROM {table} AS source CROSS JOIN json_populate_record(NULL::{table}, %(image)s::json) AS told
         WHERE source.{key} = %(id)s"""
    return bool(run(connection, query, image=image, id=source.id)[0][0])


def _watched(connection: Connection, mark: str, follows: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Keys that a young row of a watched table decides about, of which capture keeps no such image."""
    if not definition.current().is_adopted:
        return
    for watch in run(connection, SQL["watches"]):
        keys = {int(one.partition("/")[2]): key for key, some in follows.items() for one in some
                if one.partition("/")[0] == watch.noun}  # fmt: skip
        query = f"""
            SELECT DISTINCT moved.id, part FROM ({images(watch)}) AS written
             CROSS JOIN LATERAL watch_{watch.number}_ids(image) AS moved
             WHERE moved.id = ANY(%(ids)s::bigint[]) AND NOT EXISTS (
                   SELECT FROM watched_changes AS change
                    WHERE table_name = %(plain)s AND id > (SELECT max(id) - 100000 FROM watched_changes)
                      AND change.after::jsonb = written.image::jsonb)"""
        asked: dict[str, Any] = {"mark": mark, "most": MOST_IMAGES, "ids": sorted(keys), "plain": watch.plain}
        yield from ((keys[id_], part) for id_, part in run(connection, query, **asked))


def _told(source: SourceRow) -> str:
    return source.part or source.table
