"""One bad row stops nothing: whatever is in it, what comes behind it is published within a second or two."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from kombu import Connection

from backend.app.errors import Away
from backend.app.relay import process
from backend.app.settings import settings
from backend.app.worker.consumer import read_parts
from backend.embedded.inprocess import ToPatch
from backend.embedded.rabbitmq import RabbitMQ
from events import contract, topology
from events.outbox import Outbox
from events.publisher import Publisher
from events.relay import Pace, Relay, run_once
from tests.background import background
from tests.faults.plant import Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.waiting import until

SOON_SECONDS: Final = 3.0  # a second, and what a busy machine takes on top
MOST_BYTES: Final = 20_000  # of a message, at the broker that takes little
ODD: Final = {  # column: its type and its values
    "j json": (
        *(r"""'{"t": "\ud83d"}'""", r"""'"\ude00\ud83d"'""", r"""'"\\\ud83d"'""", r"""'"\u0000"'"""),
        *("'1e400'", "'-1e999'", f"'{'9' * 5000}'", """'{"a": 1, "a": 2, "": {"a": 3}}'"""),
        "' [ 1 ,\n { \"x\" : null } ] '",
        "('[' || repeat('{\"a\":1},', 3000) || '1]')::json",
    ),
    "n numeric": ("'NaN'", "'Infinity'", "'-Infinity'", "1e1000", "-1e-1000"),
    "f float8": ("'NaN'", "'Infinity'", "1e308", "5e-324"),
    "t timestamptz": ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'"),
    "d date": ("'infinity'", "'5874897-12-31'", "'4713-01-01 BC'"),
    "i interval": ("'178000000 years'", "'-178000000 years 1 mon -3 days'"),
    "b bytea": (r"'\x00ff'", "decode(repeat('00', 40000), 'hex')"),
    "a int[]": ("'{}'", "'{{1,NULL},{3,4}}'", "'[-2:0]={1,2,3}'"),
    "r int8range": ("'empty'", "'(,)'", "'[1,)'"),
    "u uuid": ("'ffffffff-ffff-ffff-ffff-ffffffffffff'",),
    "c text": (
        *(r"E'\x01\x1f\x7f'", "chr(1114111) || chr(65535) || chr(8232)", "repeat(chr(128512), 100000)"),
        "repeat('\"\\', 90000)",
    ),
    "\"a\"\"b\\c{}[],: \n\u2028\" text": ("'odd name'",),
}  # fmt: skip
DEEP: Final = "(repeat('[', {0}) || repeat(']', {0}))::json"


class Arrived:
    """Every event that the exchange carried, and the bytes of its message."""

    def __init__(self, broker: str) -> None:
        self.events: dict[str, list[dict[str, Any]]] = {}  # by subject
        self.bodies: list[bytes] = []
        self._connection = Connection(broker)
        channel: Any = self._connection.channel()
        topology.declare(channel)
        queue = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(queue, topology.EVENTS.name, "#")
        channel.basic_consume(queue, callback=self._take, no_ack=True)

    def follow(self, stop: threading.Event) -> None:
        """Take what comes, until stopped."""
        while not stop.is_set():
            try:
                self._connection.drain_events(timeout=0.05)
            except TimeoutError:
                continue
        self._connection.close()

    def _take(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else message.body.encode()
        for event in json.loads(body, parse_int=str):  # Python's own reader refuses a number of 5,000 digits
            self.events.setdefault(event["subject"], []).append(event)
        self.bodies.append(body)


@contextmanager
def relaying_to(broker: str) -> Iterator[Arrived]:
    """A relay on the configured database, and what it publishes."""
    arrived = Arrived(broker)
    relay = Relay(
        process.connection,
        lambda outbox: Publisher(broker, outbox.ping, None, outbox.bury),
        Pace(4000, 0.001, 0.02),
        away=(Away,),
    )
    thread = threading.Thread(target=relay.run)
    thread.start()
    with background(arrived.follow), Plain(settings().database_url) as plain:
        plain.run("UPDATE companies SET name = name || '.' WHERE id = 1")
        try:
            until(lambda: arrived.events, 30, "a relay leads")
            yield arrived
        finally:
            relay.stop()
            thread.join(15)
    assert not thread.is_alive()


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        plain.run("INSERT INTO companies (id, name) VALUES (1, 'x')")
        plain.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 4000) AS n")
        plain.run("DELETE FROM event_outbox")
        yield plain


@pytest.fixture(scope="module")
def meagre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a broker that takes only small messages."""
    node = RabbitMQ(tmp_path_factory.mktemp("meagre"), settings={"max_message_size": str(MOST_BYTES)})
    with node:
        yield node.url


