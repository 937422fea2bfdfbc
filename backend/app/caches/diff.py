"""The one diff: what the caches hold beside what they should hold, read only, in the caller's snapshot.

`verify` prints it, a rebuild feeds it to `patch`, a dry run shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection

from backend.app.caches.keys import Keys
from backend.app.database.statement import run_named, run_named_often
from events.sql_files import statements

SQL: Final = statements(Path(__file__).with_name("diff.sql"))
_all: Final = partial(run_named, SQL)
_often: Final = partial(run_named_often, SQL)
BIGINT_MIN: Final = -(2**63)
BIGINT_MAX: Final = 2**63 - 1

TABLES: Final = {  # what is compared → the table it is kept in
    "products": "product_city_mapping",
    "companies": "company_city_mapping",
    "counts": "city_counts",
    "active": "active_cities_cache",
}
Noun = Literal["product", "company", "city"]
_ROWS: Final = {"products": "product_rows", "companies": "company_rows", "counts": "count_rows"}


@dataclass(frozen=True)
class Difference:
    """One table against the truth: keys, ascending."""

    table: str
    checked: int  # rows compared, counting those on either side
    missing: Sequence[Any]  # should be cached and is not
    extra: Sequence[Any]  # is cached and should not be
    different: Sequence[Any]  # is cached with other values

    @property
    def keys(self) -> list[Any]:
        """All keys that differ, ascending."""
        return sorted([*self.missing, *self.extra, *self.different])

    def summary(self) -> dict[str, int]:
        """Numbers of rows."""
        sides = {"missing": self.missing, "extra": self.extra, "different": self.different}
        return {"checked": self.checked} | {side: len(ids) for side, ids in sides.items()}


@dataclass(frozen=True)
class RowDifference:
    """One row as it is and as it should be; None where there is none."""

    table: str
    key: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def compare(
    connection: Connection, what: str, after: int | None = None, until: int = BIGINT_MAX, city: int | None = None
) -> Difference:
    """Compare one cache ('products', 'companies', 'counts', 'active') with the truth, for ids in (after, until].

    `after` None: from the first id, which may be the least that there is. `city`: of the mappings only what is cached
    there or should be; a row that is cached elsewhere counts as missing.
    """
    row = _all(connection, what, after=after, until=until, city=city)[0]
    return Difference(TABLES[what], row[0], *(sorted(side or ()) for side in row[1:]))


def compare_all(connection: Connection) -> list[Difference]:
    """Compare every cache; consistent only in a snapshot."""
    return [compare(connection, what) for what in TABLES]


def differing(connection: Connection, keys: Keys) -> Keys:
    """Those of the keys, and of the companies' products, whose mapping differs from the truth; cities are not asked."""
    products = _all(connection, "differing_products", ids=list(keys.products), companies=list(keys.companies))
    companies = _all(connection, "differing_companies", ids=list(keys.companies))
    return Keys([row[0] for row in products], [row[0] for row in companies])


def rows(connection: Connection, what: str, ids: Sequence[int]) -> list[RowDifference]:
    """Rows of one cache as they are and as they should be."""
    if what not in _ROWS:
        return []
    return [RowDifference(TABLES[what], *row) for row in _all(connection, _ROWS[what], ids=list(ids))]


def among(connection: Connection, what: str, ids: Sequence[int]) -> Difference:
    """Compare the mappings of these keys ('products', 'companies') with the truth."""
    if what == "products":
        found = _all(connection, "differing_products", ids=list(ids), companies=[])
    else:
        found = _all(connection, "differing_companies", ids=list(ids))
    sides: dict[str, list[int]] = {"missing": [], "extra": [], "different": []}
    for key, is_missing, is_extra in found:
        sides["missing" if is_missing else "extra" if is_extra else "different"].append(key)
    return Difference(TABLES[what], len(ids), **sides)


def stale(connection: Connection, noun: Noun, ids: Sequence[int]) -> set[int]:
    """Those of these subjects of which anything cached differs from the truth, in one snapshot: of a product its
    mapping, of a company its mapping and those of all its products, of a city its counts."""
    if noun == "product":
        return {row[0] for row in _often(connection, "differing_products", ids=list(ids), companies=[])}
    if noun == "company":
        return {key for key in ids if _all(connection, "company_differs", company=key)[0][0]}
    return {row.key for row in rows(connection, "counts", ids) if row.before != row.after}


def moves(connection: Connection, what: str, ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """By how much each count, by city and kind, would move if these mappings were made right."""
    keys = {"products": list[int](), "companies": list[int]()} | {what: list(ids)}
    return {(city, kind): int(by) for city, kind, by in _all(connection, "moves", **keys)}


def uncounted(connection: Connection, cities: Sequence[int] | None = None) -> list[RowDifference]:
    """Of all cities, or of these, those without a row of counts, and rows of zeros that cities left behind; without
    numbers on either side."""
    rows = _all(connection, "uncounted", cities=None if cities is None else list(cities))
    return [RowDifference(TABLES["counts"], *row) for row in rows]


def counts_beside_mappings(connection: Connection) -> list[RowDifference]:
    """Cities whose numbers differ from their mappings, which patches move together: no snapshot may have any."""
    return [RowDifference(TABLES["counts"], *row) for row in _all(connection, "counts_beside_mappings")]


def active_beside_counts(connection: Connection) -> list[str]:
    """Rows of active cities that differ from the counts, with which patches move them."""
    return [row[0] for row in _all(connection, "active_beside_counts")]


def counted(connection: Connection, ids: Sequence[int] | None) -> list[tuple[int, bool, tuple[int, int, int] | None]]:
    """Of these cities, or of all: the id, whether the catalog has it, and its counted products, services, companies."""
    found = _all(connection, "counted", ids=None if ids is None else list(ids))
    return [(row[0], row[1], None if row[2] is None else (row[2], row[3], row[4])) for row in found]


def names_city(connection: Connection, city: int) -> bool:
    """Whether the catalog has this city, or any cache names it."""
    return bool(_all(connection, "names_city", city=city)[0][0])


def window_end(connection: Connection, after: int | None, size: int, city: int | None = None) -> int:
    """The last product id of a window of about `size` rows, of all or of one city, that begins above `after`, or at the
    first id."""
    if _all(connection, "estimate")[0][0] <= size and after is None:
        return BIGINT_MAX
    name = "window_end" if city is None else "city_window_end"
    end = _all(connection, name, after=after, rows=size, city=city)[0][0]
    return BIGINT_MAX if end is None else int(end)
