"""Replay: what the worker never saw, and what a restored backup has forgotten, comes back from either log."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import amqp
import pytest
from kombu import Connection, Queue

from backend.app.errors import Refused, Unprocessable
from backend.app.ledger import retention
from backend.app.relay import process
from backend.app.settings import settings
from backend.app.tasks import replay as tasks
from backend.embedded import spawn
from backend.embedded.postgres import find_binaries
from events import contract, topology
from events.errors import LogTooShort
from events.outbox import Outbox, Row
from events.publisher import Publisher
from tests import catalogs, oracle
from tests.background import background
from tests.faults.plant import Plant, plant_on
from tests.faults.proxy import Proxy
from tests.plain import Plain, dsn, snapshot
from tests.servers import ROOT, Databases, Vhosts

CACHES = ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache")
CATALOG = """
    WITH city AS (INSERT INTO cities (name) SELECT 'city ' || n FROM generate_series(1, 20) AS n RETURNING id),
         numbered AS (SELECT id, row_number() OVER () AS n, count(*) OVER () AS all_of_them FROM city)
    INSERT INTO companies (name, city_id)
    SELECT 'company ' || n, (SELECT id FROM numbered WHERE numbered.n = 1 + series.n % all_of_them)
      FROM generate_series(1, 500) AS series (n), (SELECT DISTINCT all_of_them FROM numbered) AS cities"""
PRODUCTS = """
    INSERT INTO products (name, company_id, kind)
    SELECT 'p', (SELECT min(id) FROM companies) + n %% 500, CASE n %% 5 WHEN 0 THEN 'service' ELSE 'product' END
      FROM generate_series(1, %s) AS n"""
MOVE = """
    UPDATE products SET company_id = (SELECT min(id) FROM companies) + floor(random() * 490)::bigint
     WHERE id IN (SELECT id FROM products ORDER BY id LIMIT %s OFFSET %s)"""


BOTH = ("stream", "table")  # where the log is


@pytest.fixture(scope="module", params=BOTH)
def plant(
    request: pytest.FixtureRequest, databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plant]:
    """A running pipeline over 500 companies with 10,000 products."""
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), EVENT_LOG=request.param) as plant:
        plant.started(["relay", "worker", "api"])
        with plant.sql() as sql:
            sql.run(CATALOG)
            sql.run(PRODUCTS, [10_100])
        plant.drain()
        yield plant


@pytest.fixture
def sql(plant: Plant) -> Iterator[Plain]:
    with plant.sql() as plain:
        yield plain
    plant.drain()
    assert plant.violations() == []


@contextmanager
def stopped_worker(plant: Plant) -> Iterator[None]:
    plant.stop(["worker"])
    try:
        yield
    finally:
        plant.start(["worker"])


def now(sql: Plain) -> str:
    return str(sql.one("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"))


def replay(plant: Plant, *options: str) -> dict[str, Any]:
    done = plant.command("replay", "--json", *options)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def purge(plant: Plant) -> int:
    """Empty the updater's queue once all that was written is in it; the number of messages."""
    plant.wait_until(lambda: plant.lag()["outbox_rows"] == 0, 30, "all events are published")
    with Connection(plant.broker) as connection, closing(connection.channel()) as channel:
        return int(channel.queue_purge("city-cache.events"))


def verify(plant: Plant) -> tuple[int, dict[str, dict[str, Any]]]:
    done = plant.command("verify", "--json")
    return done.returncode, {table["table"]: table for table in json.loads(done.stdout)["tables"]}


def patched(sql: Plain, since: str) -> set[int]:
    """Products whose mapping was written since then."""
    found = "SELECT product_id FROM product_city_mapping m JOIN patches p ON p.id = m.patch_id WHERE p.patched_at >= %s"
    return set(sql.column(found, [since]))