def good_event(plain: Plain, arrived: Arrived) -> None:
    """A change behind whatever was there is published, and soon."""
    before = len(arrived.events.get("company/1", []))
    plain.run("UPDATE companies SET name = name || '.' WHERE id = 1")
    until(lambda: len(arrived.events.get("company/1", [])) > before, SOON_SECONDS, "the next good event is published")


def came(arrived: Arrived, subject: str) -> dict[str, Any]:
    """The last event of a subject, waited for."""
    until(lambda: arrived.events.get(subject), SOON_SECONDS, f"{subject} is published")
    return arrived.events[subject][-1]


def test_rows_of_every_odd_kind_travel_as_postgresql_wrote_them(plain: Plain, broker: str) -> None:
    with relaying_to(broker) as arrived:
        for column, values in ODD.items():
            name = column.rpartition(" ")[0]
            plain.run(f"ALTER TABLE products ADD COLUMN {column}".replace("%", "%%"))
            for value in values:
                arrived.events.pop("product/1", None)
                plain.run(f"UPDATE products SET {name} = {value} WHERE id = 1")
                good_event(plain, arrived)
                event = came(arrived, "product/1")
                assert event.get("slim") is None, (column, value)
                assert len(event["data"]["changed"]) == 1, (column, value)
            plain.run(f"UPDATE products SET {name} = NULL WHERE id = 1")
            good_event(plain, arrived)
    hints, letters = [], []
    for body in arrived.bodies:
        read, unread = read_parts(body, contract.BATCH, {})
        hints += read
        letters += unread
    assert letters == []
    assert len([hint for hint in hints if hint.noun == "product"]) == sum(len(values) + 1 for values in ODD.values())


@pytest.mark.parametrize("levels", [150, 900, 3_000])
def test_a_row_that_parsers_would_choke_on_travels_slim(plain: Plain, broker: str, levels: int) -> None:
    plain.run("ALTER TABLE products ADD COLUMN j json")
    with relaying_to(broker) as arrived:
        plain.run(f"UPDATE products SET j = {DEEP.format(levels)} WHERE id = 1")
        plain.run(f"INSERT INTO products (id, company_id, name, j) VALUES (5000, 1, 'p', {DEEP.format(levels)})")
        good_event(plain, arrived)
        events = [came(arrived, "product/1"), came(arrived, "product/5000")]

    assert [event.get("slim", False) for event in events] == [levels > contract.MOST_NESTED] * 2
    assert all(event["id"] and event["time"] for event in events)


@pytest.mark.parametrize("size", [2_000, 130_000, 520_000, 530_000, 1_050_000, 17_000_000])
@pytest.mark.parametrize("content", ["x", "md5"])
def test_a_row_of_any_size_is_published_slim_above_a_mebibyte(
    plain: Plain, broker: str, size: int, content: str
) -> None:
    """Compressed or not: PostgreSQL keeps large values in several ways."""
    text = f"repeat('x', {size})"
    if content == "md5":
        text = f"(SELECT left(string_agg(md5(n::text), ''), {size}) FROM generate_series(1, {size // 32 + 1}) AS n)"
    with relaying_to(broker) as arrived:
        plain.run(f"INSERT INTO products (id, company_id, name) SELECT 5000, 1, {text}")
        good_event(plain, arrived)
        event = came(arrived, "product/5000")

    assert event.get("slim", False) == (size > 2**20)
    assert (event["data"] is None) == (size > 2**20)
    assert plain.one("SELECT count(*) FROM event_outbox") == 0


