"""Kept connections end, servers go away and clocks are set, and what was due runs all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.beats import Beats
from tests.faults.plant import QUIET
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.servers import Databases, Vhosts

QUEUED = """
    SELECT count(DISTINCT task) FROM task_runs
     WHERE scheduled_for > %s AND scheduled_for <= clock_timestamp() AND error IS NULL"""
TASKS = 4  # in the schedule
NOW = "SELECT clock_timestamp()"


def proxied(url: str) -> Proxy:
    """A proxy in front of this server."""
    return Proxy(int(url.rpartition(":")[2].partition("/")[0]))


@contextmanager
def away(proxy: Proxy) -> Iterator[None]:
    """What was connected is not any more, and nobody new is answered."""
    proxy.hold()
    proxy.reset()
    try:
        yield
    finally:
        proxy.heal()


@contextmanager
def beats(
    databases: Databases, vhosts: Vhosts, place: Path, **environment: str
) -> Iterator[tuple[Beats, Proxy, Proxy]]:
    """Nothing started yet; with the proxies of database and broker."""
    with (
        databases.migrated() as database,
        vhosts.fresh() as broker,
        proxied(database) as to_database,
        proxied(broker) as to_broker,
        Beats(
            database, broker, place,
            database_through=to_database.url(database), broker_through=to_broker.url(broker), **QUIET | environment,
        ) as system,
    ):  # fmt: skip
        yield system, to_database, to_broker


def all_queued_since(sql: Plain, instant: Any) -> bool:
    return bool(sql.one(QUEUED, (instant,)) == TASKS)


def test_the_first_task_start_after_the_brokers_connections_have_ended_is_taken(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with beats(databases, vhosts, tmp_path) as (system, _, to_broker):
        system.started(["api", "relay", "worker"])
        for _ in range(3):
            assert system.post("celery/tasks/update-cities-product-count")["state"] == "PENDING"
            to_broker.reset()


def test_beat_queues_what_was_due_while_the_broker_was_away(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with beats(databases, vhosts, tmp_path, FAST_EVERY="20") as (system, _, to_broker), system.sql() as sql:
        system.start(["beat"])
        begun = sql.one(NOW)
        system.wait_until(lambda: all_queued_since(sql, begun), 60, "beat has kept a connection")

        with away(to_broker):
            missed = sql.one(NOW)
            tried = "SELECT count(*) FROM task_runs WHERE scheduled_for > %s AND (progress ->> 'attempts')::int > 1"
            system.wait_until(lambda: sql.one(tried, (missed,)) == TASKS, 60, "beat tries and tries")
            assert "attempt 2" in system.log("beat")
        system.wait_until(lambda: all_queued_since(sql, missed), 15, "what was due is queued")


@pytest.mark.parametrize("how", ["reset", "half_open"])
def test_beat_replaces_a_connection_that_has_ended(
    databases: Databases, vhosts: Vhosts, tmp_path: Path, how: str
) -> None:
    with beats(databases, vhosts, tmp_path) as (system, _, to_broker), system.sql() as sql:
        system.start(["beat"])
        for _ in range(2):
            begun = sql.one(NOW)
            system.wait_until(lambda since=begun: all_queued_since(sql, since), 60, "all are queued")  # type: ignore[misc]
            getattr(to_broker, how)()


def test_beat_queues_what_was_due_while_the_database_was_away(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with beats(databases, vhosts, tmp_path, FAST_EVERY="20") as (system, to_database, _), system.sql() as sql:
        begun = sql.one(NOW)
        with away(to_database):
            system.start(["beat"])  # it has no memory yet
            system.wait_until(lambda: system.log("beat").count("attempt 2") == TASKS, 90, "a due instant passes")
        system.wait_until(lambda: all_queued_since(sql, begun), 15, "what was due is queued")


class ShiftedBeats(Beats):
    """Its beat goes by a clock that is wrong as long as a file says so."""

    module = "tests.faults.shifted_beat"


@pytest.mark.parametrize("days", [365, -365, 1])
def test_beat_goes_on_when_a_clock_that_was_wrong_is_right_again(
    databases: Databases, vhosts: Vhosts, tmp_path: Path, days: int
) -> None:
    clock = tmp_path / "clock"
    with (
        databases.migrated() as database,
        vhosts.fresh() as broker,
        ShiftedBeats(database, broker, tmp_path / "system", CLOCK_FILE=str(clock), **QUIET) as system,
        system.sql() as sql,
    ):
        clock.write_text(str(days * 86_400))
        system.start(["beat"])
        named = "SELECT count(*) FROM task_runs WHERE error IS NULL"
        system.wait_until(lambda: sql.one(named) >= TASKS, 60, "runs at a wrong time")
        assert sql.one("SELECT bool_and(abs(extract(epoch FROM scheduled_for - queued_at)) > 3600) FROM task_runs")

        clock.write_text("0")
        right = sql.one(NOW)
        system.wait_until(lambda: all_queued_since(sql, right), 30, "runs at the right time")


def test_a_beat_that_starts_does_not_believe_the_ledger_beyond_now(
    databases: Databases, vhosts: Vhosts, tmp_path: Path
) -> None:
    with beats(databases, vhosts, tmp_path) as (system, _, _), system.sql() as sql:
        sql.run("""
            INSERT INTO task_runs (task_id, task, trigger, state, scheduled_for)
            SELECT gen_random_uuid(), task, 'beat', 'SUCCESS', date_trunc('minute', now() + interval '1 day')
              FROM unnest(ARRAY['update_product_city_cache', 'update_company_city_cache',
                                'update_cities_product_count', 'refresh_all_caches']) AS task""")
        begun = sql.one(NOW)
        system.start(["beat"])
        system.wait_until(lambda: all_queued_since(sql, begun), 60, "each runs at its next due instant")
