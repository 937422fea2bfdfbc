"""What was captured beside what the log holds: an event that is in the first and not in the second is lost."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Final

from events.contract import Event
from events.stream import StreamLog
from tests.plain import Plain

TABLE: Final = """
    CREATE TABLE captured (event_id uuid, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION note_captured() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.captured (event_id) SELECT event_id FROM fresh; RETURN NULL; END $$;
    CREATE TRIGGER note_captured AFTER INSERT ON event_outbox REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION note_captured()"""


def note_captured(sql: Plain) -> None:
    """From now on the ids of all events are written down, in the transaction that makes them."""
    sql.run(TABLE)


def captured(sql: Plain) -> set[str]:
    """Ids of all events that were committed."""
    return set(sql.column("SELECT event_id::text FROM captured"))


def logged(broker: str) -> Counter[str]:
    """How often each event stands in the log."""
    with closing(StreamLog(broker)) as log:
        messages = log.read("first", log.new_marker(), mark=True)
        return Counter(event.id for message in messages for event in message.events if isinstance(event, Event))
