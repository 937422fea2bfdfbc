"""A log of events that reaches back less far than promised is an incident, and one that nobody can read is not well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from backend.app.errors import BrokerAway
from backend.app.health import inspector, reach
from backend.app.relay import process
from backend.embedded.rabbitmq import RabbitMQ
from events import stream as stream_log
from events import topology
from events.outbox import Outbox
from events.stream import GLIMPSE, StreamLog
from tests.conftest import configured_as
from tests.faults.plant import plant_on
from tests.plain import Plain
from tests.scraping import scrape, value
from tests.servers import Databases, Vhosts
from tests.verdicts import kinds, part, verdict
from tests.waiting import until

OBSERVED = """
    INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)
    VALUES (now() - %s::interval, 5, 1, 1, %s, %s, '{}')"""


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


def fill(source: Any) -> None:
    """A relay leads, and takes out all that waits."""
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into(source)
        outbox.remove([row.id for row in outbox.claim(10_000)])


# The table


def test_a_table_that_has_all_that_was_applied_is_well(plain: Plain) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    fill("table")
    plain.run(OBSERVED, ["0 seconds", 1, 1])
    plain.run(OBSERVED, ["3 days", 9, 0])  # of canaries, which are in no log
    plain.run(OBSERVED, ["9 days", 9, 9])  # of events that nobody has promised to keep
    assert reach.look() == reach.Reach("table")
    assert kinds("log") == set()


def test_a_table_that_was_pruned_early_is_short(plain: Plain) -> None:
    fill("table")
    plain.run(
        "INSERT INTO event_log (position, published_at, event_id, type, subject, occurred_at)"
        " SELECT n, now() - interval '3 days', gen_random_uuid(), 'catalog.city.created', 'city/1', now()"
        " FROM generate_series(0, 9) AS n"
    )
    assert kinds("log") == set()
    plain.run("SELECT forget_events(86400, 100)")
    assert kinds("log") == {"log_short"}


def test_a_table_that_was_emptied_is_short_until_less_is_promised(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    fill("table")
    plain.run(OBSERVED, ["1 hour", 1, 1])
    plain.run("DELETE FROM event_log")
    assert kinds("log") == {"log_short"}
    with configured_as(monkeypatch, EVENT_LOG_DAYS="0.02"):
        assert kinds("log") == set()


# The stream


@pytest.fixture
def stream(plain: Plain, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a broker; the stream is said to be the log, and is not made yet."""
    with configured_as(monkeypatch, CELERY_BROKER_URL=broker):
        fill("stream")
        yield broker


SHORT = (("x-max-length-bytes", 100_000), ("x-stream-max-segment-size-bytes", 20_000))


def publish(broker: str, *arguments: tuple[str, Any], messages: int = 1, hours: float = 0) -> None:
    """Events that are so many hours old, into a stream that is made with these arguments if there is none."""
    at = datetime.now(UTC) - timedelta(hours=hours)
    event = {"specversion": "1.0", "id": "1", "type": "catalog.city.created", "source": "test", "subject": "city/1"}
    with Connection(broker) as connection:
        producer, queue = connection.Producer(), topology.LOG.bind(connection.channel())
        queue.queue_arguments = {"x-queue-type": "stream", **dict(arguments)}
        queue.exchange.declare()
        queue.declare()
        for _ in range(messages):
            body = json.dumps([event | {"time": at.isoformat(), "data": {"filler": "x" * 2_000}}])
            producer.publish(body, routing_key=topology.LOG_NAME, content_type="application/cloudevents-batch+json")


def delete(broker: str) -> None:
    with Connection(broker) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(topology.LOG_NAME)


def test_a_stream_is_well_until_it_is_made_anew(plain: Plain, stream: str) -> None:
    publish(stream, hours=2)
    plain.run(OBSERVED, ["1 hour", 1, 1])
    assert reach.look() == reach.Reach("stream"), "its event is older than that, whatever the broker counts yet"
    assert kinds("log") == set()

    delete(stream)
    assert kinds("log") == {"log_unreadable"}
    assert verdict().state("log") == "bad"
    publish(stream, messages=0)
    assert kinds("log") == {"log_short"}


