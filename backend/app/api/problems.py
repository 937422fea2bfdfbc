"""Errors as RFC 9457 problem details, whatever raised them; nothing leaves the API as plain text or as a bare 500.

What the asker sent comes back as it was, cut where it is long, or not at all: masking it would tell who guesses a
secret that the guess was right. Masked are texts of servers and drivers alone, in which the asker has no say.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

import psycopg2
import psycopg2.errors
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.app import db
from backend.app.api.edge import methods, paths
from backend.app.catalog.rows import UnknownParent
from backend.app.errors import Away, BadSetting, CitycacheError, Conflict, NotFound, Refused, Unprocessable
from backend.app.telemetry.logs import masked
from events.errors import EventError

log = logging.getLogger(__name__)
MEDIA_TYPE: Final = "application/problem+json"
MOST_ERRORS: Final = 50  # fields of one answer
LONGEST_DETAIL: Final = 2_000  # characters of a detail
LONGEST_INSTANCE: Final = 500  # characters of a path, method or field name that is shown
RETRY_AFTER: Final = {"Retry-After": "1"}
BROKER_FAILURES: Final = ("kombu.exceptions.OperationalError", "amqp.exceptions.")  # by name: the API imports neither
STATUSES: Final[dict[type[CitycacheError], int]] = {
    NotFound: 404,
    Conflict: 409,
    Refused: 409,
    Unprocessable: 422,
    Away: 503,
    BadSetting: 503,
}
OURS: Final = (Away, BadSetting)  # their texts come from servers and settings, not from the request


class FieldError(BaseModel):
    """What is wrong with one field."""

    loc: list[str | int] = Field(description="Where: 'body', 'query' or 'path', then the field.")
    msg: str
    type: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = Field(default=None, description="Only with 422.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these statuses."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


def problem(
    status: int,
    detail: str,
    path: str = "",
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response; 503 says when to come again."""
    found = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_shown(detail, LONGEST_DETAIL),
        instance=_shown(path, LONGEST_INSTANCE) or None,
        errors=list(errors or ()) or None,
    )
    body = json.dumps(found.model_dump(exclude_none=True)).encode()
    extra = {**(RETRY_AFTER if status == 503 else {}), **(headers or {})}
    return Response(body, status, extra, media_type=MEDIA_TYPE)


def respond(failure: Exception, path: str) -> Response:
    """The problem that an exception is; one that nobody expected is logged and becomes a 500 without its text."""
    for kind, status in STATUSES.items():
        if isinstance(failure, kind):
            told = masked(str(failure)) if isinstance(failure, OURS) else str(failure)
            return problem(status, told, path, _errors(failure))
    if (fault := _input_fault(failure)) is not None:
        return problem(*fault, path)
    if _is_away(failure):
        log.warning("a server is away: %s: %s", type(failure).__name__, failure)
        return problem(503, "a server that is needed did not answer in time", path)
    log.error("unexpected failure of %s", path, exc_info=failure)
    return problem(500, "something unexpected went wrong; the log of the API says what", path)


def install(app: FastAPI) -> None:
    """Answer every error of this app as a problem."""

    @app.exception_handler(HTTPException)
    def http(request: Request, failure: HTTPException) -> Response:
        headers = dict(failure.headers or {})
        if failure.status_code == 405:
            headers["Allow"] = ", ".join(methods.allowed(request.app, request.scope))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        phrase = HTTPStatus(failure.status_code).phrase
        asked = f"{_shown(request.method, 20)} {paths.told(request.scope)}"
        sentence = failure.detail if failure.detail != phrase else f"{asked}: {phrase.lower()}"
        status = 422 if failure.status_code == 400 else failure.status_code  # a body that cannot even be parsed
        return problem(status, sentence, paths.told(request.scope), headers=headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, failure: RequestValidationError) -> Response:
        errors = [_field_error(error) for error in islice(failure.errors(), MOST_ERRORS)]
        detail = "; ".join(f"{'.'.join(map(str, error.loc))}: {error.msg}" for error in errors[:5])
        return problem(422, detail, paths.told(request.scope), errors)

    @app.exception_handler(CitycacheError)
    def known(request: Request, failure: CitycacheError) -> Response:
        return respond(failure, paths.told(request.scope))


class CatchAll:
    """Innermost and outermost middleware: what no handler knows becomes a problem, so the server prints no bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer for it when it fails before its response has begun."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as failure:
            if begun:
                raise
            await respond(failure, paths.told(scope))(scope, receive, send)


def _errors(failure: CitycacheError) -> list[FieldError]:
    if isinstance(failure, UnknownParent):
        return [FieldError(loc=["body", failure.field], msg=str(failure), type="unknown_parent")]
    return []


def _field_error(error: Mapping[str, Any]) -> FieldError:
    """Without the input itself: it may be huge, secret, or no valid text."""
    loc = [part if isinstance(part, int) else _shown(str(part), LONGEST_INSTANCE) for part in error.get("loc", ())]
    return FieldError(loc=loc, msg=_shown(str(error.get("msg")), LONGEST_DETAIL), type=str(error.get("type")))


def _shown(text: str, most: int) -> str:
    """What JSON can carry of it, and no more than so many characters."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return cut.encode("utf-8", "replace").decode()


def _input_fault(failure: BaseException) -> tuple[int, str] | None:
    """What the database says against the values of a request; None when they are not at fault."""
    origin = failure.orig if isinstance(failure, DBAPIError) else failure
    if isinstance(origin, psycopg2.errors.SequenceGeneratorLimitExceeded):
        return 409, "there is no id left to be given out: the sequence has come to its end"
    if isinstance(origin, psycopg2.IntegrityError):
        return 409, f"this clashes with another row or a rule: {_named(origin)}"
    if isinstance(origin, (psycopg2.DataError, psycopg2.errors.ProgramLimitExceeded)) or _is_unsendable(origin):
        return 422, "the database does not take one of these values"
    return None


def _named(failure: psycopg2.Error) -> str:
    return failure.diag.constraint_name or failure.diag.column_name or "unknown"


def _is_unsendable(failure: BaseException | None) -> bool:
    """What the driver refuses to send: NUL, or half of a character."""
    return isinstance(failure, UnicodeEncodeError) or (isinstance(failure, ValueError) and "NUL" in str(failure))


def _is_away(failure: BaseException) -> bool:
    if isinstance(failure, (PoolTimeout, OSError, EOFError, EventError)):
        return True
    if isinstance(failure, (DBAPIError, psycopg2.Error)):
        origin = failure.orig if isinstance(failure, DBAPIError) else failure
        return db.is_away(failure) or isinstance(origin, psycopg2.OperationalError)  # also deadlocks: come again
    return any(f"{kind.__module__}.{kind.__name__}".startswith(BROKER_FAILURES) for kind in type(failure).__mro__)
