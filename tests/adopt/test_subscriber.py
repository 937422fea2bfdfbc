"""Beside a subscriber of logical replication: what writers of another server do is followed when it arrives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from psycopg2.errors import UniqueViolation

from backend.embedded.postgres import Postgres
from tests.adopt.following import beside, follow
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import SHOP, TABLES, WRITES, violations
from tests.plain import Plain, dsn
from tests.servers import CAREFREE
from tests.waiting import until

PUBLISHED: Final = 'shop.sellers, shop.seller_addresses, shop.addresses, shop.goods, "Orte"."Städte"'
NOTED: Final = 'SELECT count(*) FROM "City Cache".city_changes'
ARRIVED: Final = "SELECT bool_and(replay_lsn >= %s::pg_lsn) FROM pg_stat_replication"


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[str]:
    """The marketplace's own server."""
    server = Postgres(tmp_path / "publisher", settings={**CAREFREE, "wal_level": "logical", "shared_buffers": "32MB"})
    server.start()
    with Plain(server.url) as plain:
        plain.run(TABLES)
        plain.run("ALTER TABLE shop.seller_addresses REPLICA IDENTITY FULL")
    yield server.url
    server.stop()


@pytest.fixture(params=["leaves", "root"])
def subscriber(request: pytest.FixtureRequest, publisher: str, empty_database: str) -> Iterator[Marketplace]:
    """A server of the same tables without writers of its own; partitions are published one by one or as a whole."""
    with Plain(publisher) as plain:
        root = f"WITH (publish_via_partition_root = {request.param == 'root'})"
        plain.run(f"CREATE PUBLICATION catalog FOR TABLE {PUBLISHED} {root}")
    with Plain(empty_database) as plain:
        plain.run(TABLES[: TABLES.index("INSERT INTO")])
        plain.run(f"CREATE SUBSCRIPTION catalog CONNECTION '{dsn(publisher)}' PUBLICATION catalog")
        until(lambda: plain.one("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"), 60)
        yield Marketplace(empty_database, SHOP / "catalog.toml")
        plain.run("DROP SUBSCRIPTION catalog")


def test_what_replication_applies_is_followed(
    subscriber: Marketplace, publisher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber.adopt()
    chance = random.Random(4)
    with beside(subscriber, monkeypatch), Plain(publisher) as theirs, Plain(subscriber.url) as ours:
        assert violations(ours) == []
        for statement in chance.sample(WRITES, len(WRITES)):
            done = statement.format(n=chance.randrange(1, 900))
            with suppress(UniqueViolation):
                theirs.run(done)
            _wait_for_arrival(theirs)
            follow()
            assert violations(ours) == [], done
        assert ours.one("SELECT count(*) FROM shop.goods JOIN shop.sellers s ON s.id = seller") > 0
        theirs.run("UPDATE shop.goods SET secret = 'changed'")
        _wait_for_arrival(theirs)
        assert ours.one('SELECT count(*) FROM "City Cache".event_outbox') == 0
        noted = ours.one(NOTED)
        theirs.run('UPDATE "Orte"."Städte" SET "Name" = "Name" WHERE "Nr" < 5')
        _wait_for_arrival(theirs)
        assert ours.one(NOTED) == noted
        theirs.run(
            'UPDATE "Orte"."Städte" SET "Name" = \'renamed\' WHERE "Nr" = (SELECT min("Nr") FROM "Orte"."Städte")'
        )
        _wait_for_arrival(theirs)
        assert ours.one(NOTED) == noted + 1, "for whoever keeps answers of cities"
    assert subscriber.run("doctor").code == 0


def test_what_is_written_beside_replication_is_followed_as_well(
    subscriber: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber.adopt()
    with beside(subscriber, monkeypatch), Plain(subscriber.url) as ours:
        for statement in ("UPDATE shop.sellers SET state = 'shut' WHERE id < 9", "TRUNCATE shop.goods_1b"):
            ours.run(statement)
            follow()
            assert violations(ours) == [], statement


def _wait_for_arrival(theirs: Plain) -> None:
    position = theirs.one("SELECT pg_current_wal_insert_lsn()::text")
    until(lambda: theirs.one(ARRIVED, (position,)), 30, "replication")
