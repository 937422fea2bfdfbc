"""A city's week: its counts hour by hour, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.app.observing import city_hours
from tests.integration.api import Client
from tests.plain import Plain

COUNTS = "INSERT INTO city_counts (city_id, products_count, services_count, companies_count) VALUES (%s, %s, 2, 1)"


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    """Cities 1 and 2, with counts."""
    with Plain(database) as plain:
        for city in (1, 2):
            plain.run("INSERT INTO cities (id, name) VALUES (%s, 'a')", [city])
            plain.run(COUNTS, [city, 10 * city])
        yield plain


def an_hour_passes(plain: Plain) -> None:
    for table in ("count_looks", "city_hours"):
        plain.run(f"UPDATE {table} SET at = at - interval '1 hour'")


def test_writes_once_an_hour_and_only_what_changed(plain: Plain) -> None:
    assert [city_hours.run_once(), city_hours.run_once()] == [2, None]

    plain.run("UPDATE city_counts SET products_count = 11 WHERE city_id = 1")
    an_hour_passes(plain)
    assert [city_hours.run_once(), city_hours.run_once()] == [1, None]
    an_hour_passes(plain)
    assert city_hours.run_once() == 0

    assert plain.all("SELECT city_id, products_count FROM city_hours ORDER BY city_id, at") == [
        (1, 10),
        (1, 11),
        (2, 20),
    ]
    assert plain.one("SELECT count(*) FROM count_looks") == 3


def test_tells_the_counts_of_each_look_and_those_of_a_city_that_left_or_was_not_there_as_unknown(
    plain: Plain, api: Client
) -> None:
    city_hours.run_once()
    an_hour_passes(plain)
    plain.run("DELETE FROM city_counts WHERE city_id = 1")
    plain.run(COUNTS, [3, 30])
    city_hours.run_once()
    an_hour_passes(plain)
    city_hours.run_once()

    told = {city: api.read(f"/console/cities/{city}")["counts"] for city in (1, 2, 3)}

    products = {city: [look["products"] for look in looks] for city, looks in told.items()}
    assert products == {1: [10, None, None], 2: [20, 20, 20], 3: [None, 30, 30]}
    assert [look["at"] for look in told[1]] == sorted(look["at"] for look in told[1])


def test_tells_findings_and_incidents_that_touched_the_city_and_no_others(plain: Plain, api: Client) -> None:
    plain.run("""
        INSERT INTO audit_findings (cache, key, side, cached, wanted, found_at, repaired_at) VALUES
            ('products', '5', 'different', '{"city_id": 1}', '{"city_id": 2}', now() - '3 h'::interval,
             now() - '2 h'::interval),
            ('counts', '1', 'different', NULL, NULL, now() - interval '5 minutes', NULL),
            ('companies', '1', 'missing', NULL, '{"city_id": 12}', now() - '20 h'::interval,
             now() - '19 h'::interval)""")
    plain.run("""
        INSERT INTO incidents (kind, began_at, ended_at) VALUES
            ('relay_stands', now() - interval '8 days', now() - interval '8 days'),
            ('relay_stands', now() - interval '3 days', now() - interval '2 days'),
            ('replica_away', now() - interval '2 days', now() - interval '2 days'),
            ('relay_absent', now() - interval '2 days', now() - interval '2 days'),
            ('rows_wrong', now() - interval '20 hours', now() - interval '19 hours'),
            ('rows_wrong', now() - interval '150 minutes', now() - interval '140 minutes'),
            ('run_failed', now() - interval '1 minute', NULL)""")

    one, two, twelve = (api.read(f"/console/cities/{city}") for city in (1, 2, 12))

    assert [[found["key"] for found in told["findings"]] for told in (one, two, twelve)] == [["1", "5"], ["5"], ["1"]]
    shown = [[told["kind"] for told in city["incidents"]] for city in (one, two, twelve)]
    assert shown == [["rows_wrong", "relay_absent", "relay_stands"]] * 3
    assert {told["id"] for told in one["incidents"]} != {told["id"] for told in twelve["incidents"]}


@pytest.mark.parametrize("city", [-5, -(2**63), 2**63 - 1])
def test_tells_the_week_of_any_id(plain: Plain, api: Client, city: int) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (%s, 'a')", [city])
    plain.run(COUNTS, [city, 7])
    city_hours.run_once()
    told = api.read(f"/console/cities/{city}")
    assert ([look["products"] for look in told["counts"]], told["findings"]) == ([7], [])
