"""Health tells the truth: each thing that goes wrong is said within 15 s, and unsaid within 15 s when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import amqp
import pytest

from backend.embedded.rabbitmq import RabbitMQ
from events.connection import connect
from tests.faults.plant import Plant, plant_on
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.scraping import scrape, value
from tests.servers import Databases, Vhosts
from tests.verdicts import part
from tests.waiting import until

TURN = 15.0  # seconds within which an answer turns, and back
pytestmark = pytest.mark.calm  # fifteen seconds are promised, both ways

WATCHED = {"OBSERVER": "true", "CANARY_SECONDS": "1", "FRESHNESS_TARGET_MS": "3600000"}
FINDING = "INSERT INTO audit_findings (cache, key, side) VALUES ('of nobody', '1', 'missing')"  # the auditor leaves it
ADD = "INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities"


@pytest.fixture(scope="module")
def proxies(databases: Databases, vhosts: Vhosts) -> Iterator[tuple[Proxy, Proxy]]:
    """Before database and broker."""
    with Proxy(databases.server.port) as database, Proxy(vhosts.node.port) as broker:
        yield database, broker


@pytest.fixture(scope="module")
def plant(
    databases: Databases, vhosts: Vhosts, proxies: tuple[Proxy, Proxy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plant]:
    """Everything runs, the observer as well, and reaches its servers through proxies."""
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant"), *proxies, **WATCHED) as plant:
        yield plant.started()


@pytest.fixture
def sql(plant: Plant, proxies: tuple[Proxy, Proxy]) -> Iterator[Plain]:
    """Begins and ends with everything well."""
    is_well(plant)
    with plant.sql() as plain:
        yield plain
    for proxy in proxies:
        proxy.heal()
    is_well(plant)


def is_well(plant: Plant) -> None:
    try:
        until(lambda: ready(plant)["status"] == "ok", 30, "all is well")
    except AssertionError as failure:
        raise AssertionError(f"{failure}: {json.dumps(ready(plant), indent=1)}") from None


def ready(plant: Plant) -> dict[str, Any]:
    """What /health/ready says, with its code as `http`."""
    try:
        return plant.get("/health/ready") | {"http": 200}
    except HTTPError as refusal:
        found: dict[str, Any] = json.load(refusal)
        return found | {"http": refusal.code}


def turns(plant: Plant, name: str, state: str, status: str) -> dict[str, Any]:
    """Wait until a part is so; what was said then."""
    said: list[dict[str, Any]] = []

    def is_so() -> bool:
        said.append(ready(plant))
        return part(said[-1], name)["state"] == state and said[-1]["status"] == status

    until(is_so, TURN, f"{name} is {state}, all in all {status}")
    return said[-1]


def test_a_relay_that_stands_is_named_with_effect_and_advice_and_503(plant: Plant, sql: Plain):
    plant.suspend("relay")
    try:
        sql.run(ADD)
        said = turns(plant, "relay", "bad", "unavailable")
    finally:
        plant.resume("relay")
    assert said["http"] == 503
    told = part(said, "relay")
    assert "stand still" in told["effect"] or "no relay leads" in told["effect"]
    assert told["advice"]
    assert datetime.fromisoformat(told["since"]) <= datetime.now(UTC)
    assert part(said, "database")["state"] == "well"
    turns(plant, "relay", "well", "ok")


def test_who_asks_for_the_first_time_hears_what_the_observer_has_seen_before(plant: Plant, sql: Plain):
    plant.suspend("relay")
    try:
        sql.run(ADD)
        until(lambda: open_kinds(sql) & {"relay_stands", "relay_absent"} != set(), TURN, "the observer writes it down")
        with second_api(plant) as other:
            assert part(ready(other), "relay")["state"] == "bad", "at its first question"
    finally:
        plant.resume("relay")


def test_dead_letters_that_are_open_are_said_while_requests_are_served(plant: Plant, sql: Plain):
    with connect(plant.servers[1], "test") as broker:
        broker.channel().basic_publish_confirm(message("not an event"), "", "city-cache.events")
    said = turns(plant, "dead_letters", "bad", "degraded")
    assert said["http"] == 200, "requests are served"
    sql.run("UPDATE dead_letters SET closed_at = now()")
    turns(plant, "dead_letters", "well", "ok")


def test_a_scheduled_run_that_failed_is_said_until_one_succeeds(plant: Plant, sql: Plain):
    scheduled(sql, "FAILURE", "2 hours", "not queued: the broker is away")
    scheduled(sql, "FAILURE", "1 second", "not queued: the broker is away")
    said = turns(plant, "schedule", "bad", "degraded")
    assert "update_cities_product_count" in part(said, "schedule")["effect"]
    assert "the broker is away" in part(said, "schedule")["effect"]
    scheduled(sql, "SUCCESS", "0 seconds")
    turns(plant, "schedule", "well", "ok")


def test_a_scheduled_run_that_was_missed_is_said(plant: Plant, sql: Plain):
    sql.run("DELETE FROM task_runs WHERE scheduled_for IS NOT NULL")
    scheduled(sql, "SUCCESS", "5 hours")
    said = turns(plant, "schedule", "bad", "degraded")
    assert "has not been queued" in part(said, "schedule")["effect"]
    scheduled(sql, "SUCCESS", "0 seconds")
    turns(plant, "schedule", "well", "ok")


def test_a_canary_that_never_came_through_since_the_system_is_there_is_said(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
):
    with plant_on(databases, vhosts, tmp_path, **WATCHED) as fresh, fresh.sql() as sql:
        sql.run("ALTER TABLE canaries DISABLE TRIGGER capture_canary")
        fresh.started()
        until(lambda: part(ready(fresh), "freshness")["state"] == "bad", 45, "it is missed")
        said = ready(fresh)
        assert said["status"] == "degraded"
        assert "No canary has come through for" in part(said, "freshness")["effect"]
        sql.run("ALTER TABLE canaries ENABLE TRIGGER capture_canary")
        turns(fresh, "freshness", "well", "ok")


def test_rows_found_wrong_and_not_mended_are_said(plant: Plant, sql: Plain):
    sql.run(FINDING)
    said = turns(plant, "caches", "bad", "degraded")
    assert "1 cached rows are wrong" in part(said, "caches")["effect"]
    sql.run("UPDATE audit_findings SET repaired_at = now()")
    turns(plant, "caches", "well", "ok")


def test_writes_past_capture_are_said_with_their_table_although_the_row_was_captured_before(plant: Plant, sql: Plain):
    sql.run(ADD)
    newest = "(SELECT max(id) FROM companies)"
    until(lambda: sql.one(f"SELECT count(*) FROM company_city_mapping WHERE company_id = {newest}"), TURN, "it follows")
    sql.run("SET session_replication_role = replica")
    sql.run(f"UPDATE companies SET city_id = NULL WHERE id = {newest}")
    until(lambda: part(ready(plant), "capture")["state"] == "bad", 60, "within a minute it is said")
    assert "Writes into companies come past capture" in part(ready(plant), "capture")["effect"]
    until(lambda: shown(plant, "table_passed") == 1, TURN, "metrics show it")
    until(lambda: plant.violations() == [], TURN, "the row is mended")
    sql.run("UPDATE passed_tables SET found_at = now() - interval '11 minutes'")
    turns(plant, "capture", "well", "ok")


def test_a_schema_that_is_newer_is_no_fault_and_one_that_is_older_is(plant: Plant, sql: Plain):
    version = sql.one("SELECT version_num FROM alembic_version")
    sql.run("UPDATE alembic_version SET version_num = 'from_the_future'")
    assert part(ready(plant), "database")["state"] == "well"
    sql.run("UPDATE alembic_version SET version_num = '0001'")
    said = turns(plant, "database", "bad", "unavailable")
    assert "citycache migrate" in part(said, "database")["advice"]
    sql.run("UPDATE alembic_version SET version_num = %s", [version])


def test_prometheus_shows_what_is_open(plant: Plant, sql: Plain):
    until(lambda: shown(plant, "rows_wrong") == 0, TURN, "those before are over")
    sql.run(FINDING)
    until(lambda: shown(plant, "rows_wrong") == 1, TURN, "it is shown")
    sql.run("UPDATE audit_findings SET repaired_at = now()")


@pytest.fixture
def alarmed(database: str, own_rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Plant]:
    """Everything runs, on a broker whose memory limit the test may change."""
    with Plant(database, own_rabbitmq.url, tmp_path / "system", **WATCHED) as plant:
        yield plant.started()


class TestServers:
    def test_a_database_that_is_away_leaves_an_incident_and_nothing_is_called_well_meanwhile(
        self, plant: Plant, sql: Plain, proxies: tuple[Proxy, Proxy]
    ):
        proxies[0].hold()
        said = turns(plant, "database", "bad", "unavailable")
        states = {one["name"]: one["state"] for one in said["parts"]}
        assert {states[name] for name in ("relay", "caches", "dead_letters", "schedule", "freshness")} == {"unknown"}
        assert states["broker"] == "well", "the other server is not blamed"
        until(lambda: "kind=database_away" in plant.log("api"), TURN, "the observer has seen it as well")
        proxies[0].heal()
        turns(plant, "database", "well", "ok")
        until(lambda: past(sql, "database_away") == 1, TURN, "it stays in the list with its beginning and its end")

    def test_a_broker_that_is_away_is_blamed_and_not_the_relay(
        self, plant: Plant, sql: Plain, proxies: tuple[Proxy, Proxy]
    ):
        proxies[1].hold()
        said = turns(plant, "broker", "bad", "unavailable")
        assert part(said, "relay")["state"] != "bad"
        until(lambda: "broker_away" in open_kinds(sql), TURN, "an incident is open")
        listed = plant.get("/api/v1/incidents?open=true")["items"]
        assert {one["kind"]: one["severity"] for one in listed}["broker_away"] == "critical"
        proxies[1].heal()
        turns(plant, "broker", "well", "ok")
        until(lambda: past(sql, "broker_away") == 1, TURN, "the incident ends")

    def test_a_brokers_alarm_is_said(self, alarmed: Plant, own_rabbitmq: RabbitMQ):
        until(lambda: ready(alarmed)["status"] == "ok", 30, "all is well at first")
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        said = turns(alarmed, "broker", "bad", "unavailable")
        assert "short of memory or disk" in part(said, "broker")["effect"]
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "4GB")
        turns(alarmed, "broker", "well", "ok")


def scheduled(sql: Plain, state: str, ago: str, error: str | None = None) -> None:
    """A run that beat queued so long ago, and how it ended."""
    sql.run(
        "INSERT INTO task_runs (task_id, task, trigger, state, arguments, scheduled_for, error, finished_at)"
        " VALUES (gen_random_uuid(), 'update_cities_product_count', 'beat', %s, '{}', now() - %s::interval, %s, now())",
        [state, ago, error],
    )


def open_kinds(sql: Plain) -> set[str]:
    return set(sql.column("SELECT kind FROM incidents WHERE ended_at IS NULL"))


def past(sql: Plain, kind: str) -> int:
    """How many incidents of a kind have begun and ended."""
    return int(sql.one("SELECT count(*) FROM incidents WHERE kind = %s AND ended_at > began_at", [kind]))


def shown(plant: Plant, kind: str) -> float | None:
    """What metrics show of incidents of a kind: 1 while one is open."""
    return value(scrape(f"{plant.api_url}/metrics"), "citycache_incident_open", kind=kind)


def message(body: str) -> Any:
    return amqp.Message(body, delivery_mode=2)


def second_api(plant: Plant) -> Plant:
    """Another API process on the same servers, whose judge has seen nothing yet."""
    other = Plant(*plant.servers, plant.place / "second", OBSERVER="false")
    other.place.mkdir(exist_ok=True)
    other.start(["api"])
    return other
