"""Products and services of the catalog."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, get_args

from fastapi import Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import select

from backend.app.api import database, paging
from backend.app.api.fresh.asking import tell
from backend.app.api.paging import After, FilterId, Limit, Page, RowId
from backend.app.api.problems import documented
from backend.app.api.security import GUARDED, writes
from backend.app.api.security import router as guarded_router
from backend.app.api.values import Body, FilterText, Kind, Reference, Text, optional
from backend.app.catalog import definition, rows
from backend.app.catalog.rows import COMPANY_ROWS, PRODUCT_ROWS, PRODUCTS

BY_ACTIVITY: Final = [PRODUCT_ROWS.c.is_active == is_active for is_active in (True, False)]
BY_KIND: Final = [PRODUCT_ROWS.c.kind == kind for kind in get_args(Kind)]
router = guarded_router(prefix="/products", tags=["catalog"], responses=documented(422, 503))


class NewProduct(Body):
    """A product or service to create."""

    name: Text
    company_id: Reference
    external_id: Text | None = None
    kind: Kind = optional()
    is_active: bool = optional()


class ChangedProduct(Body):
    """What to change of a product; another `company_id` moves it."""

    name: Text = optional()
    company_id: Reference = optional()
    external_id: Text | None = None
    kind: Kind = optional()
    is_active: bool = optional()


class ProductOut(BaseModel):
    """A product (goods) or a service."""

    id: int
    external_id: str | None
    company_id: int | None
    name: str | None
    kind: str | None
    is_active: bool | None
    created_at: datetime | None
    updated_at: datetime | None


@router.get("", response_model=Page[ProductOut])
def list_products(
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: After = None,
    company_id: FilterId = None,
    city_id: FilterId = None,
    kind: Annotated[Kind | None, Query()] = None,
    is_active: bool | None = None,
    external_id: FilterText = None,
) -> Any:
    """Products in the order of their ids; `city_id` means that of their company."""
    wanted = {"company_id": company_id, "kind": kind, "is_active": is_active, "external_id": external_id}
    asked = {name: value for name, value in wanted.items() if value is not None}
    filters: list[Any] = [PRODUCT_ROWS.c[name] == value for name, value in asked.items()]
    if city_id is not None:
        filters.append(
            PRODUCT_ROWS.c.company_id.in_(select(COMPANY_ROWS.c.id).where(COMPANY_ROWS.c.city_id == city_id))
        )
    last, parts = paging.id_of(after), () if city_id is not None else parts_of(asked)
    with database.transaction() as connection:
        found = rows.listed(connection, PRODUCT_ROWS, filters, last, limit, parts)
    return paging.page(request, response, found, limit, lambda row: paging.cursor_of([row["id"]]))


def parts_of(asked: Collection[str]) -> Sequence[Any]:
    """Products of our own have one index by activity and kind: where these filters are one of the two alone, each value
    of the other is a part of it."""
    if len(asked) != 1 or definition.current().is_adopted:
        return ()
    return BY_ACTIVITY if "kind" in asked else BY_KIND if "is_active" in asked else ()


@router.post(
    "",
    status_code=201,
    response_model=ProductOut,
    dependencies=writes("operate"),
    responses={**GUARDED, **documented(409)},
)
def create_product(product: NewProduct, request: Request, response: Response, trace: database.Trace) -> Any:
    """Create a product; 409 when its external id is taken, 422 when its company is not there."""
    with database.transaction(trace) as connection:
        created = rows.create(connection, PRODUCTS, product.given())
    response.headers["Location"] = f"{request.url.path}/{created['id']}"
    tell(response, "product", created["id"])
    return created


@router.get("/{product_id}", response_model=ProductOut, responses=documented(404))
def get_product(product_id: RowId) -> Any:
    """One product."""
    with database.transaction() as connection:
        return rows.find(connection, PRODUCTS, product_id)


@router.patch(
    "/{product_id}",
    response_model=ProductOut,
    dependencies=writes("operate"),
    responses={**GUARDED, **documented(404, 409)},
)
def change_product(product_id: RowId, product: ChangedProduct, response: Response, trace: database.Trace) -> Any:
    """Change some fields of a product."""
    tell(response, "product", product_id)
    with database.transaction(trace) as connection:
        return rows.change(connection, PRODUCTS, product_id, product.given())


@router.delete(
    "/{product_id}", status_code=204, dependencies=writes("operate"), responses={**GUARDED, **documented(404)}
)
def delete_product(product_id: RowId, response: Response, trace: database.Trace) -> None:
    """Delete a product."""
    tell(response, "product", product_id)
    with database.transaction(trace) as connection:
        rows.remove(connection, PRODUCTS, product_id)
