"""Cities of the catalog with their counts, and what can be bought in each: counts and lists come from the caches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field, RootModel
from starlette.datastructures import URL

from backend.app.api import database, paging
from backend.app.api.conditional import Document, Validated
from backend.app.api.fresh.asking import CACHED, tell
from backend.app.api.paging import After, Limit, Page, RowId
from backend.app.api.problems import documented
from backend.app.api.reading.lookup import Answer, Lookup, encode, of_rows
from backend.app.api.reading.sessions import Session
from backend.app.api.removal import LARGE, remove
from backend.app.api.security import GUARDED, writes
from backend.app.api.security import router as guarded_router
from backend.app.api.values import Body, FilterText, Kind, Latitude, Longitude, Text, optional
from backend.app.caches import reads, tree
from backend.app.caches.reads import Read, Row
from backend.app.catalog import definition, rows
from backend.app.catalog.rows import CITIES
from backend.app.settings import settings

router = guarded_router(prefix="/cities", tags=["catalog"], responses=documented(422, 503))

Sort = Literal[
    "id", "-id", "name", "-name", "products_count", "-products_count",
    "services_count", "-services_count", "companies_count", "-companies_count",
]  # fmt: skip
KEYS_OF_SORTS: Final[dict[str, tuple[type, ...]]] = {"id": (int,), "name": (str, int)}


class NewCity(Body):
    """A city to create."""

    name: Text
    external_id: Text | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class ChangedCity(Body):
    """What to change of a city."""

    name: Text = optional()
    external_id: Text | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class CityOut(BaseModel):
    """A city and how much the caches count in it."""

    id: int
    external_id: str | None
    name: str | None
    latitude: float | None
    longitude: float | None
    products_count: int
    services_count: int
    companies_count: int


class CityProduct(BaseModel):
    """A product or service that can be bought in the city."""

    product_id: int
    external_id: str | None
    name: str | None
    kind: Kind
    company_id: int
    company_name: str | None
    mapped_at: datetime


class CityCompany(BaseModel):
    """A company in the city."""

    company_id: int
    external_id: str | None
    name: str | None
    mapped_at: datetime


@router.get("", response_model=Page[CityOut], responses=Validated, dependencies=[CACHED])
async def list_cities(
    request: Request,
    limit: Limit = 100,
    after: After = None,
    sort: Annotated[Sort, Query(description="A leading '-' turns the order round.")] = "id",
    external_id: FilterText = None,
) -> Any:
    """Cities with their counts, in the wanted order."""
    by = sort.removeprefix("-")
    key = paging.key_of(after, *KEYS_OF_SORTS.get(by, (int, int)))
    names = ("id",) if by == "id" else (by, "id")
    url = request.url

    def told(rows: list[Row]) -> Document:
        found, changed = reads.split(rows)
        return _page(url, found, limit, names, changed)

    return await request.app.state.answers.of(
        request, of_rows(reads.cities(sort, key, limit, external_id), told, "cities")
    )


@router.post(
    "",
    status_code=201,
    response_model=CityOut,
    dependencies=writes("operate"),
    responses={**GUARDED, **documented(409)},
)
def create_city(city: NewCity, request: Request, response: Response, trace: database.Trace) -> Any:
    """Create a city; 409 when its external id is taken."""
    with database.transaction(trace) as connection:
        created = rows.create(connection, CITIES, city.given())
        found = reads.city_now(connection, created["id"])
    response.headers["Location"] = f"{request.url.path}/{created['id']}"
    tell(response, "city", created["id"])
    return found


class PlaceOut(BaseModel):
    """A city, or what cities belong to, with the sum of what is below it."""

    id: int
    name: str | None
    level: str = Field(description="'city', or the level's name in the catalog's definition.")
    count: int
    children: list[PlaceOut]


class Tree(RootModel[list[PlaceOut]]):
    """The widest places first; the cities, flat, where the definition has no levels."""


@router.get("/tree", response_model=Tree, responses=Validated, tags=["caches"], dependencies=[CACHED])
async def get_tree(
    request: Request,
    count: Annotated[tree.Counted, Query(description="What to count.")] = "products",
    everything: Annotated[bool, Query(alias="all", description="Places without any of these as well.")] = False,
) -> Any:
    """Cities by region, district or country, as the catalog's definition has them, with sums of the cached counts."""
    levels = tuple(level.name for level in definition.current().levels)
    trees: tree.Trees = request.app.state.trees

    def put(session: Session) -> Answer:
        of_replica = bool(settings().database_read_url)
        found, since = trees.ask(session.tuples, levels, count, everything, of_replica)
        return Document(found), since

    return await request.app.state.answers.of(request, Lookup(put, "levels"))


@router.get("/{city_id}", response_model=CityOut, responses={**Validated, **documented(404)}, dependencies=[CACHED])
async def get_city(city_id: RowId, request: Request) -> Any:
    """One city with its counts."""

    def told(rows: list[Row]) -> Document:
        found, changed = reads.one_city(rows, city_id)
        return Document(encode(found), changed)

    return await request.app.state.answers.of(request, of_rows(reads.city(city_id), told, "cities"))


@router.patch(
    "/{city_id}", response_model=CityOut, dependencies=writes("operate"), responses={**GUARDED, **documented(404, 409)}
)
def change_city(city_id: RowId, city: ChangedCity, response: Response, trace: database.Trace) -> Any:
    """Change some fields of a city."""
    tell(response, "city", city_id)
    with database.transaction(trace) as connection:
        rows.change(connection, CITIES, city_id, city.given())
        return reads.city_now(connection, city_id)


@router.delete(
    "/{city_id}", status_code=204, dependencies=writes("operate"), responses={**GUARDED, **LARGE, **documented(404)}
)
def delete_city(city_id: RowId, trace: database.Trace) -> Response:
    """Delete a city; its companies stay, without a city."""
    return remove(CITIES, "city", city_id, trace)


@router.get(
    "/{city_id}/products",
    response_model=Page[CityProduct],
    responses={**Validated, **documented(404)},
    tags=["caches"],
    dependencies=[CACHED],
)
async def list_city_products(
    city_id: RowId,
    request: Request,
    limit: Limit = 100,
    after: After = None,
    kind: Annotated[Kind | None, Query()] = None,
) -> Any:
    """What can be bought in the city, in the order of product ids."""
    read = reads.city_products(city_id, kind, paging.id_of(after), limit)
    return await _in_city(request, read, city_id, "product_id", limit)


@router.get(
    "/{city_id}/companies",
    response_model=Page[CityCompany],
    responses={**Validated, **documented(404)},
    tags=["caches"],
    dependencies=[CACHED],
)
async def list_city_companies(city_id: RowId, request: Request, limit: Limit = 100, after: After = None) -> Any:
    """Companies in the city, in the order of their ids."""
    read = reads.city_companies(city_id, paging.id_of(after), limit)
    return await _in_city(request, read, city_id, "company_id", limit)


async def _in_city(request: Request, read: Read, city_id: int, key: str, limit: int) -> Document:
    url, answers = request.url, request.app.state.answers

    def told(rows: list[Row]) -> Document:
        found, changed = reads.of_city(rows, city_id, key)
        return _page(url, found, limit, (key,), changed)

    found: Document = await answers.of(request, of_rows(read, told))
    return found


def _page(url: URL, rows: list[Row], limit: int, keys: Sequence[str], changed: datetime | None) -> Document:
    next_page = paging.following(url, rows, limit, lambda row: paging.cursor_of([row[key] for key in keys]))
    return Document(encode({"items": rows[:limit], "next": next_page}), changed, following=next_page)