def test_mends_exactly_what_a_purged_queue_held(plant: Plant, sql: Plain):
    since = now(sql)
    with stopped_worker(plant):
        sql.run(MOVE, [10_100, 0])
        assert purge(plant) * contract.MOST_EVENTS >= 10_000
        code, tables = verify(plant)
        assert code == 1
        wrong = tables["product_city_mapping"]["different"]
        assert wrong > 9_000

        dry = replay(plant, "--since", since, "--dry-run")
        assert dry["would_change"]["product_city_mapping"] == wrong
        assert verify(plant)[1] == tables, "a dry run writes nothing"

        before = now(sql)
        done = replay(plant, "--since", since)
        assert done["events"] >= 10_000
        assert done["rows_changed"] == wrong
        assert {row["key"] for row in dry["rows"]} <= patched(sql, before)
        assert len(patched(sql, before)) == wrong
        assert verify(plant)[0] == 0


def test_brings_a_restored_backup_to_the_present_without_a_rebuild(plant: Plant, sql: Plain, tmp_path: Path):
    dump = tmp_path / "caches.sql"
    pg_dump = shutil.which("pg_dump", path=str(find_binaries())) or "pg_dump"
    tables = [option for table in CACHES for option in ("--table", table)]
    subprocess.run([pg_dump, "--data-only", *tables, "--file", dump, dsn(plant.database)], check=True, timeout=60)
    since = now(sql)
    sql.run(MOVE, [5_000, 2_500])
    sql.run("DELETE FROM companies WHERE id IN (SELECT id FROM companies ORDER BY id LIMIT 10)")
    sql.run("UPDATE companies SET is_active = false WHERE id IN (SELECT id FROM companies ORDER BY id LIMIT 10)")
    plant.drain()

    sql.run(f"TRUNCATE {', '.join(CACHES)}")
    psql = shutil.which("psql", path=str(find_binaries())) or "psql"
    subprocess.run(
        [psql, "-qX", "-v", "ON_ERROR_STOP=1", "-f", dump, dsn(plant.database)],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    assert plant.violations() != []

    done = replay(plant, "--since", since)
    assert done["keys"] > 5_000
    assert plant.violations() == []


def test_goes_on_at_its_offset_after_it_was_killed(plant: Plant, sql: Plain, tmp_path: Path):
    fill_log(plant, sql)
    process = slow_replay(tmp_path / "replay.log", plant.environment)
    plant.wait_until(lambda: bool(under_way(sql)), 60, "a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    ((task_id, offset, events),) = under_way(sql)
    done = replay(plant, "--resume", task_id)
    assert done["task_id"] == task_id
    assert done["last_offset"] > offset
    assert done["events"] > events, "it counts on from where it was"
    assert replay(plant)["events"] == done["events"], "no event was read twice or left out"


def test_goes_on_when_the_log_is_back(plant: Plant, sql: Plain, vhosts: Vhosts, databases: Databases, tmp_path: Path):
    fill_log(plant, sql)
    log, is_table = tmp_path / "replay.log", plant.environment["EVENT_LOG"] == "table"
    port = databases.server.port if is_table else vhosts.node.port
    name, url = ("DATABASE_URL", plant.database) if is_table else ("CELERY_BROKER_URL", plant.broker)
    assert port is not None
    with Proxy(port) as proxy:
        process = slow_replay(log, {**plant.environment, name: proxy.url(url)})
        plant.wait_until(lambda: bool(under_way(sql)), 60, "a checkpoint")
        assert proxy.reset() > 0
        assert process.wait(60) == 0, spawn.tail(log)
    assert ("tried again" if is_table else "a replay waits") in log.read_text()
    done = json.loads(log.read_text().splitlines()[-1])
    assert done["events"] == replay(plant)["events"]


def fill_log(plant: Plant, sql: Plain) -> None:
    """Enough messages for a replay that can be caught in its middle."""
    sql.run("UPDATE products SET name = name || '.'")
    sql.run("UPDATE products SET name = name || '.'")
    plant.drain()


def slow_replay(log: Path, environment: dict[str, str]) -> spawn.Process:
    """`citycache replay`, less than 100 messages of the stream a second, or 10,000 rows of the table."""
    code = (
        "import time; from events import table; from events.stream import StreamLog\n"
        "wait, logged, table.PAGE = StreamLog._await, table._logged, 500\n"
        "def slowly(*given): time.sleep(0.01); wait(*given)\n"
        "def slowly_logged(*row): time.sleep(0.0001); return logged(*row)\n"
        "StreamLog._await, table._logged = slowly, slowly_logged\n"
        "from backend.app.cli import main; main(['replay', '--json'])"
    )
    return spawn.spawn([sys.executable, "-c", code], log=log, env=environment, cwd=ROOT)


def under_way(sql: Plain) -> list[tuple[str, int, int]]:
    """Run, next offset and number of events of replays that have begun and not ended."""
    found = (
        "SELECT task_id::text, next_offset, events FROM replays JOIN task_runs USING (task_id)"
        " WHERE state = 'STARTED' AND next_offset IS NOT NULL"
    )
    return sql.all(found)


@pytest.mark.parametrize("option", [("--from-offset", "1000000000"), ("--since", "2999-01-01T00:00:00Z")])
def test_finds_nothing_beyond_the_end(plant: Plant, sql: Plain, option: tuple[str, str]):
    done = replay(plant, *option)
    assert (done["events"], done["first_offset"], done["rows_changed"]) == (0, None, 0)


@pytest.mark.parametrize("plant", ["stream"], indirect=True)
def test_reads_past_messages_that_no_reader_understands(plant: Plant, sql: Plain):
    since = now(sql)
    event = {"id": "1", "type": "catalog.city.updated", "source": "/", "subject": "city/1", "specversion": "1.0",
             "data": {"before": None, "after": None}}  # fmt: skip
    with Connection(plant.broker) as connection, closing(connection.channel()) as channel:
        for body, content_type in [
            (b"[" * 10_000, contract.BATCH),
            (b"", b"\xff\xfe"),
            (json.dumps([event | {"time": "yesterday"}]), contract.BATCH),
            (json.dumps([event | {"time": "2026-01-01T00:00:00"}]), contract.BATCH),
        ]:
            message: Any = amqp.Message(body, content_type=content_type, delivery_mode=2)
            channel.basic_publish(message, exchange="catalog.events", routing_key="catalog.city.updated")
    plant.drain()
    assert replay(plant, "--since", since, "--until", "2999-01-01T00:00:00Z")["events"] == 0
    assert replay(plant)["events"] > 10_000


def test_keeps_the_caches_right_beside_live_traffic_and_a_rebuild(plant: Plant, sql: Plain):
    contradictions = list[str]()

    def write(stop: threading.Event) -> None:
        with plant.sql() as writer:
            for part in itertools.count():
                if stop.wait(0.01):
                    return
                writer.run(MOVE, [200, part * 200 % 10_000])

    def look(stop: threading.Event) -> None:
        while not stop.wait(0.05):
            with snapshot(plant.database) as reader:
                contradictions.extend(oracle.snapshot_violations(reader))

    with background(write), background(look):
        plant.post("celery/tasks/refresh-all-caches")
        done = replay(plant)
        plant.post("celery/tasks/refresh-all-caches")
        replay(plant, "--since", "2020-01-01T00:00:00Z")
    assert done["events"] > 10_000
    assert contradictions == []
    plant.wait_until(lambda: not sql.one("SELECT count(*) FROM task_runs WHERE state = 'STARTED'"), 60, "rebuilds end")


@pytest.fixture(params=BOTH)
def source(request: pytest.FixtureRequest, configured: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the log of this process's settings is."""
    monkeypatch.setenv("EVENT_LOG", request.param)
    settings.cache_clear()
    return str(request.param)


def deliver(rows: Sequence[Row]) -> None:
    """As the relay delivers them."""
    with closing(Publisher(settings().celery_broker_url, wanted=settings().event_log)) as publisher:
        assert len(publisher.deliver(rows)) == len(rows)
        if publisher.log == "table":
            move(rows)


def move(rows: Sequence[Row]) -> None:
    """Put these events into the outbox, and take them out as delivered."""
    insert = "INSERT INTO event_outbox (event_id, type, subject, occurred_at, after) VALUES (%s, %s, %s, %s, %s)"
    with closing(Outbox(process.connection())) as outbox, Plain(settings().database_url) as plain:
        plain.run("DELETE FROM event_outbox")
        for row in rows:
            plain.run(insert, (row.event_id, row.type, row.subject, row.time, row.after))
        outbox.log_into("table")
        outbox.remove([row.id for row in outbox.claim(len(rows))])


@pytest.fixture
def short_log(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that has dropped its oldest events."""
    rows = [
        Row(
            row_id, str(uuid4()), "catalog.city.created", f"city/{row_id}",
            f"2026-01-01T00:{row_id // 60:02}:{row_id % 60:02}Z", None,
            json.dumps({"id": row_id, "name": "x" * 500}), None,
        )
        for row_id in range(400)
    ]  # fmt: skip
    if source == "stream":
        _shorten_the_stream(rows, monkeypatch)
    else:
        deliver(rows)
        with Plain(settings().database_url) as plain:
            plain.run("UPDATE event_log SET published_at = published_at - interval '9 days' WHERE position < 200")
        assert retention.prune("worker")["event_log"] == 200


def _shorten_the_stream(rows: Sequence[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops its oldest events after some kilobytes; the real one counts in segments of 50 MB."""
    tiny = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 20_000, "x-max-length-bytes": 60_000}
    log = Queue(topology.LOG_NAME, topology.EVENTS, routing_key="catalog.#", durable=True, queue_arguments=tiny)
    monkeypatch.setattr(topology, "LOG", log)
    with closing(Publisher(settings().celery_broker_url)) as publisher:
        for row in rows:
            publisher.deliver([row])


def run_replay(**arguments: Any) -> dict[str, Any]:
    return tasks.replay(tasks.ReplayRange.parse(**arguments), str(uuid4()), lambda state: None)


@pytest.mark.parametrize("asked", [{"from_offset": 0}, {"since": "2026-01-01T00:00:01Z"}])
def test_says_what_the_log_still_has_when_asked_for_more(short_log: None, asked: dict[str, Any]):
    with pytest.raises(
        LogTooShort, match=r"the log begins at offset \d+, with an event of 2026-01-01T00:0\d"
    ) as refused:
        run_replay(**asked)
    first = int(str(refused.value).split("offset ")[1].split(",")[0])
    assert first > 0
    assert run_replay(from_offset=first)["first_offset"] == first


@pytest.mark.parametrize("asked", [{}, {"from_offset": 0}, {"since": "2026-01-01T00:00:00Z"}])
def test_an_empty_log_holds_nothing(source: str, asked: dict[str, Any]):
    assert run_replay(**asked)["events"] == 0


OFTEN = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:00", "1960-01-01T00:00:00-12:00"]
NEVER = ["9999-12-31T23:59:59Z", "2999-01-01T00:00:00+14:00", "2106-02-07T06:28:16Z"]
NOWHERE = ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "0001-01-01T13:00:00+14:00"]


def publish(*subjects: str) -> None:
    """An event of each."""
    at = "2026-01-01T00:00:00Z"
    kinds = [(f"catalog.{subject.partition('/')[0]}.updated", subject) for subject in subjects]
    rows = [Row(n, str(uuid4()), kind, subject, at, None, None, None) for n, (kind, subject) in enumerate(kinds)]
    deliver(rows)


@pytest.mark.parametrize("markers", [0, 3])
def test_a_log_that_begins_with_markers_is_whole(source: str, markers: int):
    for _ in range(markers):
        assert run_replay(dry_run=True)["events"] == 0  # each leaves its markers
    publish("city/1", "city/2")
    for since in OFTEN:
        assert run_replay(since=since)["events"] == 2, since
    for since in NEVER:
        assert run_replay(since=since)["events"] == 0, since
    for until in OFTEN:
        assert run_replay(until=until)["events"] == 0, until
    for until in NEVER:
        assert run_replay(until=until)["events"] == 2, until
    assert run_replay(from_offset=0)["events"] == 2
    for offset in (10**6, 2**31, 2**53, 2**63 - 1):
        assert run_replay(from_offset=offset)["events"] == 0, offset


@pytest.mark.parametrize("since", OFTEN)
def test_a_log_that_has_dropped_its_beginning_refuses_all_that_lies_before(short_log: None, since: str):
    with pytest.raises(LogTooShort, match="lies before that"):
        run_replay(since=since)


@pytest.mark.parametrize("asked", [{name: text} for name in ("since", "until") for text in NOWHERE])
def test_an_instant_that_no_calendar_in_utc_has_is_refused_before_it_is_queued(configured: None, asked: dict[str, Any]):
    with pytest.raises(Unprocessable, match="lies beyond the years 1 to 9999"):
        tasks.ReplayRange.parse(**asked)


@pytest.fixture
def forgotten(source: str, database: str) -> Iterator[Plain]:
    """5 cities, 20 companies, 200 products, of which the caches know nothing; events of each of them, twice."""
    with Plain(database) as plain:
        catalogs.many(plain, cities=5, companies=20, products=200)
        catalogs.no_events(plain)
        for _ in range(2):
            publish(*(f"product/{n}" for n in range(1, 101)), *(f"company/{n}" for n in range(1, 21)), "city/1")
        yield plain


ALL = {"product_city_mapping": 200, "company_city_mapping": 20, "city_counts": 5}


@pytest.mark.parametrize(("most", "part"), [(200_000, 50_000), (30, 50_000), (30, 7), (1, 1)])
def test_a_dry_run_holds_few_keys_and_counts_each_once(
    forgotten: Plain, monkeypatch: pytest.MonkeyPatch, most: int, part: int
):
    monkeypatch.setattr(tasks, "MOST_KEYS", most)
    monkeypatch.setattr(tasks, "PART_KEYS", part)
    monkeypatch.setattr("events.contract.MOST_EVENTS", 20)
    monkeypatch.setattr("events.table.PAGE", 20)
    done = run_replay(dry_run=True)
    assert (done["events"], done["keys"], done["would_change"]) == (242, 121, ALL)
    assert len(done["rows"]) == 100
    assert forgotten.one("SELECT count(*) FROM replay_keys") == 0
    assert forgotten.one("SELECT count(*) FROM product_city_mapping") == 0


def test_a_dry_run_that_was_killed_goes_on_and_counts_each_key_once(forgotten: Plain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks, "MOST_KEYS", 30)
    run, spilled = str(uuid4()), tasks._Replaying._spill

    def spill_and_die(self: Any) -> None:
        spilled(self)
        raise KeyboardInterrupt

    request = tasks.ReplayRange.parse(dry_run=True)
    with monkeypatch.context() as killed:
        killed.setattr(tasks._Replaying, "_spill", spill_and_die)
        with pytest.raises(KeyboardInterrupt):
            tasks.replay(request, run, lambda state: None)
    assert forgotten.one("SELECT count(*) FROM replay_keys") >= 30

    done = tasks.replay(request, run, lambda state: None)

    assert (done["events"], done["keys"], done["would_change"]) == (242, 121, ALL)


def test_a_dry_run_over_a_truncation_compares_everything(forgotten: Plain, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backend.app.caches.outlook.WINDOW_ROWS", 9)
    deliver([Row(1, str(uuid4()), "catalog.product.truncated", "product", "2026-01-01T00:00:00Z", None, None, None)])
    assert run_replay(dry_run=True)["would_change"] == ALL


def test_a_stream_without_a_broker_is_refused(monkeypatch: pytest.MonkeyPatch, plant: Plant):
    monkeypatch.setattr(plant, "environment", plant.environment | {"CELERY_BROKER_URL": "memory://"})
    monkeypatch.setitem(plant.environment, "EVENT_LOG", "stream")
    done = plant.command("replay")
    assert done.returncode == 2
    assert "EVENT_LOG=stream needs RabbitMQ" in done.stderr


def test_a_replay_does_not_go_on_in_another_log(
    forgotten: Plain, source: str, monkeypatch: pytest.MonkeyPatch, database: str
):
    run = str(uuid4())
    with monkeypatch.context() as killed:
        killed.setattr(tasks._Replaying, "_spill", _die)
        with pytest.raises(KeyboardInterrupt):
            tasks.replay(tasks.ReplayRange.parse(dry_run=True), run, lambda state: None)
    monkeypatch.setenv("EVENT_LOG", "stream" if source == "table" else "table")
    settings.cache_clear()
    with pytest.raises(Refused, match="began in another log"):
        tasks.replay(tasks.ReplayRange.parse(dry_run=True), run, lambda state: None)


def _die(self: Any) -> None:
    raise KeyboardInterrupt
