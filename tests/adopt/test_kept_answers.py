"""Answers of cities that are kept beside an adopted catalog: given again while nobody changes what they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from backend.app.adopting.attaching import attach
from backend.app.adopting.plan import plan
from backend.app.caches import tree
from backend.app.catalog import definition
from tests.adopt.following import adopt_here, beside
from tests.adopt.marketplace import KUFAR, Marketplace
from tests.integration.api import V1, Client, asked_of_tables, client
from tests.plain import Plain

CITIES: Final = ("/cities?sort=name&limit=500", "/cities/3")
TREES: Final = ("/cities/tree?all=true", "/cities/tree?all=true&count=companies")
ACTIVE: Final = "/caches/active-cities/products"
READS: Final = (*CITIES, *TREES, ACTIVE)
CHANGES: Final = (
    "UPDATE cities SET name = 'renamed' WHERE id = 3",
    "UPDATE cities SET is_active = NOT is_active WHERE id = 3",
    "UPDATE cities SET region_id = (SELECT max(id) FROM regions) WHERE id = 3",
    "INSERT INTO cities (name, country_id, region_id) SELECT 'new', min(country_id), min(id) FROM regions",
    "UPDATE regions SET name = name || '!'",
    "UPDATE regions SET country_id = (SELECT max(id) FROM countries)",
    "UPDATE federal_districts SET name = name || '!'",
    "UPDATE countries SET name = name || '!'",
    "BEGIN; SAVEPOINT a; UPDATE countries SET name = 'a'; ROLLBACK TO a; UPDATE regions SET name = 'b'; COMMIT",
    "INSERT INTO regions (country_id, name, code) SELECT id, 'more', 'x' FROM countries",
    "BEGIN; UPDATE citycache.city_counts SET products_count = 77; UPDATE regions SET name = name || '!'; COMMIT",
    "UPDATE citycache.city_counts SET products_count = 77",
    "TRUNCATE citycache.city_counts",
    "UPDATE citycache.active_cities_cache SET total_products = 77",
)
UNSEEN: Final = (
    "UPDATE products SET price = price + 1 WHERE id < 50",
    "UPDATE companies SET total_views = total_views + 1 WHERE id < 50",
    "UPDATE cities SET population = coalesce(population, 0) + 1",
    "UPDATE cities SET name = name",
    "UPDATE regions SET name = 'other' WHERE false",
    "DELETE FROM countries WHERE false",
)
NOTES: Final = "SELECT count(*) FROM citycache.city_changes"
FORGOTTEN: Final = """
DO $$
DECLARE
    made text;
BEGIN
    FOR made IN SELECT oid::regprocedure FROM pg_proc
                 WHERE pronamespace = 'citycache'::regnamespace AND proname ~ '^(capture_shown_.*|shown_tables)$' LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', made);
    END LOOP;
END $$;
UPDATE citycache.applied_definition SET cities_noted_since = NULL, levels_noted_since = NULL;
DELETE FROM citycache.city_changes"""  # as an earlier release has left it


@pytest.fixture
def market(adopted_kufar: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = Marketplace(adopted_kufar, KUFAR / "catalog.toml")
    monkeypatch.setenv("OBSERVER", "false")
    with beside(market, monkeypatch):
        yield market


@pytest.fixture
def api(market: Marketplace) -> Iterator[Client]:
    with client() as opened:
        yield opened


def all_told(api: Client) -> dict[str, tuple[int, Any]]:
    """What each read answers."""
    return {path: api.told(path) for path in READS}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_what_is_shown_is_shown_at_once(market: Marketplace, api: Client, change: str) -> None:
    """As a process shows it that has kept nothing."""
    with Plain(market.url) as plain:
        before = all_told(api)
        assert all_told(api) == before
        plain.run(change)
        after = all_told(api)
        with client() as other:
            assert after == all_told(other)
        assert after != before


COUNTED: Final = "UPDATE citycache.city_counts SET products_count = products_count + 1 WHERE city_id = 3"


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was made of the places of trees, each time that they were read."""
    found: list[object] = []
    make = tree._shape_of

    def noted(*read: Any) -> Any:
        found.append(make(*read))
        return found[-1]

    monkeypatch.setattr(tree, "_shape_of", noted)
    return found


