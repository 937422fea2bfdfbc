"""Times of cached rows: they only go forward, whoever waited for whom, and no date hides a change."""

from __future__ import annotations

import random
import threading
from datetime import datetime
from typing import Any, Final

import pytest

from backend.app import db
from backend.app.caches import rebuilds
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import lock, patch
from backend.app.settings import settings
from tests import catalogs
from tests.integration.api import V1, Client, client, patch_all
from tests.plain import Plain
from tests.waiting import until

CAUSE: Final = Cause("test")
ACTIVE: Final = f"{V1}/caches/active-cities/products"
STEPS: Final = """
    CREATE TABLE steps (what text, before timestamptz, after timestamptz);
    CREATE FUNCTION step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('INSERT INTO steps SELECT %L || $1.%I, $1.%I, $2.%I',
                       TG_TABLE_NAME || '/', TG_ARGV[0], TG_ARGV[1], TG_ARGV[1]) USING OLD, NEW;
        RETURN NULL; END $$;
    CREATE TRIGGER step AFTER UPDATE ON active_cities_cache FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
        EXECUTE FUNCTION step('cache_type', 'last_updated');
    CREATE TRIGGER step AFTER UPDATE ON city_counts FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
        EXECUTE FUNCTION step('city_id', 'updated_at')"""


@pytest.fixture
def cached(configured_database: None, plain: Plain) -> Plain:
    """Three cities with right caches; each change of a dated row is written down."""
    catalogs.many(plain, cities=3, companies=6, products=60)
    patch_all(plain)
    plain.run(STEPS)
    return plain


def patched(*products: int) -> None:
    with db.transaction() as connection:
        patch(connection, Keys(sorted(products)), CAUSE)


def waits(plain: Plain) -> bool:
    return bool(plain.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


def last_updated(plain: Plain) -> datetime:
    found: datetime = plain.one("SELECT last_updated FROM active_cities_cache WHERE cache_type = 'products'")
    return found


def backwards(plain: Plain) -> list[tuple[Any, ...]]:
    assert plain.one("SELECT count(*) FROM steps")
    return plain.all("SELECT * FROM steps WHERE after <= before")


def test_a_patch_that_waited_for_its_lane_is_dated_after_those_that_passed_it(cached: Plain) -> None:
    cached.run("UPDATE products SET is_active = false WHERE id IN (1, 2)")
    with db.transaction() as holder:
        lock(holder, Keys([1]))
        waiting = threading.Thread(target=patched, args=(1,))
        waiting.start()
        until(lambda: waits(cached))
        patched(2)
        passed = last_updated(cached)
    waiting.join(10)

    assert last_updated(cached) > passed
    assert backwards(cached) == []


def test_times_go_on_when_the_clock_goes_back(cached: Plain) -> None:
    ahead = "clock_timestamp() + interval '1 hour'"
    cached.run(f"UPDATE active_cities_cache SET last_updated = {ahead}; UPDATE city_counts SET updated_at = {ahead}")
    cached.run("DELETE FROM steps; UPDATE products SET is_active = false WHERE id <= 20")
    for product in range(1, 21):
        patched(product)
    cached.run("UPDATE city_counts SET products_count = 99; UPDATE active_cities_cache SET total_products = 7")
    cached.run("DELETE FROM steps")
    rebuilds.rebuild("products", CAUSE)
    rebuilds.rebuild_counts(active=True)
    cached.run("UPDATE active_cities_cache SET total_products = 7; DELETE FROM steps")
    rebuilds.rebuild("products", CAUSE)
    rebuilds.empty()

    assert backwards(cached) == []


def test_times_go_forward_over_all_commits_of_a_crowd(cached: Plain, database: str) -> None:
    def work(seed: int) -> None:
        dice = random.Random(seed)
        with Plain(database) as own:
            for _ in range(25):
                ids = sorted({dice.randint(1, 60) for _ in range(4)})
                own.run("UPDATE products SET is_active = NOT is_active WHERE id = ANY(%s)", (ids,))
                patched(*ids)
                if not dice.randrange(8):
                    own.run("UPDATE city_counts SET services_count = services_count + 1, updated_at = updated_at"
                            " + interval '1 microsecond' WHERE city_id = 2")  # fmt: skip
                    rebuilds.rebuild_counts(active=True)

    crowd = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)

    assert backwards(cached) == []


