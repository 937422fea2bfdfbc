"""Whatever ALTER DATABASE and ALTER ROLE say, our sessions are what the code takes for granted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from backend.app import db
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CacheType, patch
from backend.app.commands.verify import verify
from backend.app.errors import DatabaseUnfit
from tests import catalogs, oracle
from tests.faults.plant import QUIET
from tests.integration.test_poolers import connected_to, runs_everything
from tests.odd_settings import KEPT_FROM_WRITERS, LEVELS, Unaltered, altered, known
from tests.plain import Plain


@pytest.fixture
def server(database: str, configured_database: None) -> Iterator[Plain]:
    """A connection that was there before."""
    with Plain(database) as plain:
        catalogs.small(plain)
        yield plain


def shown() -> dict[str, dict[str, Any]]:
    """All settings of each kind of connection that the product makes."""
    statement = "SELECT name, setting FROM pg_settings"
    db.dispose()
    with db.direct("test") as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        direct = dict(cursor.fetchall())
    connection.close()
    with db.transaction() as pooled:
        engine = dict(map(tuple, pooled.exec_driver_sql(statement)))
    made = db.make_engine("migrate")
    with made.connect() as migrating:
        migration = dict(map(tuple, migrating.exec_driver_sql(statement)))
    made.dispose()
    return {"direct": direct, "engine": engine, "migration": migration}


@pytest.mark.parametrize("level", LEVELS)
def test_no_default_of_database_or_role_reaches_a_connection(server: Plain, level: str) -> None:
    usual = shown()
    for setting, values in known(server).items():
        for value in values:
            with altered(server, level, {setting: value}):
                assert shown() == usual, f"{setting} = {value}"


@pytest.mark.parametrize("level", LEVELS)
def test_everything_runs_whatever_the_defaults_are(database: str, broker: str, tmp_path: Path, level: str) -> None:
    with Plain(database) as server, Unaltered(database, broker, tmp_path, **QUIET) as system:
        odd = {setting: values[0] for setting, values in known(server).items()}
        with altered(server, level, odd), system.sql() as writer:
            system.start()
            runs_everything(system, writer)
        assert oracle.of(database) == []
        assert server.one("SELECT count(*) FROM dead_letters") == 0


def test_the_truth_is_the_same_under_every_switch_that_the_server_has(server: Plain) -> None:
    """All switches and choices that a role may be given, each at each of its other values."""
    found = server.all("""
        SELECT name, CASE vartype WHEN 'bool' THEN ARRAY[CASE setting WHEN 'on' THEN 'off' ELSE 'on' END]
                                  ELSE array_remove(enumvals, setting) END
          FROM pg_settings WHERE vartype IN ('bool', 'enum') AND context IN ('user', 'superuser')
           AND category !~ 'Reporting and Logging' AND name !~ '^debug|^transaction_(d|i|r)'
           AND name NOT IN ('zero_damaged_pages', 'client_min_messages')
         ORDER BY name""")
    for setting, values in found:
        for value in values:
            with altered(server, "database", {setting: value}):
                db.dispose()
                assert converges(server) == [], f"{setting} = {value}"


def converges(server: Plain) -> list[str]:
    """A change and its patch, a rebuild and a verify on fresh connections; what is wrong afterwards."""
    server.run("UPDATE products SET kind = CASE kind WHEN 'product' THEN 'service' ELSE 'product' END WHERE id = 100")
    with db.transaction() as connection:
        patch(connection, Keys([100], [], []), Cause("test"))
    server.run("DELETE FROM product_city_mapping WHERE product_id = 101")
    for what in get_args(CacheType):
        rebuilds.rebuild(what, Cause("test"), lambda instant: True, lambda state: None)
    rebuilds.rebuild_counts(active=True)
    agrees, report = verify(0)
    return oracle.violations(server) + ([] if agrees else [json.dumps(report)])


@pytest.mark.parametrize("level", LEVELS)
def test_an_event_has_its_key_and_its_change_whatever_the_writers_session_is(
    server: Plain, database: str, level: str
) -> None:
    catalogs.no_events(server)
    odd = {setting: values[0] for setting, values in known(server).items() if setting not in KEPT_FROM_WRITERS}
    with altered(server, level, odd), Plain(database) as writer:
        writer.run("UPDATE products SET kind = 'service' WHERE id = 100")
        writer.run("UPDATE products SET kind = kind WHERE id = 100")

    rows = server.all("SELECT type, subject, before ->> 'kind', after ->> 'kind' FROM event_outbox")
    assert rows == [("catalog.product.updated", "product/100", "product", "service")]


def test_a_default_that_the_role_may_not_change_is_told_and_nothing_is_written_with_it(
    server: Plain, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggers would be silent."""
    server.run("DROP ROLE IF EXISTS plain_role")
    server.run("CREATE ROLE plain_role LOGIN PASSWORD 'secret-word' NOSUPERUSER")
    try:
        server.run("ALTER ROLE plain_role SET session_replication_role = replica")
        place = database.partition("@")[2]
        connected_to(f"postgresql://plain_role:secret-word@{place}", monkeypatch)

        with pytest.raises(DatabaseUnfit, match="session_replication_role"):
            db.direct("test")
    finally:
        server.run("DROP ROLE plain_role")