@pytest.mark.calm
class TestCalm:
    @pytest.mark.parametrize("path", READS)
    def test_beside_writes_that_change_nothing_of_it_no_table_is_asked(
        self, market: Marketplace, api: Client, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = asked_of_tables(monkeypatch)
        with Plain(market.url) as plain:
            assert api.told(path)[0] == 200
            noted = plain.one(NOTES)
            asked.clear()
            for number in range(40):
                plain.run(UNSEEN[number % len(UNSEEN)])
                assert api.told(path)[0] == 200
            assert len(asked) <= 2, "every two seconds"
            assert plain.one(NOTES) == noted

    def test_beside_patches_the_places_of_a_tree_are_not_read_anew(
        self, market: Marketplace, api: Client, shapes: list[object]
    ) -> None:
        with Plain(market.url) as plain:
            before = api.told(TREES[0])[1]
            for number in range(1, 21):
                plain.run(COUNTED)
                assert total(api.told(TREES[0])[1]) == total(before) + number
            assert len(shapes) <= 4, "every second"
            with client() as other:
                assert api.told(TREES[0]) == other.told(TREES[0])


def total(places: list[dict[str, Any]]) -> int:
    """What all of a tree counts."""
    return sum(place["count"] for place in places)


@pytest.mark.parametrize("is_last", [True, False])
def test_what_was_changed_long_before_it_was_committed_is_in_the_tree(
    market: Marketplace, api: Client, is_last: bool
) -> None:
    """Also where others have changed and committed since."""
    with Plain(market.url) as plain, Plain(market.url, autocommit=False) as slow:
        slow.run("UPDATE regions SET name = 'late' WHERE id = (SELECT min(id) FROM regions)")
        for _ in range(3):
            plain.run(COUNTED)
            assert "late" not in api.get(V1 + TREES[0]).text
        if not is_last:
            plain.run("UPDATE regions SET name = 'soon' WHERE id = (SELECT max(id) FROM regions)")
            assert "soon" in api.get(V1 + TREES[0]).text
        slow.commit()
        plain.run(COUNTED)
        assert "late" in api.get(V1 + TREES[0]).text


def test_counts_alone_are_read_by_a_page_of_an_index_and_their_table(market: Marketplace, api: Client) -> None:
    """However many patches were noted, also before anybody has counted the table's rows."""
    with Plain(market.url) as plain:
        plain.run("""
            INSERT INTO citycache.city_changes (xid, of_counts, all_ended_below)
            SELECT n::text::xid8, true, '3' FROM generate_series(3, 100000) AS n ON CONFLICT DO NOTHING""")
        plain.run("UPDATE citycache.city_changes SET of_counts = false WHERE xid = '100000'")
        server = plain.one("SELECT pg_postmaster_start_time()::text")
        statement = "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + tree._statement(3)
        for snapshot, reads_places in (("100001:100001:", False), (plain.one("SELECT pg_current_snapshot()"), True)):
            asked = {"server": server, "snapshot": snapshot, "counted": "products"}
            for _ in range(2):  # what the first one marks as seen, or as gone, is no matter
                told = plain.one("SET search_path = citycache, public; " + statement, asked)
            found = [node for node in nodes(told[0]["Plan"]) if node["Actual Loops"]]
            run = {node.get("Relation Name", node.get("Function Name")) for node in found}
            assert ("regions" in run, "cities" in run) == (reads_places, reads_places)
            assert ("city_counts" in run, "city_changes" in run) == (True, True)
            noted = [node for node in found if node.get("Relation Name") == "city_changes"]
            assert sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in noted) < 10


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def test_what_an_earlier_release_adopted_is_read_anew_until_it_is_adopted_again(
    market: Marketplace, api: Client
) -> None:
    with Plain(market.url) as plain:
        plain.run(FORGOTTEN)
        for number in range(3):
            api.told(CITIES[0])
            plain.run(f"UPDATE cities SET name = 'name {number}' WHERE id = 3")
            assert api.told("/cities/3")[1]["name"] == f"name {number}"
        ran = market.run("doctor")
        assert ran.code == 1
        assert "not this version's: " in ran.out
        assert "citycache adopt FILE --apply" in ran.out
        plain.run("CREATE TABLE public.more () INHERITS (products)")
        assert [name.partition(" on ")[2] for name in attach()] == ["public.more"] * 4
        market.adopt()
        assert market.run("doctor").code == 0
        plain.run("DELETE FROM citycache.city_changes; UPDATE cities SET name = 'seen' WHERE id = 3")
        assert plain.one(NOTES) == 1
        assert api.told("/cities/3")[1]["name"] == "seen"


