"""What is under way is never called wrong by auditor, rebuild or recount; what is wrong is found."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from backend.app.caches.patch import LOCK_CLASS
from tests import catalogs
from tests.faults.plant import Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts

LARGE: Final = 1  # a company that is too large for a batch
REBUILDS: Final = ("update-product-city-cache", "update-company-city-cache", "update-cities-product-count")
ROUND: Final = 60.0  # seconds for the auditor's rounds
DRIFT: Final = "SELECT coalesce(sum((result ->> 'drift')::int), 0) FROM task_runs WHERE result ? 'drift'"
UNENDED: Final = "SELECT count(*) FROM task_runs WHERE finished_at IS NULL AND state IN ('PENDING', 'STARTED')"


@pytest.fixture
def plant(databases: Databases, vhosts: Vhosts, tmp_path: Path) -> Iterator[Plant]:
    """A pipeline with an impatient auditor; 8 cities, 20 companies, 500 products, 200 more of the large company."""
    impatient = {
        "OBSERVER": "true",
        "AUDIT_GRACE_SECONDS": "0.5",
        "AUDIT_CORE_SHARE": "0.2",
        "DRIFT_GRACE_SECONDS": "1",
    }
    with plant_on(databases, vhosts, tmp_path, WIDE_PATCH_KEYS="50", **impatient) as plant:
        with plant.sql() as sql:
            catalogs.many(sql, cities=8, companies=20, products=500)
            sql.run("INSERT INTO products (company_id, name) SELECT 1, 'p' FROM generate_series(1, 200)")
        plant.start(["relay", "worker", "api"])
        plant.drain(120)
        yield plant


@pytest.fixture
def sql(plant: Plant) -> Iterator[Plain]:
    with plant.sql() as plain:
        yield plain


@contextmanager
def held_lane(plant: Plant, lane: int) -> Iterator[None]:
    """Nobody patches products of this lane meanwhile."""
    with plant.sql() as holder:
        holder.run("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, lane))
        yield


def audited(plant: Plant, sql: Plain, rounds: int = 2) -> None:
    """So many rounds of the auditor, at least, and a little more than its grace."""
    checked = "SELECT coalesce(sum(checked), 0) FROM audit_minutes WHERE cache = 'products'"
    goal = sql.one(checked) + rounds * sql.one("SELECT count(*) FROM products")
    plant.wait_until(lambda: sql.one(checked) >= goal, ROUND, "the auditor comes round")


def blamed(sql: Plain) -> tuple[list[Any], int]:
    """What anybody has called wrong."""
    return sql.all("SELECT cache, key, side FROM audit_findings ORDER BY id"), sql.one(DRIFT)


def test_products_of_a_large_company_that_wait_for_a_lane_are_not_wrong(plant: Plant, sql: Plain) -> None:
    with held_lane(plant, 3):
        sql.run("UPDATE companies SET city_id = 7 WHERE id = %s", (LARGE,))
        plant.wait_until(lambda: sql.one("SELECT count(*) FROM wide_patches") == 1, 30, "it is requested")
        audited(plant, sql, 3)
        assert blamed(sql) == ([], 0)
    plant.drain(120)
    audited(plant, sql)
    assert blamed(sql) == ([], 0)
    assert plant.violations() == []


def test_cities_that_come_and_go_while_the_relay_stands_still_are_late_and_not_wrong(plant: Plant, sql: Plain) -> None:
    plant.stop(["relay"])
    sql.run("INSERT INTO cities (id, name) VALUES (77, 'new')")
    sql.run("UPDATE companies SET city_id = 1 WHERE city_id = 8")
    sql.run("DELETE FROM cities WHERE id = 8")
    audited(plant, sql, 2)
    for rebuild in reversed(REBUILDS):  # each recounts; the first one finds the rows
        plant.post(f"celery/tasks/{rebuild}")
        plant.wait_until(lambda: not sql.one(UNENDED), 60, "the rebuild ends")
    assert blamed(sql) == ([], 0)
    recount = sql.one("SELECT result FROM task_runs WHERE task = 'update_cities_product_count' ORDER BY queued_at DESC")
    assert (recount["missing"], recount["drift"], recount["settled"]) == (1, 0, False)
    assert recount["delayed"] >= 1
    plant.start(["relay"])
    plant.drain(120)
    assert plant.violations() == []


@pytest.mark.calm
class TestCalm:
    def test_a_history_of_delays_has_no_wrong_row_and_tampering_is_found_after_it(
        self, plant: Plant, sql: Plain
    ) -> None:
        dice, until = random.Random(1), time.monotonic() + 25
        steps = _steps(plant, sql, dice)
        while time.monotonic() < until:
            dice.choice(steps)()
        plant.start([] if plant.runs("relay") else ["relay"])
        plant.drain(180)
        plant.wait_until(lambda: not sql.one(UNENDED), 120, "the rebuilds end")
        audited(plant, sql)
        assert blamed(sql) == ([], 0)
        assert plant.violations() == []

        sql.run(
            "DELETE FROM product_city_mapping WHERE product_id = (SELECT min(product_id) FROM product_city_mapping)"
        )
        sql.run("UPDATE city_counts SET companies_count = companies_count + 1 WHERE city_id = 2")
        plant.wait_until(lambda: {row[0] for row in blamed(sql)[0]} >= {"products", "counts"}, ROUND, "it is found")
        plant.wait_until(lambda: not plant.violations(), ROUND, "it is mended")


def _steps(plant: Plant, sql: Plain, dice: random.Random) -> list[Callable[[], Any]]:
    def move_large() -> None:
        sql.run("UPDATE companies SET city_id = %s WHERE id = %s", (dice.randint(1, 7), LARGE))

    def change_in_savepoints() -> None:
        with Plain(plant.servers[0], autocommit=False) as writer:
            for _ in range(dice.randint(1, 3)):
                writer.run("SAVEPOINT here")
                writer.run("UPDATE products SET is_active = NOT is_active WHERE id %% 50 = %s", (dice.randrange(50),))
                writer.run("ROLLBACK TO here" if dice.random() < 0.3 else "RELEASE here")
            writer.commit()

    def come_and_go() -> None:
        sql.run("INSERT INTO cities (id, name) VALUES (%s, 'c') ON CONFLICT DO NOTHING", (dice.randint(100, 120),))
        sql.run("DELETE FROM cities WHERE id = %s", (dice.randint(100, 120),))

    def drop_and_make_again() -> None:
        sql.run("DELETE FROM products WHERE id = %s", (key := dice.randint(2, 500),))
        sql.run("INSERT INTO products (id, company_id, name) VALUES (%s, %s, 'again')", (key, dice.randint(2, 20)))

    def hold_a_lane() -> None:
        with held_lane(plant, dice.randrange(8)):
            move_large()
            audited(plant, sql, 1)

    def stop_or_start_the_relay() -> None:
        plant.stop(["relay"]) if plant.runs("relay") else plant.start(["relay"])

    def rebuild() -> None:
        plant.post(f"celery/tasks/{dice.choice(REBUILDS)}")

    often = [move_large, change_in_savepoints, come_and_go, drop_and_make_again] * 3
    return [*often, hold_a_lane, stop_or_start_the_relay, rebuild]
