"""Dead letters: whatever is sent, neighbours go through, reasons can be understood, and nothing has to be restarted."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import amqp
import pytest
from kombu import Connection

from backend.app.health import inspector as broker
from backend.app.worker.consumer import read_parts
from events import contract, foreign, topology
from tests.faults.plant import Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.waiting import until

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "0b8f2b7e-7d0c-4c4b-9b1e-8e6f6f3c1a11",
    "type": "catalog.company.updated",
    "source": "/elsewhere",
    "subject": "company/1",
    "time": "2026-01-31T12:00:00Z",
    "datacontenttype": "application/json",
    "data": {"before": None, "after": None, "changed": []},
}
MISSING = object()


def batch(**changes: Any) -> bytes:
    """A batch of one event with these attributes; MISSING leaves one out."""
    event = {name: value for name, value in (EVENT | changes).items() if value is not MISSING}
    return json.dumps([event]).encode()


def message(body: bytes = b"", content_type: Any = contract.BATCH, **properties: Any) -> amqp.Message:
    return amqp.Message(body, content_type=content_type, delivery_mode=2, **properties)


MALFORMED: dict[str, tuple[amqp.Message, str]] = {  # what is wrong → the message, and a part of the reason
    "empty": (message(), "not a JSON array of events: Input data was truncated"),
    "not JSON": (message(b"hello"), "not a JSON array of events: JSON is malformed"),
    "cut off": (message(batch()[:-20]), "not a JSON array of events: Input data was truncated"),
    "not UTF-8": (message(b'["\xff"]'), "not a CloudEvent: "),
    "nested too deeply": (message(b"[" * 100_000), "recursion depth"),
    "no array": (message(b"{}"), "Expected `array`, got `object`"),
    "no events": (message(b"[]"), "the batch is empty"),
    "no event": (message(b"[1]"), "not a CloudEvent: Expected `object`, got `int`"),
    "without an id": (message(batch(id=MISSING)), "Object missing required field `id`"),
    "with an empty id": (message(batch(id="")), "the event has no id"),
    "of another version": (message(batch(specversion="0.3")), "specversion is '0.3', not '1.0'"),
    "of an unknown type": (message(batch(type="catalog.company.renamed")), "unknown event type 'catalog.company.re"),
    "of a number as type": (message(batch(type=3)), "Expected `str`, got `int` - at `$.type`"),
    "about another noun": (message(batch(subject="product/1")), "subject 'product/1' does not belong to type"),
    "about no id": (message(batch(subject="company/one")), "subject 'company/one' names no company id"),
    "about too large an id": (message(batch(subject=f"company/{2**63}")), "names no company id"),
    "without data": (message(batch(data=MISSING)), "Object missing required field `data`"),
    "with a NUL": (message(batch(time="\0")), "the event's time has a NUL character"),
    "of no content type": (message(batch(), None), "content type '' is not a CloudEvent"),
    "in half binary mode": (
        message(b"{}", "application/json", application_headers={"cloudEvents:id": "1"}),
        "not a CloudEvent in binary mode: Object missing required field `type`",
    ),
    "with a content type of no text": (message(b"", b"\xff\xfe"), r"content type '\\xff\\xfe' is not a CloudEvent"),
    "said to be compressed": (
        message(b"x", application_headers={"compression": "application/x-gzip"}),
        "compressed bodies ('application/x-gzip') are not unpacked",
    ),
    "said to have come often": (message(b"[]", application_headers={"x-delivery-count": "often"}), "is empty"),
}


@pytest.fixture(scope="module")
def plant(databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), WIDE_PATCH_KEYS="50") as plant:
        yield plant.started(["relay", "worker"])


@pytest.fixture
def sql(plant: Plant) -> Iterator[Plain]:
    """Connected; at the end nothing fails any more and all letters are gone."""
    with plant.sql() as plain:
        yield plain
        lift_curses(plain)
        plain.run("UPDATE companies SET name = name || '.'")
        plant.drain()
        plain.run("DELETE FROM dead_letters")
        assert plant.violations() == []


@pytest.fixture
def publish(plant: Plant) -> Iterator[Callable[[amqp.Message, str], None]]:
    """Publishes straight into the exchange, as any other service may."""
    with Connection(plant.broker) as connection:
        channel: Any = connection.channel()
        channel.confirm_select()
        yield lambda message, key: channel.basic_publish_confirm(message, exchange="catalog.events", routing_key=key)


def add_companies(sql: Plain, number: int) -> list[int]:
    """Add companies of the first city in one transaction; their ids."""
    return sql.column(
        "INSERT INTO companies (name, city_id) SELECT 'c', (SELECT min(id) FROM cities) FROM generate_series(1, %s)"
        " RETURNING id",
        [number],
    )


def taken(channel: Any, queue: str, seconds: float = 2) -> Any:
    """The next message of a queue, None when none comes."""
    found: list[Any] = []

    def take() -> bool:
        if message := channel.basic_get(queue):
            found.append(message)
        return bool(found)

    with suppress(AssertionError):
        until(take, seconds)
    return found[0] if found else None


def curse(sql: Plain, table: str, column: str, row_id: int) -> None:
    """From now on no row of this id can be written to a cache table."""
    sql.run(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'this row is cursed'; END $$"
    )
    sql.run(
        f"CREATE TRIGGER cursed BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NEW.{column} = {row_id})"
        " EXECUTE FUNCTION refuse()"
    )


def lift_curses(sql: Plain) -> None:
    for table in ("company_city_mapping", "product_city_mapping"):
        sql.run(f"DROP TRIGGER IF EXISTS cursed ON {table}")


def letters(sql: Plain, columns: str, state: str = "closed_at IS NULL") -> list[tuple[Any, ...]]:
    return sql.all(f"SELECT {columns} FROM dead_letters WHERE {state} ORDER BY id")


def test_malformed_messages_among_good_ones_cost_no_event_and_no_process(
    plant: Plant, sql: Plain, publish: Callable[[amqp.Message, str], None]
):
    processes = [plant.pid("worker"), *plant.children("worker")]
    each = 1_000 // len(MALFORMED) + 1
    for _ in range(each):
        add_companies(sql, 10_000 // each + 1)
        for bad, _ in MALFORMED.values():
            publish(bad, "catalog.company.updated")
    plant.drain()
    assert sql.one("SELECT count(*) FROM company_city_mapping") >= 10_000
    assert plant.violations() == []
    assert [plant.pid("worker"), *plant.children("worker")] == processes
    found = [reason for (reason,) in letters(sql, "reason")]
    assert len(found) == each * len(MALFORMED)
    unexplained = [what for what, (_, part) in MALFORMED.items() if sum(part in reason for reason in found) < each]
    assert unexplained == []


def test_a_routing_key_of_no_text_stops_nobody(plant: Plant, sql: Plain, publish: Callable[[amqp.Message, str], None]):
    publish(message(batch(type="catalog.company.\ufffd")), b"catalog.company.\xff")  # type: ignore[arg-type]
    plant.drain()
    assert letters(sql, "kind") == [("unknown_type",)]
    assert plant.runs("worker")


def test_a_date_that_no_calendar_has_stops_nobody():
    """py-amqp cannot write such a header; others can."""
    foreign.tolerate()
    table = b"\2at" + b"T" + struct.pack(">Q", 2**62)
    received: Any = amqp.Message()
    received.inbound_header(struct.pack(">HxxQH", 60, 0, 1 << 13) + struct.pack(">I", len(table)) + table)
    ((letter,),) = [read_parts(b"", "", received.headers)[1]]
    assert letter.reason.startswith("the message's AMQP properties cannot be read: ")


def test_a_letter_keeps_what_came(plant: Plant, sql: Plain, publish: Callable[[amqp.Message, str], None]):
    publish(message(b"\xff\0", "text/plain", application_headers={"from": "us", "n": 1}), "catalog.company.updated")
    plant.drain()
    ((kind, content_type, headers, payload, encoding),) = letters(
        sql, "kind, content_type, headers, payload, payload_encoding"
    )
    assert (kind, content_type, headers["from"], payload, encoding) == (
        "unreadable", "text/plain", "us", "/wA=", "base64",
    )  # fmt: skip


def test_a_key_that_fails_again_and_again_is_buried_alone_and_closed_by_its_later_patch(plant: Plant, sql: Plain):
    curse(sql, "company_city_mapping", "company_id", sql.one("SELECT nextval('companies_id_seq')") + 500)
    with plant.sql() as writer:
        cursed = add_companies(writer, 1_000)[499]
    plant.drain()
    assert letters(sql, "kind, subject, reason, attempts") == [
        ("failed", f"company/{cursed}", f"the patch of company/{cursed} fails: this row is cursed", 3)
    ]
    assert sql.column("SELECT id FROM companies WHERE id NOT IN (SELECT company_id FROM company_city_mapping)") == [
        cursed
    ]

    lift_curses(sql)
    sql.run("UPDATE companies SET name = 'again' WHERE id = %s", [cursed])
    plant.drain()
    assert letters(sql, "closed_because", "closed_at IS NOT NULL") == [
        (f"a later patch of company/{cursed} succeeded",)
    ]
    assert plant.violations() == []


def test_a_buried_key_is_applied_when_it_is_sent_again(plant: Plant, sql: Plain):
    curse(sql, "company_city_mapping", "company_id", sql.one("SELECT nextval('companies_id_seq')") + 1)
    add_companies(sql, 1)
    plant.drain()
    done = plant.command("dead-letters", "requeue", "--all", "--json")
    assert json.loads(done.stdout) == {"requeued": 1}
    plant.drain()
    assert letters(sql, "kind") == [("failed",)], "it still fails, and is buried anew"

    lift_curses(sql)
    plant.command("dead-letters", "requeue", "--kind", "failed")
    plant.drain()
    assert letters(sql, "kind") == []
    assert plant.violations() == []


def test_a_product_that_fails_holds_up_none_of_its_large_company(plant: Plant, sql: Plain):
    (company,) = add_companies(sql, 1)
    sql.run("INSERT INTO products (name, company_id) SELECT 'p', %s FROM generate_series(1, 200)", [company])
    plant.drain()
    cursed = sql.one("SELECT min(id) + 99 FROM products WHERE company_id = %s", [company])
    curse(sql, "product_city_mapping", "product_id", cursed)
    sql.run("WITH city AS (INSERT INTO cities (name) VALUES ('new') RETURNING id)"
            " UPDATE companies SET city_id = city.id FROM city WHERE companies.id = %s", [company])  # fmt: skip
    plant.drain()
    assert letters(sql, "subject") == [(f"product/{cursed}",)]
    moved = (
        "SELECT count(*) FROM product_city_mapping m JOIN companies c ON c.id = m.company_id AND c.city_id = m.city_id"
        " WHERE m.company_id = %s"
    )
    assert sql.one(moved, [company]) == 199


def test_a_message_that_the_broker_gave_up_on_is_listed(plant: Plant, sql: Plain):
    with Connection(plant.broker) as connection, closing(connection.channel()) as channel:
        lost = message(batch(), application_headers={"x-death": [{"queue": "city-cache.events", "reason": "rejected"}]})
        channel.basic_publish(lost, exchange=topology.DEAD_LETTER_EXCHANGE.name, routing_key="any")
    plant.wait_until(lambda: bool(letters(sql, "id")), 30, "the letter is listed")
    ((kind, reason),) = letters(sql, "kind, reason")
    assert (kind, reason) == ("undeliverable", "the broker gave up on it in city-cache.events: rejected")


def test_the_broker_gives_up_on_a_message_that_comes_back_too_often(broker: str, vhosts: Vhosts):
    """By the policy, which can be changed later, and not by an argument of the queue, which can not."""
    name, policy = "city-cache-events", copy.deepcopy(topology.POLICIES["city-cache-events"])
    policy["definition"]["delivery-limit"] = 5
    vhosts.request(
        "PUT", f"policies/{broker.rpartition('/')[2]}/{name}", json.dumps({"priority": 0, **policy}).encode()
    )
    with Connection(broker) as connection, closing(connection.channel()) as channel:
        topology.declare(channel)
        channel.basic_publish(message(batch()), exchange="catalog.events", routing_key="catalog.company.updated")
        deliveries = 0
        while rejected := taken(channel, topology.UPDATER.name):
            deliveries += 1
            channel.basic_reject(rejected.delivery_tag, requeue=True)
        buried = taken(channel, topology.DEAD_LETTERS.name)
    assert deliveries == policy["definition"]["delivery-limit"] + 1
    death = buried.headers["x-death"][0]
    assert (death["queue"], death["reason"]) == (topology.UPDATER.name, "delivery_limit")


def test_events_are_held_while_what_fails_is_not_theirs_and_the_worker_says_why(plant: Plant, sql: Plain):
    sql.run("ALTER TABLE task_runs ADD CONSTRAINT unforeseen CHECK (task <> 'apply_catalog_events') NOT VALID")
    add_companies(sql, 10)
    plant.wait_until(lambda: "events wait: what has been done" in plant.log("worker"), 30, "the batch fails")
    (because,) = broker.waiting(plant.broker).because
    assert because["reason"] == "every_key_fails"
    assert "unforeseen" in because["sentence"]
    sql.run("ALTER TABLE task_runs DROP CONSTRAINT unforeseen")
    plant.drain()
    assert letters(sql, "id") == []
    assert list(broker.waiting(plant.broker).because) == []
    assert plant.violations() == []
