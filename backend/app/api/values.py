"""Types that fields of several nouns share; whatever passes them, PostgreSQL takes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from backend.app.api.paging import BIGINT_MAX, BIGINT_MIN

MOST: Final = 300  # characters of a name or an external id
SEEN: Final = r"^[^\x00]*[^\x00\s][^\x00]*$"  # something that can be seen, and no NUL

Text = Annotated[str, Field(min_length=1, max_length=MOST, pattern=SEEN)]
Reference = Annotated[int, Field(ge=BIGINT_MIN, le=BIGINT_MAX)]
Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
Kind = Literal["product", "service"]
FilterText = Annotated[str | None, Query(min_length=1, max_length=MOST, pattern=SEEN)]


class Body(BaseModel):
    """A request's body: exact types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")

    def given(self) -> dict[str, Any]:
        """The fields that the request has; what it leaves out stays, or takes the column's default."""
        return self.model_dump(exclude_unset=True)


def optional() -> Any:
    """The default of a field that may be left out but not be null."""
    return Field(default=None)
