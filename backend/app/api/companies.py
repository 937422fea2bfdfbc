"""Companies of the catalog."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from backend.app.api import database, paging
from backend.app.api.fresh.asking import tell
from backend.app.api.paging import After, FilterId, Limit, Page, RowId
from backend.app.api.problems import documented
from backend.app.api.removal import LARGE, remove
from backend.app.api.security import GUARDED, writes
from backend.app.api.security import router as guarded_router
from backend.app.api.values import Body, FilterText, Reference, Text, optional
from backend.app.catalog import rows
from backend.app.catalog.rows import COMPANIES, COMPANY_ROWS

router = guarded_router(prefix="/companies", tags=["catalog"], responses=documented(422, 503))


class NewCompany(Body):
    """A company to create."""

    name: Text
    external_id: Text | None = None
    city_id: Reference | None = None
    is_active: bool = optional()


class ChangedCompany(Body):
    """What to change of a company; `city_id: null` takes it out of its city."""

    name: Text = optional()
    external_id: Text | None = None
    city_id: Reference | None = None
    is_active: bool = optional()


class CompanyOut(BaseModel):
    """A company."""

    id: int
    external_id: str | None
    name: str | None
    city_id: int | None
    is_active: bool | None
    created_at: datetime | None
    updated_at: datetime | None


@router.get("", response_model=Page[CompanyOut])
def list_companies(
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: After = None,
    city_id: FilterId = None,
    is_active: bool | None = None,
    external_id: FilterText = None,
) -> Any:
    """Companies in the order of their ids."""
    wanted = {"city_id": city_id, "is_active": is_active, "external_id": external_id}
    filters = [COMPANY_ROWS.c[name] == value for name, value in wanted.items() if value is not None]
    last = paging.id_of(after)
    with database.transaction() as connection:
        found = rows.listed(connection, COMPANY_ROWS, filters, last, limit)
    return paging.page(request, response, found, limit, lambda row: paging.cursor_of([row["id"]]))


@router.post(
    "",
    status_code=201,
    response_model=CompanyOut,
    dependencies=writes("operate"),
    responses={**GUARDED, **documented(409)},
)
def create_company(company: NewCompany, request: Request, response: Response, trace: database.Trace) -> Any:
    """Create a company; 409 when its external id is taken, 422 when its city is not there."""
    with database.transaction(trace) as connection:
        created = rows.create(connection, COMPANIES, company.given())
    response.headers["Location"] = f"{request.url.path}/{created['id']}"
    tell(response, "company", created["id"])
    return created


@router.get("/{company_id}", response_model=CompanyOut, responses=documented(404))
def get_company(company_id: RowId) -> Any:
    """One company."""
    with database.transaction() as connection:
        return rows.find(connection, COMPANIES, company_id)


@router.patch(
    "/{company_id}",
    response_model=CompanyOut,
    dependencies=writes("operate"),
    responses={**GUARDED, **documented(404, 409)},
)
def change_company(company_id: RowId, company: ChangedCompany, response: Response, trace: database.Trace) -> Any:
    """Change some fields of a company; its products go with it to another city."""
    tell(response, "company", company_id)
    with database.transaction(trace) as connection:
        return rows.change(connection, COMPANIES, company_id, company.given())


@router.delete(
    "/{company_id}", status_code=204, dependencies=writes("operate"), responses={**GUARDED, **LARGE, **documented(404)}
)
def delete_company(company_id: RowId, trace: database.Trace) -> Response:
    """Delete a company and all its products."""
    return remove(COMPANIES, "company", company_id, trace)
