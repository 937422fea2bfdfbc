"""DATABASE_READ_URL: replicas serve the API's reads of caches, however far they are behind, and say so when asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.app.api.fresh.asking import FRESH
from backend.embedded.postgres import Postgres
from tests import catalogs
from tests.conftest import configured_as
from tests.faults.test_failover import both, standby  # noqa: F401  (a fixture)
from tests.integration.api import V1, Client, client, patch_all
from tests.plain import Plain
from tests.waiting import until


@pytest.fixture
def primary(own_postgres: Postgres, standby: Postgres) -> Iterator[Plain]:  # noqa: F811
    with Plain(own_postgres.url) as plain:
        yield plain


@pytest.fixture
def replica(standby: Postgres) -> Iterator[Plain]:  # noqa: F811
    with Plain(standby.url) as plain:
        yield plain


def names(api: Client, fresh: str = "", wait: int = 300) -> tuple[list[str], str]:
    """Companies of the city, and whether they are fresh."""
    answer = api.get(f"{V1}/cities/1/companies", params={"fresh": fresh, "wait": wait} if fresh else {})
    assert answer.status_code == 200, answer.text
    return sorted(row["name"] for row in answer.json()["items"]), answer.headers.get(FRESH, "")


def test_reads_come_from_the_replica_and_fresh_ones_wait_until_it_has_the_write(
    primary: Plain,
    replica: Plain,
    own_postgres: Postgres,
    standby: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with configured_as(monkeypatch, DATABASE_URL=own_postgres.url, DATABASE_READ_URL=standby.url), client() as api:
        catalogs.small(primary)
        patch_all(primary)
        until(lambda: api.get(f"{V1}/cities/1/companies").status_code == 200, 20, "the API has warmed up")
        known, is_fresh = names(api, "company/10", 1500)
        assert (bool(known), is_fresh) == (True, "yes")

        replica.run("SELECT pg_wal_replay_pause()")
        until(lambda: replica.one("SELECT pg_get_wal_replay_pause_state()") == "paused", 10, "it stands still")
        primary.run("INSERT INTO companies (id, name, city_id) VALUES (900, 'new', 1)")
        patch_all(primary)
        assert primary.one("SELECT city_id FROM company_city_mapping WHERE company_id = 900") == 1
        assert names(api) == (known, "")
        assert names(api, "company/900") == (known, "no")  # both are absent there: they agree, and lack the write

        replica.run("SELECT pg_wal_replay_resume()")
        assert names(api, "company/900", 1500) == (sorted([*known, "new"]), "yes")
        assert api.get(f"{V1}/companies/900").json()["name"] == "new"


def test_where_the_replica_is_away_the_next_host_of_its_url_is_read_or_the_read_is_refused(
    primary: Plain,
    own_postgres: Postgres,
    standby: Postgres,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogs.small(primary)
    for url, status in ((both(own_postgres, standby), 200), (standby.url, 503)):
        with configured_as(monkeypatch, DATABASE_URL=own_postgres.url, DATABASE_READ_URL=url), client() as api:
            patch_all(primary)
            if status == 200:
                until(lambda: api.get(f"{V1}/cities/1/companies").status_code == 200, 20, "the API has warmed up")
                assert names(api, "city/1", 1500)[1] == "yes"
                standby.kill()
            answer = api.get(f"{V1}/cities/1/companies", params={"fresh": "company/10", "wait": "1500"})
            assert answer.status_code == status, answer.text
            assert api.get(f"{V1}/companies/10").status_code == 200  # the catalog is the primary's