def test_catalog_rows_that_waited_for_each_other_are_dated_in_their_order(api: Client, cached: Plain) -> None:
    cached.run("UPDATE companies SET updated_at = clock_timestamp() + interval '1 hour'")
    before = api.read("/companies/1")["updated_at"]
    assert api.patch(f"{V1}/companies/1", json={"name": "later"}).json()["updated_at"] > before


def test_no_date_hides_a_change_that_was_dated_long_before_its_commit(
    api: Client, cached: Plain, database: str
) -> None:
    cached.run("UPDATE active_cities_cache SET last_updated = '2026-01-31 12:00:00.2Z'")
    with Plain(database, autocommit=False) as slow:
        slow.run("UPDATE active_cities_cache SET total_products = 7, last_updated = '2026-01-31 12:00:00.9Z'")
        shown = api.get(ACTIVE)
        slow.commit()

    again = api.get(ACTIVE, headers={"If-Modified-Since": shown.headers["last-modified"]})

    assert shown.json()["total_products"] != 7
    assert (again.status_code, again.json()["total_products"]) == (200, 7)


def test_a_transaction_that_was_rolled_back_leaves_dates_valid(api: Client, cached: Plain, database: str) -> None:
    cached.run("UPDATE active_cities_cache SET last_updated = '2026-01-31 12:00:00.2Z'")
    with Plain(database, autocommit=False) as undone:
        undone.run("UPDATE active_cities_cache SET total_products = 7")
        undone.rollback()

    date = api.get(ACTIVE).headers["last-modified"]

    assert api.get(ACTIVE, headers={"If-Modified-Since": date}).status_code == 304


def test_a_proxy_in_front_may_keep_what_nobody_waits_for(
    configured_database: None, cached: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSERVER", "false")
    monkeypatch.setenv("SHARED_CACHE_SECONDS", "30")
    settings.cache_clear()
    with client() as api:
        told = [
            api.get(f"{V1}{path}").headers for path in ("/cities", "/cities", "/cities/1", "/cities/1?fresh=city/1")
        ]
        assert told[0]["cache-control"] == "public, max-age=0, s-maxage=30"
        assert told[0]["vary"] == "Citycache-Fresh"
        assert {one["cache-control"] for one in told[:3]} == {told[0]["cache-control"]}
        assert told[3]["cache-control"] == "no-cache"
        etag = {"If-None-Match": told[0]["etag"]}
        assert api.get(f"{V1}/cities", headers=etag).headers["cache-control"] == told[0]["cache-control"]
        asked = api.get(f"{V1}/cities", headers={"Citycache-Fresh": "city/1"})
        assert (asked.headers["cache-control"], asked.headers["citycache-fresh"]) == ("no-cache", "yes")


def test_answers_304_for_no_changed_content_under_load(api: Client, cached: Plain, database: str) -> None:
    over = threading.Event()

    def write() -> None:
        with Plain(database) as own:
            while not over.wait(random.choice((0, 0, 0, 1.2))):
                product = random.randint(1, 60)
                own.run("UPDATE products SET is_active = NOT is_active WHERE id = %s", (product,))
                patched(product)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        known = api.get(ACTIVE)
        for _ in range(400):
            answer = api.get(ACTIVE, headers={"If-Modified-Since": known.headers["last-modified"]})
            if answer.status_code == 304:
                assert answer.headers["etag"] == known.headers["etag"]
            else:
                known = answer
    finally:
        over.set()
        for writer in writers:
            writer.join(20)
