"""No event is lost or late because its transaction stayed open beside others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.long_transactions import Plan, run
from tests.faults.plant import Plant, plant_on
from tests.faults.writers import end_prepared
from tests.plain import Plain
from tests.servers import Databases, Vhosts


@pytest.fixture
def plant(databases: Databases, vhosts: Vhosts, tmp_path: Path) -> Iterator[Plant]:
    with plant_on(databases, vhosts, tmp_path) as plant:
        yield plant


def test_every_committed_event_of_a_crowd_is_published_soon_while_the_relay_is_killed_and_suspended(
    plant: Plant,
) -> None:
    report = run(plant, Plan(seed=11, transactions=150, longest=4.0, rows=30_000, waves=0))

    assert report.complaints == []
    assert (report.committed > 2_000, report.downs > 0) == (True, True)


def test_every_committed_event_of_a_few_that_are_open_for_long_on_a_quiet_system_is_published_soon(
    plant: Plant,
) -> None:
    report = run(plant, Plan(seed=12, transactions=0, longest=5.0, rows=10_000, waves=7, disturbed=False))

    assert report.complaints == []
    assert report.committed > 5


def test_whatever_a_crash_has_left_prepared_is_ended(database: str) -> None:
    with Plain(database, autocommit=False) as writer:
        for name in ("one", "two"):
            writer.run("INSERT INTO cities (name) VALUES ('prepared')")
            writer.run("PREPARE TRANSACTION %s", (name,))
            writer.commit()
    end_prepared(database, random.Random(1))
    with Plain(database) as reader:
        left = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
        assert reader.one(left) == 0
