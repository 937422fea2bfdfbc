"""The real way: an adopted marketplace whose writers go on, a relay, a broker and a worker as processes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.adopt import marketplace
from tests.adopt.marketplace import KUFAR, Marketplace
from tests.background import background
from tests.plain import Plain
from tests.system import System

NOISE = "UPDATE companies SET total_views = total_views + 1, phone = '+7999' WHERE id = 1 + (random() * 2900)::int"
CHANGE = "UPDATE products SET is_hidden = NOT is_hidden WHERE id = 1 + (random() * 59000)::int"
PERSONAL = ("@example.org", "+7000", "+7999")  # of e-mails and telephone numbers in its rows


@pytest.mark.timeout(580)
def test_events_alone_follow_writers_that_never_stopped(empty_database: str, broker: str, tmp_path: Path) -> None:
    marketplace.kufar(empty_database)
    market = Marketplace(empty_database, KUFAR / "catalog.toml", broker)

    def writers(stop: threading.Event) -> None:
        with Plain(empty_database, name="writer") as plain:
            while not stop.is_set():
                plain.run(NOISE)
                plain.run(CHANGE)

    with background(writers):
        market.adopt()
    with (
        System(empty_database, broker, tmp_path / "system", CATALOG_FILE=str(market.file)) as system,
        Plain(empty_database) as plain,
    ):
        system.start(["relay", "worker"])
        for statement in ("SELECT 1", *marketplace.writes()):
            plain.run(statement)
            system.wait_until(lambda: marketplace.counted(plain) == marketplace.wanted(plain), 90, statement)
        logs = system.log("relay") + system.log("worker")
        kept = plain.one("SELECT coalesce(string_agg(payload, ''), '') FROM citycache.dead_letters")
        assert not [secret for secret in PERSONAL if secret in logs + kept]
        assert plain.one("SELECT count(*) FROM citycache.dead_letters") == 0
        wrong = plain.one("""
            SELECT count(*) FROM citycache.task_runs
             WHERE task NOT IN ('apply_catalog_events', 'apply_wide_patches') AND trigger <> 'beat'""")
        assert wrong == 0, "something else than events has changed the caches"
