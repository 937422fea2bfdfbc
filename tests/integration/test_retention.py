"""Old history goes, however much there is of it, and young history stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.app.api.reading.look import REMEMBERED_SECONDS
from backend.app.ledger import retention
from backend.app.ledger.retention import DAY, KEPT
from backend.app.settings import settings
from tests.integration.api import client
from tests.plain import Plain
from tests.waiting import until

ROW = {  # by kind: a row of this age in seconds
    "event_runs": "INSERT INTO task_runs (task_id, task, trigger, state, queued_at)"
    " SELECT gen_random_uuid(), 'apply_catalog_events', 'event', 'SUCCESS', {at}",
    "runs": "INSERT INTO task_runs (task_id, task, trigger, state, queued_at)"
    " SELECT gen_random_uuid(), 'refresh_all_caches', 'api', 'SUCCESS', {at}",
    "patches": "INSERT INTO patches (task, patched_at) SELECT 'x', {at}",
    "judgements": "INSERT INTO judgements (noun, ends_at) SELECT 'product', {at}",
    "replays": "INSERT INTO replays (task_id, marker, updated_at) SELECT gen_random_uuid(), 'x', {at}",
    "dead_letters": "INSERT INTO dead_letters (kind, reason, closed_at) SELECT 'failed', 'x', {at}",
    "audit_log": "INSERT INTO audit_log (method, path, status, at) SELECT 'GET', '/', 200, {at}",
    "observations": "INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)"
    " SELECT {at}, 5, 0, 0, 0, 0, '{{}}'",
    "audit_minutes": "INSERT INTO audit_minutes (minute, cache) SELECT {at}, 'x'",
    "audit_findings": "INSERT INTO audit_findings (found_at, cache, key, side, repaired_at)"
    " SELECT {at}, 'x', '1', 'y', now()",
    "watched_changes": "INSERT INTO watched_changes (table_name, changed_at) SELECT 'x', {at}",
    "passed_tables": "INSERT INTO passed_tables (found_at, table_name, rows) SELECT {at}, 'x', n",
    "count_looks": "INSERT INTO count_looks (at) SELECT {at}",
    "city_hours": "INSERT INTO city_hours (city_id, at, products_count) SELECT 1, {at}, n",
    "incidents": "INSERT INTO incidents (kind, began_at, ended_at) SELECT 'x', {at}, {at}",
}
TABLES = {"event_runs": "task_runs", "runs": "task_runs"}


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


def add(plain: Plain, kind: str, seconds: float, number: int) -> None:
    """Rows of about this age; no two of one instant."""
    at = f"now() - {seconds} * interval '1 second' - n * interval '1 millisecond'"
    plain.run(f"{ROW[kind].format(at=at)} FROM generate_series(1, {number}) AS n")


@pytest.mark.parametrize("kind", ROW)
def test_what_is_too_old_goes_to_the_last_row_and_the_rest_stays(plain: Plain, kind: str) -> None:
    kept = next(kept for kept in KEPT if kept.name == kind)
    limit = kept.seconds(settings())
    add(plain, kind, limit + 60, 10)
    add(plain, kind, limit - 60, 5)

    pruned = retention.prune(kept.keeper, rows=3)

    assert pruned == {name: 10 if name == kind else 0 for name in pruned}
    assert plain.one(f"SELECT count(*) FROM {TABLES.get(kind, kind)}") == 5


def test_each_table_of_history_has_its_keeper_and_its_age() -> None:
    """Removals go with their patches, looks with their judgements, changes of cities by transactions, and events by
    whole days, as `test_event_log` shows."""
    assert (
        {kept.name for kept in KEPT}
        == set(ROW) | {"removed_keys", "looks", "city_changes", "event_log"}
        == set(retention.SQL)
    )


def test_a_removal_goes_with_its_patch(plain: Plain) -> None:
    add(plain, "patches", 10 * DAY, 10)
    plain.run("INSERT INTO removed_keys (noun, id, patch_id) SELECT 'product', id, id FROM patches")
    add(plain, "patches", 60, 1)
    plain.run("INSERT INTO removed_keys (noun, id, patch_id) SELECT 'company', 1, max(id) FROM patches")

    assert retention.prune("worker", rows=3)["removed_keys"] == 10

    assert plain.column("SELECT noun FROM removed_keys") == ["company"]


def test_what_patches_told_goes_with_its_judgement(plain: Plain) -> None:
    plain.run("""
        INSERT INTO judgements (noun, ends_at)
        SELECT 'product', now() + n * interval '2 hours' FROM generate_series(-1, 1, 2) AS n;
        INSERT INTO looks SELECT judgements.id, n FROM judgements, generate_series(1, 10) AS n;
        INSERT INTO looks SELECT gen_random_uuid(), n FROM generate_series(1, 10) AS n""")

    pruned = retention.prune("worker", rows=3)

    assert (pruned["judgements"], pruned["looks"]) == (1, 20)
    assert plain.one("SELECT count(*) FROM looks JOIN judgements ON judgements.id = judgement") == 10


def test_a_change_of_cities_goes_when_all_must_have_seen_it(plain: Plain, database: str) -> None:
    """However old it is: a transaction may have been under way for hours, and end a moment ago."""
    rename = "UPDATE cities SET name = name || 'x'"
    kept = next(kept for kept in KEPT if kept.name == "city_changes").seconds(settings())
    assert kept > 2 * REMEMBERED_SECONDS, "so long after the look before, a look asks for them"
    older = "UPDATE city_changes SET written_at = written_at - interval '10 minutes'"
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'x'); DELETE FROM city_changes")
    with Plain(database, autocommit=False) as slow:
        slow.run(rename)
        slow.run(older)
        for _ in range(3):
            plain.run("TRUNCATE city_counts")
        plain.run(older)
        slow.commit()
    assert retention.prune("worker", rows=1)["city_changes"] == 0

    plain.run(rename)
    assert retention.prune("worker", rows=1)["city_changes"] == 0, "what was written since is young"
    plain.run(older)
    assert retention.prune("worker", rows=1)["city_changes"] == 4
    assert plain.one("SELECT count(*) FROM city_changes") == 1


def test_counts_that_a_plot_of_a_week_begins_with_stay(plain: Plain) -> None:
    plain.run("""
        INSERT INTO city_hours (city_id, at, products_count)
        SELECT city, now() - days * interval '1 day', CASE WHEN city < 3 THEN 1 END
          FROM (VALUES (1, 30), (1, 20), (1, 2), (2, 9), (2, 7.5), (3, 9)) AS look (city, days)""")

    assert retention.prune("observer")["city_hours"] == 3  # city 1 was as 20 days ago until the day before yesterday

    kept = "SELECT city_id, extract(day FROM now() - at)::int FROM city_hours ORDER BY 1, 2"
    assert plain.all(kept) == [(1, 2), (1, 20), (2, 7)]


def test_what_is_not_over_is_kept(plain: Plain) -> None:
    """Runs under way, and letters and findings that are open."""
    plain.run("""
        INSERT INTO task_runs (task_id, task, trigger, state, queued_at)
        SELECT gen_random_uuid(), 'x', trigger, state, now() - interval '1 year'
          FROM unnest(ARRAY['api', 'event']) AS trigger, unnest(ARRAY['STARTED', 'RETRY']) AS state""")
    plain.run("INSERT INTO dead_letters (kind, reason, buried_at) VALUES ('failed', 'x', now() - interval '1 year')")
    plain.run(
        "INSERT INTO audit_findings (found_at, cache, key, side) VALUES (now() - interval '1 year', 'x', '1', 'y')"
    )

    assert set((retention.prune("worker") | retention.prune("observer")).values()) == {0}


def test_a_database_that_counts_slowly_is_not_said_to_be_away(
    plain: Plain, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSERVER", "false")
    settings.cache_clear()
    up = 'citycache_up{server="database"} 1.0'
    with client() as api, Plain(database, autocommit=False) as blocker:
        until(lambda: up in api.get("/metrics").text, 30, "it is warm")
        blocker.run("LOCK TABLE task_runs IN ACCESS EXCLUSIVE MODE")
        shown: list[str] = []

        def answered() -> bool:
            shown.append(api.get("/metrics").text)
            return "citycache_up" in shown[-1]

        until(answered, 30, "an answer in time, on a machine that does other things as well")
        assert up in shown[-1]
        assert "citycache_task_runs{" not in shown[-1]
