"""DATABASE_READ_URL: replicas serve the API's reads of caches, however far they are behind, and say so when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from backend.app.api.fresh.asking import FRESH
from backend.app.database.replica import SQL
from backend.embedded.postgres import Postgres
from tests import catalogs
from tests.conftest import configured_as
from tests.faults.failover import both
from tests.integration.api import V1, Client, client, patch_all
from tests.plain import Plain
from tests.scraping import series_of, value
from tests.verdicts import kinds, part, verdict
from tests.waiting import until

Reading = Callable[..., AbstractContextManager[None]]  # with variables of the environment


@pytest.fixture
def primary(own_postgres: Postgres, standby: Postgres) -> Iterator[Plain]:
    with Plain(own_postgres.url) as plain:
        yield plain


@pytest.fixture
def reading(own_postgres: Postgres, standby: Postgres, monkeypatch: pytest.MonkeyPatch) -> Reading:
    """This process writes to the primary and reads from its standby, unless the variables say otherwise."""
    urls = {"DATABASE_URL": own_postgres.url, "DATABASE_READ_URL": standby.url}
    return lambda **variables: configured_as(monkeypatch, **urls | variables)


@pytest.fixture
def replica(standby: Postgres) -> Iterator[Plain]:
    with Plain(standby.url) as plain:
        yield plain


def names(api: Client, fresh: str = "", wait: int = 300) -> tuple[list[str], str]:
    """Companies of the city, and whether they are fresh."""
    answer = api.get(f"{V1}/cities/1/companies", params={"fresh": fresh, "wait": wait} if fresh else {})
    assert answer.status_code == 200, answer.text
    return sorted(row["name"] for row in answer.json()["items"]), answer.headers.get(FRESH, "")


def test_reads_come_from_the_replica_and_fresh_ones_wait_until_it_has_the_write(
    primary: Plain, replica: Plain, reading: Reading
) -> None:
    with reading(), client() as api:
        catalogs.small(primary)
        patch_all(primary)
        until(lambda: api.get(f"{V1}/cities/1/companies").status_code == 200, 20, "the API has warmed up")
        known, is_fresh = names(api, "company/10", 1500)
        assert (bool(known), is_fresh) == (True, "yes")
        assert [place["id"] for place in api.get(f"{V1}/cities/tree?all=true").json()] == [1, 2, 3]

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
    primary: Plain, own_postgres: Postgres, standby: Postgres, reading: Reading
) -> None:
    catalogs.small(primary)
    for url, status in ((both(own_postgres, standby), 200), (standby.url, 503)):
        with reading(DATABASE_READ_URL=url), client() as api:
            patch_all(primary)
            if status == 200:
                until(lambda: api.get(f"{V1}/cities/1/companies").status_code == 200, 20, "the API has warmed up")
                assert names(api, "city/1", 1500)[1] == "yes"
                standby.kill()
            answer = api.get(f"{V1}/cities/1/companies", params={"fresh": "company/10", "wait": "1500"})
            assert answer.status_code == status, answer.text
            assert api.get(f"{V1}/companies/10").status_code == 200  # the catalog is the primary's


def health(api: Client) -> dict[str, Any]:
    """What readiness says of reads, with the whole's status and code."""
    answer = api.get("/health/ready")
    found = answer.json()
    reads = part(found, "reads")
    return {"says": found["reads"], "state": reads["state"], "advice": reads["advice"], "http": answer.status_code}


def shown(api: Client, name: str, **labels: str) -> float | None:
    """What metrics show."""
    return value(series_of(api.get("/metrics").text), name, **labels)


def test_health_says_how_old_reads_are_at_most_and_names_a_replica_that_stays_behind(
    primary: Plain, replica: Plain, reading: Reading
) -> None:
    with reading(READ_LAG_SECONDS="2", STALL_SECONDS="1"), client() as api:
        primary.run("INSERT INTO cities (name) VALUES ('a')")
        until(lambda: health(api)["says"].startswith("ok, at most 0.0 s old; READ_LAG_SECONDS allows 2"), 20)
        assert (health(api)["state"], verdict().state("reads")) == ("well", "well")
        assert shown(api, "citycache_reads_behind_seconds") == pytest.approx(0, abs=0.999)

        replica.run("SELECT pg_wal_replay_pause()")
        until(lambda: replica.one("SELECT pg_get_wal_replay_pause_state()") == "paused", 10, "it stands still")
        primary.run("INSERT INTO cities (name) VALUES ('b')")
        until(lambda: health(api)["state"] == "bad", 15, "it is too old")
        said = health(api)
        assert "READ_LAG_SECONDS allows 2" in said["says"]
        assert "connection to the primary" in said["advice"]
        assert kinds("reads") == {"replica_behind"}

        replica.run("SELECT pg_wal_replay_resume()")
        until(lambda: health(api)["state"] == "well", 15, "it has come after")


def test_a_replica_that_is_away_makes_the_api_not_ready_and_one_that_nobody_can_judge_is_not_called_well(
    primary: Plain, own_postgres: Postgres, standby: Postgres, reading: Reading
) -> None:
    alone = {"CELERY_BROKER_URL": "memory://", "OBSERVER": "false", "STALL_SECONDS": "3600"}
    with reading(**alone), client() as api:
        until(lambda: (health(api)["state"], health(api)["http"]) == ("well", 200), 20, "it answers")
        own_postgres.kill()
        until(lambda: health(api) == {"says": "unknown", "state": "unknown", "advice": None, "http": 503}, 15)
        own_postgres.start()
        until(lambda: (health(api)["state"], health(api)["http"]) == ("well", 200), 20, "its primary is back")
        standby.kill()
        until(lambda: (health(api)["state"], health(api)["http"]) == ("bad", 503), 15, "it is away")
        assert "correct DATABASE_READ_URL" in health(api)["advice"]
        assert kinds("reads") == {"replica_away"}
        assert shown(api, "citycache_up", server="replica") == 0


def test_a_server_that_follows_its_primary_no_more_is_named(
    primary: Plain, replica: Plain, own_postgres: Postgres, standby: Postgres, reading: Reading
) -> None:
    with reading():
        until(lambda: verdict().state("reads") == "well", 20, "it has all that was written")
        replica.run("SELECT pg_promote()")
        assert kinds("reads") == {"replica_detached"}
    with reading(DATABASE_URL=standby.url, DATABASE_READ_URL=both(own_postgres, standby)):
        own_postgres.kill()
        assert verdict().state("reads") == "well", "the one that takes the writes serves the reads"


@pytest.mark.parametrize("statement", ["replayed", "written"])
def test_a_server_that_does_not_say_how_far_it_is_leaves_reads_unknown_and_the_rest_judged(
    primary: Plain, reading: Reading, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SQL, statement, "SELECT a_function_that_this_server_lacks()")
    with reading(CELERY_BROKER_URL="memory://"):
        found = verdict()
    assert (found.state("reads"), found.state("database")) == ("unknown", "well")