def test_an_earlier_release_that_adopts_beside_this_one_ends_the_notes(market: Marketplace, api: Client) -> None:
    """It knows nothing of them, and takes their triggers away."""
    with Plain(market.url) as plain:
        plain.run("UPDATE citycache.applied_definition SET began_at = clock_timestamp(), applied_at = NULL")
        plain.run("DROP FUNCTION citycache.capture_shown_1_updated CASCADE")
        assert api.told("/cities/3")[0] == 200
        plain.run("UPDATE cities SET name = 'seen' WHERE id = 3")
        assert api.told("/cities/3")[1]["name"] == "seen"


def test_triggers_that_are_off_are_named_and_those_that_came_later_are_made(market: Marketplace) -> None:
    with Plain(market.url) as plain:
        plain.run("ALTER TABLE regions DISABLE TRIGGER citycache_shown_2_updated")
        plain.run("CREATE TABLE public.more () INHERITS (countries)")
        plain.run("ALTER TABLE citycache.city_counts ENABLE TRIGGER note_city_update")
        said = market.run("doctor")
        assert said.code == 1
        for table in ("public.regions has triggers that are switched off", "public.more lacks", "city_counts lacks"):
            assert table.removeprefix("public.") in said.out, said.out
        assert "may be two seconds old" in said.out
        assert [name.partition(" on ")[2] for name in attach()] == ["public.more"] * 4


OF_OTHERS: Final = """
    CREATE TABLE lands (id int PRIMARY KEY, title text);
    CREATE TABLE words (land int PRIMARY KEY, said text);
    CREATE TABLE towns (id int PRIMARY KEY, name text, land int);
    CREATE TABLE firms (id int PRIMARY KEY, name text, town int);
    CREATE TABLE wares (id int PRIMARY KEY, name text, firm int);
    CREATE VIEW spoken AS SELECT * FROM words;
    INSERT INTO lands VALUES (1, 'one'); INSERT INTO words VALUES (1, 'eins');
    INSERT INTO towns VALUES (3, 'Bonn', 1)"""
DEFINED: Final = """
schema = "citycache"
[city]
table = "public.towns"
id = "id"
name = "name"
[[city.level]]
name = "land"
table = "public.lands"
id = "id"
label = "(SELECT said FROM {words} AS w WHERE w.land = lands.id)"
parent = "land"
[company]
table = "public.firms"
id = "id"
name = "name"
city = "town"
[product]
table = "public.wares"
id = "id"
name = "name"
company = "firm"
"""


@pytest.mark.parametrize(("words", "are_noted"), [("words", True), ("spoken", False)])
def test_names_of_levels_may_be_read_from_elsewhere(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, are_noted: bool
) -> None:
    """From a view as well, which has no triggers: then the tree is read anew, and the plan says so."""
    market = Marketplace(empty_database, tmp_path / "catalog.toml")
    market.file.write_text(DEFINED.format(words=words), encoding="utf-8")
    asked = asked_of_tables(monkeypatch)
    with Plain(empty_database) as plain, beside(market, monkeypatch):
        plain.run(OF_OTHERS)
        found = [check for check in plan(definition.current()).checks if check.name == "levels"]
        assert [check.state for check in found] == ([] if are_noted else ["slow"])
        adopt_here()
        with client() as api:
            for said in ("zwei", "drei"):
                api.told(TREES[0])
                plain.run("UPDATE words SET said = %s", (said,))
                assert [place["name"] for place in api.told(TREES[0])[1]] == [said]
            asked.clear()
            for number in range(10):
                plain.run(f"INSERT INTO wares VALUES ({number}, 'x', 1)")
                api.told("/cities/3")
                api.told(TREES[0])
            assert len(asked) <= 4 if are_noted else len(asked) >= 10