def test_a_stream_that_keeps_less_than_promised_is_short(plain: Plain, stream: str) -> None:
    """What comes at once may be one chunk to the broker, in a segment that it goes on with: it drops whole ones."""
    publish(stream, *SHORT)
    assert kinds("log") == set()

    def is_short() -> bool:
        publish(stream, *SHORT, messages=40)
        return kinds("log") == {"log_short"}

    until(is_short, 20, "it has dropped the first of them")


def test_a_stream_that_begins_with_markers_of_readings_is_read_on_past_them(
    plain: Plain, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stream, messages=0)
    with closing(StreamLog(stream, makes=False)) as log:
        for _ in range(2 * GLIMPSE):
            log.beginning()
    publish(stream, hours=2)
    plain.run(OBSERVED, ["1 hour", 1, 1])
    assert reach.look() == reach.Reach("stream"), "its event is older than that, whatever the broker counts yet"

    monkeypatch.setattr(stream_log, "MOST_MARKERS", GLIMPSE)
    assert verdict().state("log") == "unknown", "whether an event comes behind them was not seen"


def test_a_broker_that_has_just_started_has_not_lost_the_log(
    plain: Plain, own_rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured_as(monkeypatch, CELERY_BROKER_URL=own_rabbitmq.url):
        fill("stream")
        publish(own_rabbitmq.url, hours=2)
        plain.run(OBSERVED, ["1 hour", 1, 1])
        until(lambda: counted(own_rabbitmq.url) == 1, 20, "the broker counts it")
        own_rabbitmq.kill()
        own_rabbitmq.start()
        until(reached, 60, "the broker reaches it")
        until(lambda: seen() == reach.Reach("stream"), 60, "it is there")


def counted(broker: str) -> int:
    """How many messages the broker says that the log has."""
    with Connection(broker) as connection:
        channel: Any = connection.channel()
        return int(channel.queue_declare(topology.LOG_NAME, passive=True).message_count)


def reached() -> bool:
    """Whether the broker reaches the stream, of which it never says that it does not exist."""
    try:
        found = inspector.depths(topology.LOG_NAME)
    except BrokerAway:
        return False
    assert found[topology.LOG_NAME] is not None
    return True


def seen() -> reach.Reach:
    """What a look found; nothing while the broker cannot reach the log, and never that there is none or too little."""
    try:
        found = reach.look()
    except BrokerAway as failure:
        if "any more" in str(failure):
            raise
        return reach.Reach(None)
    assert found.short_since is None
    return found


def test_looking_at_the_log_makes_and_writes_nothing(plain: Plain, stream: str) -> None:
    assert kinds("log") == {"log_unreadable"}
    publish(stream)
    assert kinds("log") == set()
    publish(stream)
    assert offsets(stream, 2) == [0, 1], "nothing stands between them"


def offsets(broker: str, messages: int) -> list[int]:
    """Where so many messages of the stream stand."""
    found: list[int] = []
    with Connection(broker) as connection:
        channel: Any = connection.channel()
        channel.basic_qos(0, 10, False)
        start = {"x-stream-offset": "first"}
        channel.basic_consume(
            topology.LOG_NAME,
            arguments=start,
            callback=lambda message: found.append(message.headers["x-stream-offset"]),
        )
        while len(found) < messages:
            connection.drain_events(timeout=10)
    return found


# Everything


def test_a_short_log_is_said_by_health_incidents_and_metrics(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with (
        plant_on(databases, vhosts, tmp_path, OBSERVER="true", FRESHNESS_TARGET_MS="3600000") as plant,
        plant.sql() as sql,
    ):
        sql.run(OBSERVED, ["1 hour", 1, 1])
        plant.started()
        until(lambda: "promises 7 days" in said_of_log(plant.get("/health/ready")), 40, "health says so")
        assert plant.get("/health/ready")["status"] == "degraded"
        assert sql.column("SELECT kind FROM incidents WHERE ended_at IS NULL AND kind LIKE 'log%%'") == ["log_short"]
        assert "promises 7 days" in said_of_log(json.loads(plant.command("status", "--json").stdout)["health"])
        assert value(scrape(f"{plant.api_url}/metrics"), "citycache_incident_open", kind="log_short") == 1


def said_of_log(health: dict[str, Any]) -> str:
    """What is wrong with it, else how it is."""
    log = part(health, "log")
    return str(log["effect"] or log["state"])
