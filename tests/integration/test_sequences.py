"""Ids that somebody chose, also at the end of bigint, stop nobody from creating rows."""

from __future__ import annotations

import io
import json

import pytest

from backend.app.catalog.feed.importing import import_feed
from tests.integration.api import V1, Client
from tests.plain import Plain

MOST = 2**63 - 1
CHOSEN = (
    [MOST],
    [MOST - 1, MOST],
    [1, 2, 3, MOST],
    [2**62 - 1, 2**62, 2**62 + 1],
    [MOST - 2**20 - 1],
    [-(2**63), -1, 0],
    [2**53, 5, 4, 3, 2, 1],
)


@pytest.mark.parametrize("chosen", CHOSEN, ids=str)
@pytest.mark.parametrize("start", [1, 2**62, MOST - 1, MOST], ids=str)
def test_rows_are_created_beside_ids_at_the_ends(api: Client, plain: Plain, chosen: list[int], start: int) -> None:
    plain.run("INSERT INTO cities (id, name) SELECT id, 'chosen' FROM unnest(%s::bigint[]) AS id", (chosen,))
    plain.run("SELECT setval('cities_id_seq', %s)", (start,))

    made = [api.post(f"{V1}/cities", json={"name": "made"}) for _ in range(4)]

    assert [answer.status_code for answer in made] == [201] * 4
    assert len({answer.json()["id"] for answer in made} | set(chosen)) == 4 + len(chosen)


def test_each_noun_is_created_after_its_sequence_has_come_to_its_end(api: Client, plain: Plain) -> None:
    for table in ("cities", "companies", "products"):
        plain.run(f"SELECT setval('{table}_id_seq', {MOST})")

    city = api.post_ok("/cities", name="c")
    company = api.post_ok("/companies", name="c", city_id=city["id"])
    assert api.post_ok("/products", name="p", company_id=company["id"])["id"] > 0


def test_a_feed_is_imported_after_a_sequence_has_come_to_its_end(plain: Plain, configured_database: None) -> None:
    plain.run(f"INSERT INTO cities (id, name) VALUES ({MOST}, 'last'); SELECT setval('cities_id_seq', {MOST})")
    lines = [{"op": "create", "kind": "city", "id": f"c{n}", "name": "c"} for n in range(3)]

    import_feed(io.BytesIO("".join(json.dumps(line) + chr(10) for line in lines).encode()), "feed.jsonl")

    assert plain.one("SELECT count(*) FROM cities WHERE external_id LIKE 'c%'") == 3