def test_what_a_broker_finds_too_large_travels_slim_and_the_rest_whole(
    plain: Plain, meagre: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    sizes = {f"product/{n}": 30_000 if n % 50 == 0 else 9_000 if n % 7 == 0 else 10 for n in range(1, 401)}
    with relaying_to(meagre) as arrived:
        plain.run("""UPDATE products SET name = repeat('x', CASE WHEN id % 50 = 0 THEN 30000 WHEN id % 7 = 0 THEN 9000
                                                                 ELSE 10 END) WHERE id <= 400""")
        good_event(plain, arrived)
        until(lambda: sizes.keys() <= arrived.events.keys(), SOON_SECONDS, "all are published")

    slim = {subject for subject in sizes if came(arrived, subject).get("slim")}
    assert slim == {subject for subject, size in sizes.items() if size == 30_000}
    assert max(map(len, arrived.bodies)) <= MOST_BYTES
    assert plain.one("SELECT count(*) FROM event_outbox") == 0


def test_a_row_that_the_broker_refuses_in_any_form_is_buried_and_can_be_sent_again(plain: Plain, broker: str) -> None:
    insert = "INSERT INTO event_outbox (type, subject, traceparent) VALUES (%s, 'product/1', %s)"
    with relaying_to(broker) as arrived:
        good_event(plain, arrived)
        for kind in ("t" * 300, "ü" * 200, "no.such.type", ""):
            plain.run(insert, (kind, "x" * 200_000))
            good_event(plain, arrived)
        until(lambda: plain.one("SELECT count(*) FROM event_outbox") == 0, SOON_SECONDS)

    letters = plain.all("SELECT kind, subject, reason, payload::json ->> 'slim' FROM dead_letters ORDER BY id")
    buried = [letter for letter in letters if letter[0] == "undeliverable"]
    assert [letter[1] for letter in buried] == ["product/1"] * len(buried)
    assert len(buried) >= 2
    assert all(reason and slim == "true" for _, _, reason, slim in buried)


def test_the_leaders_session_is_kept_alive_while_it_sends(plain: Plain, broker: str) -> None:
    pings: list[float] = []
    outbox = Outbox(process.connection())
    publisher = Publisher(broker, lambda: pings.append(time.monotonic()), None, outbox.bury)
    plain.run("UPDATE products SET name = repeat('x', 40000) WHERE id <= 100")

    run_once(outbox, publisher, 4000)

    assert len(pings) >= 30, "once a message, of which each holds one or two rows"
    publisher.close()
    outbox.close()


def test_a_statement_over_large_rows_takes_the_relay_no_memory(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with plant_on(databases, vhosts, tmp_path) as plant, plant.sql() as sql:
        sql.run("INSERT INTO companies (id, name) VALUES (1, 'x')")
        sql.run("INSERT INTO products (id, company_id, name) SELECT n, 1, 'p' FROM generate_series(1, 4000) AS n")
        plant.start(["relay"])
        plant.wait_until(lambda: sql.one("SELECT count(*) FROM event_outbox") == 0, 60, "the relay leads")
        sql.run("UPDATE products SET name = repeat('x', 40000)")
        sql.run("UPDATE products SET kind = 'service'")
        peak = _peak(plant, sql)

        assert peak < 150 * 2**20
        assert plant.log("relay").count("relay leads") == 1


def _peak(plant: Plant, sql: Plain) -> int:
    """Bytes that the relay has had at most, until the outbox is empty."""
    peak, relay = 0, psutil.Process(plant.pid("relay"))

    def is_drained() -> bool:
        nonlocal peak
        peak = max(peak, relay.memory_info().rss)
        return bool(sql.one("SELECT NOT EXISTS (SELECT FROM event_outbox)"))

    plant.wait_until(is_drained, 120, "all is published")
    return peak


def test_without_a_broker_no_row_stops_the_others(plain: Plain) -> None:
    plain.run("ALTER TABLE products ADD COLUMN j json")
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'a')")
    plain.run(r"""UPDATE products SET j = '{"t": "\ud83d"}' WHERE id = 1""")
    plain.run(
        "INSERT INTO event_outbox (type, subject) VALUES ('no.such.type', 'x'), ('catalog.city.created', 'city/x')"
    )
    plain.run("INSERT INTO companies (id, name, city_id) VALUES (2, 'y', 1)")
    outbox = Outbox(process.connection())
    settings.cache_clear()

    run_once(outbox, ToPatch(outbox), 4000)

    assert plain.one("SELECT count(*) FROM company_city_mapping") == 1
    assert sorted(plain.column("SELECT kind FROM dead_letters")) == ["unknown_type", "unreadable"]
    assert plain.one("SELECT count(*) FROM event_outbox") == 0
    outbox.close()
