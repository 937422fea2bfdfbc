"""How a read asks for fresh rows, and how its answer says what came of it.

There is no token and no state: a subject is fresh when the diff of its key is empty. The rows are read after that, so
they have every write that was committed before the request came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Response
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers, QueryParams
from starlette.types import Scope

from backend.app.api.paging import BIGINT_MAX, BIGINT_MIN
from backend.app.caches.diff import Noun

FRESH: Final = "Citycache-Fresh"
SUBJECT: Final = "Citycache-Subject"
MOST_SUBJECTS: Final = 50  # of one request
WAIT_MS: Final = 1_000
LONGEST_WAIT_MS: Final = 1_500  # the request's own deadline is at 2 s
_SUBJECT: Final = r"(product|company|city)/-?[0-9]{1,19}"
_NOUNS: Final[dict[str, Noun]] = {"product": "product", "company": "company", "city": "city"}
_Wait = Annotated[int, Field(ge=0, le=LONGEST_WAIT_MS, description="Milliseconds to wait for fresh rows, at most.")]
_WAIT: Final = TypeAdapter(_Wait)
Ids = Mapping[Noun, set[int]]


@dataclass(frozen=True)
class Asked:
    """What one request wants to be fresh."""

    ids: Ids
    wait: float  # seconds, at most


def asked(scope: Scope) -> Asked | None:
    """What this request asks for; None: nothing, or something that the route is going to refuse."""
    headers = Headers(scope=scope).getlist(FRESH)
    if not headers and not names_fresh(scope["query_string"]):
        return None
    query = QueryParams(scope["query_string"])
    try:
        ids = subjects([*query.getlist("fresh"), *headers])
        wait = _WAIT.validate_python(query.get("wait", WAIT_MS))
    except ValueError:  # of PydanticCustomError and ValidationError as well
        return None
    return Asked(ids, wait / 1000) if ids else None


def names_fresh(query_string: bytes) -> bool:
    """Whether a query may ask for fresh rows, in whatever way it spells that: `f%72esh` is the same name."""
    return b"fresh" in query_string or (b"%" in query_string and "fresh" in QueryParams(query_string))


def subjects(texts: Iterable[str]) -> dict[Noun, set[int]]:
    """'product/1,company/2' → ids by noun. Raises PydanticCustomError with a sentence."""
    found: dict[Noun, set[int]] = {}
    parts = [part.strip(" \t") for text in texts for part in text.split(",")]
    if len(parts) > MOST_SUBJECTS:
        raise PydanticCustomError("subject", f"more than {MOST_SUBJECTS} subjects")
    for part in parts:
        noun, number = _subject(part)
        found.setdefault(noun, set()).add(number)
    return found


def _subject(text: str) -> tuple[Noun, int]:
    noun, _, number = text.partition("/")
    if not re.fullmatch(_SUBJECT, text, re.ASCII) or not BIGINT_MIN <= int(number) <= BIGINT_MAX:
        sentence = "{text} is no subject: product/ID, company/ID or city/ID are, several separated by commas"
        raise PydanticCustomError("subject", sentence, {"text": repr(text[:80])})
    return _NOUNS[noun], int(number)


def _checked(texts: list[str]) -> list[str]:
    subjects(texts)
    return texts


_EXAMPLES: Final[dict[str, Any]] = {
    "one": {"summary": "what has just been written", "value": ["product/123"]},
    "several": {"summary": "a company with its products, and a city", "value": ["company/7,city/1"]},
}
_MEANING: Final = (
    "Answer as soon as what is cached of these subjects equals the catalog: `product/123`, `company/7` (with all its "
    f"products), `city/1` (its counts), several separated by commas. The answer's `{FRESH}` says yes or no."
)


def _documented(
    fresh: Annotated[list[str], AfterValidator(_checked), Query(description=_MEANING, openapi_examples=_EXAMPLES)] = [],  # noqa: B006
    wait: Annotated[_Wait, Query()] = WAIT_MS,
    citycache_fresh: Annotated[list[str], AfterValidator(_checked), Header(description="The same as `fresh`.")] = [],  # noqa: B006
) -> None:
    """What such a read may ask for; the waiting itself is done before the route has a thread."""


CACHED: Final = Depends(_documented)  # hangs on every route that reads the caches


def tell(response: Response, noun: Noun, row_id: int) -> None:
    """Name what has been written, for a read that is to show it."""
    response.headers[SUBJECT] = f"{noun}/{row_id}"


def describe(paths: dict[str, Any]) -> None:
    """Put both headers of answers into OpenAPI's paths."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            if "fresh" in names:
                _add(operation, FRESH, "Whether all that was asked for is fresh: yes or no. Only where it was asked.")
            elif method != "get" and path.split("/")[3:4] in (["cities"], ["companies"], ["products"]):
                _add(operation, SUBJECT, "What has been written, as `fresh` takes it: product/123.")


def _add(operation: dict[str, Any], header: str, meaning: str) -> None:
    for status, answer in operation["responses"].items():
        if status.startswith(("2", "3")):
            answer.setdefault("headers", {})[header] = {"description": meaning, "schema": {"type": "string"}}
