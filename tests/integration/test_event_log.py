"""The log that is a table: what moves there, its days, and when it is the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from kombu import Connection

from backend.app.health.inspector import depths
from backend.app.ledger import retention
from backend.app.relay import event_log, process
from backend.app.settings import settings
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from events.errors import BrokerGone, LogTooShort, NoLog, NoStreams
from events.log import Logged
from events.outbox import CLAIM_LIMITS, Outbox
from events.publisher import Publisher
from tests.faults.plant import Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.waiting import until

HELD = "event_id::text, type, subject, occurred_at, before::text, after::text, traceparent"


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


@pytest.fixture
def outbox(plain: Plain) -> Iterator[Outbox]:
    """Of a relay whose log is the table."""
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into("table")
        yield outbox


def deliver(outbox: Outbox) -> None:
    """Take out all that waits, as delivered."""
    outbox.remove([row.id for row in outbox.claim(10_000)])


def read(start: Any = "first") -> list[Logged]:
    """All that a replay would be given."""
    with event_log.reading() as log:
        return list(log.read(start, log.new_marker(), mark=True))


def subjects(logged: Sequence[Logged]) -> list[str]:
    return [event.subject for one in logged for event in one.events]  # type: ignore[union-attr]


# What moves


def test_what_was_delivered_moves_as_the_outbox_held_it(plain: Plain, outbox: Outbox) -> None:
    plain.run("INSERT INTO companies (id, name) VALUES (1, 'it''s \u00e9\u2028')")
    plain.run("UPDATE companies SET name = 'x' WHERE id = 1")
    plain.run("DELETE FROM companies WHERE id = 1")
    held = plain.all(f"SELECT {HELD} FROM event_outbox ORDER BY id")
    assert len(held) == 3

    deliver(outbox)

    assert plain.all(f"SELECT {HELD} FROM event_log ORDER BY position") == held
    assert plain.one("SELECT count(*) FROM event_outbox") == 0
    assert plain.column("SELECT position FROM event_log ORDER BY position") == [0, 1, 2]
    assert set(plain.column("SELECT tableoid::regclass::text FROM event_log")) == {
        f"event_log_{datetime.now(UTC):%Y%m%d}"
    }
    assert subjects(read()) == ["company/1"] * 3


def test_what_was_not_delivered_is_not_in_the_log(plain: Plain, outbox: Outbox) -> None:
    plain.run("INSERT INTO cities (name) SELECT 'a' FROM generate_series(1, 3)")
    first, *rest = outbox.claim(10)
    outbox.remove([first.id])
    assert plain.column("SELECT subject FROM event_log") == [first.subject]
    assert plain.column("SELECT id FROM event_outbox ORDER BY id") == [row.id for row in rest]


def test_a_row_that_is_too_large_leaves_its_images_behind(plain: Plain, outbox: Outbox) -> None:
    noise = f"(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {CLAIM_LIMITS['whole'] // 16}) AS n)"
    row = f"json_build_object('name', {noise})"
    plain.run(f"INSERT INTO event_outbox (type, subject, after) VALUES ('catalog.city.created', 'city/1', {row})")
    deliver(outbox)
    assert plain.all("SELECT before IS NULL, after IS NULL, slim LIKE '%%larger%%' FROM event_log") == [
        (True, True, True)
    ]
    assert len(read()) == 1


def test_odd_rows_move_and_are_read(plain: Plain, outbox: Outbox) -> None:
    plain.run("""
        INSERT INTO event_outbox (type, subject, occurred_at) VALUES
            ('catalog.city.updated', 'city/1', 'infinity'), ('catalog.city.updated', 'city/2', '-infinity'),
            ('catalog.city.updated', 'city/3', '4000-01-01 BC'), ('catalog.x', repeat('x', 100000), now())""")
    deliver(outbox)
    assert [len(subject) for subject in subjects(read())] == [6, 6, 6, 256]


def test_no_canary_is_in_the_log(plain: Plain, outbox: Outbox) -> None:
    plain.run("INSERT INTO event_outbox (type, subject) VALUES ('citycache.canary.updated', 'canary/1')")
    plain.run("INSERT INTO cities (name) VALUES ('a'), ('b')")
    deliver(outbox)
    assert plain.column("SELECT position FROM event_log ORDER BY position") == [0, 1]
    assert plain.one("SELECT count(*) FROM event_outbox") == 0


def test_a_relay_goes_on_where_the_one_before_ended(plain: Plain) -> None:
    for _ in range(3):
        plain.run("INSERT INTO cities (name) VALUES ('a'), ('b')")
        with closing(Outbox(process.connection())) as outbox:
            outbox.log_into("table")
            deliver(outbox)
    assert plain.column("SELECT position FROM event_log ORDER BY position") == list(range(6))


def test_a_stream_s_relay_leaves_nothing_in_the_table(plain: Plain) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into("stream")
        deliver(outbox)
    assert plain.one("SELECT count(*) FROM event_outbox") + plain.one("SELECT count(*) FROM event_log") == 0


@pytest.mark.parametrize("taken", ["DELETE FROM event_outbox", "TRUNCATE event_outbox"])
def test_the_log_is_complete_from_when_rows_were_taken_past_it(plain: Plain, outbox: Outbox, taken: str) -> None:
    """By a relay of a release that knows no such log, or by hand."""
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    deliver(outbox)
    outbox.log_into("table")
    plain.run("INSERT INTO cities (name) VALUES ('b')")
    (before,) = plain.column("SELECT clock_timestamp()")

    plain.run(taken)

    with event_log.reading() as log:
        since = log.beginning().since
    assert since is not None
    assert before.timestamp() < since < plain.one("SELECT clock_timestamp()").timestamp()
    plain.run("INSERT INTO cities (name) VALUES ('c')")
    deliver(outbox)
    with event_log.reading() as log:
        assert log.beginning().since == since


def test_rows_that_are_taken_out_for_a_stream_are_no_gap(plain: Plain) -> None:
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into("stream")
        plain.run("INSERT INTO cities (name) VALUES ('a')")
        deliver(outbox)
    assert plain.one("SELECT since FROM event_log_source") is None


def test_a_relay_that_may_not_write_the_log_publishes_nothing(plain: Plain) -> None:
    with closing(Outbox(process.connection())) as outbox:
        plain.run("CREATE ROLE nobody_of_log")
        plain.run("GRANT SELECT, DELETE ON event_outbox TO nobody_of_log")
        try:
            outbox._run("SET ROLE nobody_of_log", {})
            with pytest.raises(NoLog, match="citycache migrate --roles"):
                outbox.log_into("table")
        finally:
            plain.run("DROP OWNED BY nobody_of_log; DROP ROLE nobody_of_log")


# Days


def test_rows_of_a_day_without_a_partition_go_into_the_default_one(
    plain: Plain, outbox: Outbox, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    with Plain(database, autocommit=False) as dump:
        dump.run("LOCK TABLE event_log IN ACCESS SHARE MODE")  # as a long dump does
        deliver(outbox)
    assert plain.column("SELECT tableoid::regclass::text FROM event_log") == ["event_log_default"]
    assert "2 days of event_log have no partition yet" in caplog.text

    outbox._days_at = 0.0
    plain.run("INSERT INTO cities (name) VALUES ('b')")
    deliver(outbox)

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert plain.one("SELECT to_regclass(%s) IS NOT NULL", (f"event_log_{tomorrow:%Y%m%d}",)), "no row lies in its way"
    assert subjects(read()) == plain.column("SELECT 'city/' || id FROM cities ORDER BY id")


def day(plain: Plain, ago: int) -> str:
    """A partition of its own for the day so long ago; its name."""
    at = datetime.now(UTC) - timedelta(days=ago)
    name, bounds = f"event_log_{at:%Y%m%d}", (f"{at:%Y-%m-%d}Z", f"{at + timedelta(days=1):%Y-%m-%d}Z")
    plain.run(f"CREATE TABLE {name} PARTITION OF event_log FOR VALUES FROM (%s) TO (%s)", bounds)
    return name


def test_days_that_are_over_are_dropped_and_younger_ones_stay(plain: Plain, outbox: Outbox) -> None:
    names = [day(plain, ago) for ago in (9, 8, 7)]
    plain.run("INSERT INTO cities (name) SELECT 'a' FROM generate_series(1, 100)")
    deliver(outbox)
    plain.run(
        "UPDATE event_log SET published_at = published_at - (9 - position / 20) * interval '1 day' WHERE position < 60"
    )

    assert retention.prune("worker")["event_log"] == 2

    assert [bool(plain.one("SELECT to_regclass(%s)", (name,))) for name in names] == [False, False, True]
    assert plain.one("SELECT min(position) FROM event_log") == 40
    began = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=7)
    with event_log.reading() as log:
        beginning = log.beginning()
        assert (beginning.offset, beginning.since) == (40, began.timestamp())
        with pytest.raises(LogTooShort, match="begins at offset 40; offset 39"):
            list(log.read(39, log.new_marker()))
    assert len(read(40)) == 60


def test_positions_go_on_after_all_was_dropped(plain: Plain, outbox: Outbox) -> None:
    day(plain, 20)
    plain.run("INSERT INTO cities (name) SELECT 'a' FROM generate_series(1, 10)")
    deliver(outbox)
    plain.run("UPDATE event_log SET published_at = published_at - interval '20 days'")
    assert retention.prune("worker")["event_log"] == 1
    assert read() == []
    with event_log.reading() as log:
        assert (log.beginning().offset, log.end()) == (10, 9)

    outbox.log_into("table")
    plain.run("INSERT INTO cities (name) VALUES ('b')")
    deliver(outbox)
    assert [one.offset for one in read()] == [10]


def test_dropping_waits_for_no_reader(plain: Plain, outbox: Outbox, database: str) -> None:
    name = day(plain, 9)
    with Plain(database, autocommit=False) as dump:
        dump.run("LOCK TABLE event_log IN ACCESS SHARE MODE")
        assert retention.prune("worker")["event_log"] == 0
        plain.run("INSERT INTO cities (name) VALUES ('a')")
        deliver(outbox)
    assert retention.prune("worker")["event_log"] == 1
    assert plain.one("SELECT to_regclass(%s)", (name,)) is None


# Which log it is


def test_a_log_that_began_later_refuses_what_lies_before(plain: Plain) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into("stream")
        deliver(outbox)
        outbox.log_into("table", "ACCESS_REFUSED")
        outbox.log_into("table", "ACCESS_REFUSED")
    at = plain.one("SELECT since FROM event_log_source")
    chosen = event_log.chosen(settings().database_url)
    assert (chosen.source, chosen.since, chosen.reason) == ("table", at, "ACCESS_REFUSED")
    with event_log.reading() as log:
        assert log.beginning().since == at.timestamp()


def test_a_table_that_has_had_every_event_refuses_nothing(plain: Plain, outbox: Outbox) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    deliver(outbox)
    with event_log.reading() as log:
        assert log.beginning().since is None


def test_a_table_that_came_after_events_had_left_begins_now(plain: Plain) -> None:
    plain.run("INSERT INTO cities (name) VALUES ('a')")
    plain.run("DELETE FROM event_outbox")
    plain.run("INSERT INTO cities (name) VALUES ('b')")
    with closing(Outbox(process.connection())) as outbox:
        outbox.log_into("table")
    with event_log.reading() as log:
        assert log.beginning().since is not None


# A broker that takes no stream


@contextmanager
def without(queue: str, broker: str, vhosts: Vhosts) -> Iterator[str]:
    """The URL of a user who may declare everything but this queue."""
    vhost, user = urlsplit(broker).path.lstrip("/"), "limited"
    vhosts.request("PUT", f"users/{user}", json.dumps({"password": "p", "tags": ""}).encode())
    rights = {"configure": f"^(?!{re.escape(queue)}$).*", "write": ".*", "read": ".*"}
    vhosts.request("PUT", f"permissions/{vhost}/{user}", json.dumps(rights).encode())
    yield f"amqp://{user}:p@127.0.0.1:{vhosts.node.port}/{quote(vhost, safe='')}"
    vhosts.request("DELETE", f"users/{user}")


@pytest.fixture
def forbidden(broker: str, vhosts: Vhosts) -> Iterator[str]:
    with without(topology.LOG_NAME, broker, vhosts) as url:
        yield url


def test_where_streams_are_forbidden_the_table_is_the_log(forbidden: str) -> None:
    with closing(Publisher(forbidden)) as publisher:
        assert publisher.log == "table"
        assert "catalog.events.log" in (publisher.no_stream or "")
    with pytest.raises(NoStreams, match=r"set EVENT_LOG=table, or auto"):
        Publisher(forbidden, wanted="stream")
    with closing(Publisher(forbidden, wanted="table")) as publisher:
        assert (publisher.log, publisher.no_stream) == ("table", None)


def test_a_system_on_such_a_broker_replays_and_says_which_log_it_has(
    database: str, forbidden: str, broker: str, tmp_path: Path
) -> None:
    plant = Plant(database, broker, tmp_path, broker_through=forbidden, OBSERVER="false")
    with plant:
        plant.started(["relay", "worker"])
        with plant.sql() as sql:
            plant.stop(["worker"])
            sql.run("INSERT INTO companies (name, city_id) SELECT 'a', id FROM cities")
            until(lambda: plant.lag()["outbox_rows"] == 0, 20, "it is published")
        with Connection(broker) as connection:
            channel: Any = connection.channel()
            assert channel.queue_purge(topology.UPDATER.name) == 1
        plant.start(["worker"])
        plant.drain()
        assert plant.violations() != []
        done = plant.command("replay", "--json")
        assert (done.returncode, json.loads(done.stdout)["events"]) == (0, 2), done.stderr
        plant.drain()
        assert plant.violations() == []

        plant.kill("relay")
        plant.start(["relay"])
        plant.wait_until(lambda: "relay leads" in plant.log("relay"), 20)
        assert plant.log("relay").count("the log of events is the table") == 1, "it is said once"
        log = json.loads(plant.command("status", "--json").stdout)["log"]
        assert (log["source"], log["since"]) == ("table", None)
        assert "catalog.events.log" in log["reason"]


def test_a_broker_that_takes_no_quorum_queue_is_told_plainly(
    broker: str, vhosts: Vhosts, caplog: pytest.LogCaptureFixture
) -> None:
    with without(topology.UPDATER.name, broker, vhosts) as url, pytest.raises(BrokerGone):
        Publisher(url)
    assert f"the broker takes no quorum queue {topology.UPDATER.name}, which is needed: ACCESS_REFUSED" in caplog.text


def test_where_the_broker_s_streams_are_switched_off_the_table_is_the_log(tmp_path: Path) -> None:
    node = RabbitMQ(tmp_path / "rabbitmq")
    node.data_dir.mkdir()
    (node.data_dir / "rabbitmq-env.conf").write_text("FEATURE_FLAGS=quorum_queue,implicit_default_bindings\n")
    node.start()
    try:
        if "stream_queue\tenabled" in node.ctl("list_feature_flags", "name", "state"):
            pytest.skip("streams cannot be left out of this release any more")
        with closing(Publisher(node.url)) as publisher:
            assert publisher.log == "table"
            assert publisher.no_stream
    finally:
        node.kill()


# Kills


@pytest.fixture
def plant(databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), EVENT_LOG="table") as plant:
        yield plant


def test_what_was_published_and_not_moved_is_published_again_and_in_the_log_once(plant: Plant) -> None:
    plant.start(["relay"])
    plant.wait_until(lambda: "relay leads" in plant.log("relay"), 20)
    with plant.sql() as sql, Plain(plant.database, autocommit=False) as blocker:
        blocker.run("LOCK TABLE event_log IN SHARE MODE")
        sql.run("INSERT INTO cities (name) VALUES ('a')")
        until(lambda: waiting(plant) == 1, 20, "it is published")
        relay = "application_name = 'citycache relay'"
        until(lambda: sql.one(f"SELECT count(*) FROM pg_stat_activity WHERE {relay} AND wait_event_type = 'Lock'"))
        plant.kill("relay")
        sql.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {relay}")
        assert (sql.one("SELECT count(*) FROM event_outbox"), sql.one("SELECT count(*) FROM event_log")) == (1, 0)
        blocker.rollback()
        plant.start(["relay"])
        until(lambda: sql.one("SELECT count(*) FROM event_outbox") == 0, 20, "it has moved")
        assert waiting(plant) == 2, "at least once"
        assert sql.column("SELECT subject FROM event_log") == sql.column("SELECT 'city/' || id FROM cities")


def waiting(plant: Plant) -> int:
    return depths(topology.UPDATER.name, url=plant.broker)[topology.UPDATER.name] or 0


def test_every_event_is_in_the_log_once_however_often_the_relay_is_killed(plant: Plant) -> None:
    plant.start(["relay", "worker"])
    with plant.sql() as sql:
        with plant.writing("INSERT INTO cities (name) SELECT 'c' FROM generate_series(1, %s)", 20, 0.02):
            for _ in range(6):
                moved = sql.one("SELECT count(*) FROM event_log")
                plant.wait_until(lambda moved=moved: sql.one("SELECT count(*) FROM event_log") > moved, 30)  # type: ignore[misc]
                plant.kill("relay")
                plant.start(["relay"])
        plant.drain()
        assert sorted(sql.column("SELECT subject FROM event_log")) == sorted(
            sql.column("SELECT 'city/' || id FROM cities")
        )
        assert sql.column("SELECT position FROM event_log ORDER BY position") == list(
            range(sql.one("SELECT count(*) FROM cities"))
        )
    assert plant.violations() == []
