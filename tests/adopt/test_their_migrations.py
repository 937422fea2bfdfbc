"""Their migrations go on while events come: no writer fails for our sake, nothing is lost, and what lacks is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from backend.app import db
from backend.app.adopting.doctor import look
from backend.app.caches import diff
from backend.app.health.answer import Answer
from backend.app.health.judge import Judge
from backend.app.health.kinds import KINDS
from backend.app.health.signs import Signs, stored
from tests.adopt.following import adopt_here, beside, follow
from tests.adopt.marketplace import Marketplace
from tests.adopt.shop import DEFINITION, changed
from tests.plain import Plain

AGAIN: Final = """
    CREATE TABLE {table}_new (LIKE {table} INCLUDING ALL); INSERT INTO {table}_new SELECT * FROM {table};
    DROP TABLE {table}; ALTER TABLE {table}_new RENAME TO {name}"""


@dataclass(frozen=True)
class Migration:
    """What they do, and what follows from it."""

    sql: str
    named: str = ""  # by the doctor; empty: nothing is missed
    changed: Mapping[str, str] = field(default_factory=dict)  # in the definition, before it is adopted again
    sellers: str = "shop.sellers"  # where they are afterwards
    id: str = "id"


MIGRATIONS: Final = {
    "a column more": Migration("ALTER TABLE shop.sellers ADD COLUMN more int DEFAULT 1"),
    "a column less that nobody uses": Migration("ALTER TABLE shop.goods DROP COLUMN secret"),
    "another type of a key": Migration("ALTER TABLE shop.sellers ALTER id TYPE integer"),
    "another type of a city's key": Migration(
        'ALTER TABLE "Orte"."Städte" ALTER "Nr" TYPE bigint', "not this version's: watch_3_ids"
    ),
    "another type of a watched key": Migration(
        "ALTER TABLE shop.addresses ALTER id TYPE bigint", "not this version's: watch_2_ids"
    ),
    "another type of a condition": Migration("ALTER TABLE shop.sellers ALTER state TYPE varchar(9)"),
    "another name": Migration(
        "ALTER TABLE shop.sellers RENAME state TO status", "shop.sellers has no column state",
        {"state = 'live'": "status = 'live'"},
    ),
    "another name of a key": Migration(
        "ALTER TABLE shop.sellers RENAME id TO nr", "shop.sellers has no column id",
        {'sellers"\nid = "id"': 'sellers"\nid = "nr"', "sellers.id": "sellers.nr"}, id="nr",
    ),
    "another name of a watched key": Migration(
        "ALTER TABLE shop.addresses RENAME id TO nr", "shop.addresses has no column id",
        {"a.id": "a.nr", "changed.id": "changed.nr", '["id"]': '["nr"]'},
    ),
    "a column less": Migration(
        "ALTER TABLE shop.goods DROP COLUMN visible", "shop.goods has no column visible", {"visible AND ": ""}
    ),
    "another name of a table": Migration(
        "ALTER TABLE shop.sellers RENAME TO vendors", "there is no table shop.sellers any more",
        {"shop.sellers": "shop.vendors", "sellers.id": "vendors.id"}, "shop.vendors",
    ),
    "a table made anew": Migration(AGAIN.format(table="shop.sellers", name="sellers"), "shop.sellers lacks triggers"),
    "a link made anew": Migration(
        AGAIN.format(table="shop.seller_addresses", name="seller_addresses"), "shop.seller_addresses lacks triggers"
    ),
    "a column made anew": Migration("""
        ALTER TABLE shop.sellers RENAME state TO old; ALTER TABLE shop.sellers ADD state text;
        UPDATE shop.sellers SET state = old; ALTER TABLE shop.sellers DROP old"""),
}  # fmt: skip
WRITES: Final = (
    "UPDATE {sellers} SET title = 'new' WHERE {id} % 3 = 0",
    "DELETE FROM {sellers} WHERE {id} = 9",
    "UPDATE shop.goods SET seller = 1 + seller % 60 WHERE id % 4 = 1",
    "DELETE FROM shop.goods WHERE id % 50 = 7",
    'UPDATE shop.addresses SET "stadt Nr" = 1 + ("stadt Nr" + 3) % 10 WHERE street IS NOT NULL',
    "UPDATE shop.seller_addresses SET seller_id = 1 + seller_id % 60 WHERE seller_id % 7 = 0",
    'UPDATE "Orte"."Städte" SET offen = NOT offen WHERE "Nr" = 4',
)


@pytest.fixture
def shop(adopted_shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marketplace]:
    market = Marketplace(adopted_shop, tmp_path / "catalog.toml")
    market.file.write_text(DEFINITION, encoding="utf-8")
    with beside(market, monkeypatch):
        yield market


@pytest.mark.parametrize("migration", MIGRATIONS.values(), ids=MIGRATIONS.keys())
def test_their_migrations_go_on(shop: Marketplace, monkeypatch: pytest.MonkeyPatch, migration: Migration) -> None:
    with Plain(shop.url, name="writer") as writer:
        _write(writer, Migration(""))
        writer.run(migration.sql)
        _write(writer, migration)

        found = [finding.found for finding in look() if finding.is_well is False]
        assert bool(found) == bool(migration.named)
        assert any(migration.named in sentence for sentence in found) or not found, found
        waiting = _waiting(writer) if migration.changed else follow()

        shop.file.write_text(changed(DEFINITION, migration.changed), encoding="utf-8")
        with beside(shop, monkeypatch):
            adopt_here()
            assert not migration.changed or _waiting(writer) == waiting
            _write(writer, migration)
            follow()
            assert [one.name for one in look() if not one.is_well] == ["past capture"]  # nobody looks for that
            with db.transaction() as connection:
                assert [what for what in diff.TABLES if diff.compare(connection, what).keys] == []


def test_a_function_that_somebody_has_changed_is_named(shop: Marketplace) -> None:
    """In a schema whose name has a blank as well."""
    with Plain(shop.url) as writer:
        made = writer.one("""SELECT pg_get_functiondef('"City Cache".capture_product_updated'::regproc)""")
        writer.run(made.replace("BEGIN", "BEGIN  ").replace("%", "%%"))

    assert [one.found for one in look() if one.name == "functions"] == ["not this version's: capture_product_updated"]


def test_a_table_that_is_gone_is_named_once_and_not_by_its_columns(shop: Marketplace) -> None:
    with Plain(shop.url) as writer:
        writer.run("ALTER TABLE shop.sellers RENAME TO vendors")

    told = [finding.found for finding in look() if finding.name in ("table", "column")]
    wrong = Judge().judge(Signs(Answer(stored()), Answer())).wrong

    assert told == ["there is no table shop.sellers any more: events wait"]
    assert [one.effect for one in wrong if KINDS[one.kind].part == "capture"] == [
        "Events wait: there is no table shop.sellers any more, which the catalog's definition uses."
    ]


def _write(writer: Plain, migration: Migration) -> None:
    for statement in WRITES:
        writer.run(statement.format(sellers=migration.sellers, id=migration.id))


def _waiting(plain: Plain) -> int:
    """Events that wait while something lacks that the definition uses."""
    return int(plain.one('SELECT count(*) FROM "City Cache".event_outbox'))
