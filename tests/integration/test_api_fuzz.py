"""No input makes a 500, and every answer is one that the OpenAPI document announces."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.api import Client
from tests.plain import Plain

PROMISES = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NEEDS_A_BROKER = re.compile(r"POST /api/v1/celery/tasks/|.*(requeue|stats|ready)$")
ROWS = (
    "INSERT INTO cities (name) SELECT 'c' FROM generate_series(1, 3);"
    "INSERT INTO companies (name, city_id) SELECT 'c', 1 FROM generate_series(1, 3);"
    "INSERT INTO products (name, company_id) SELECT 'p', 1 FROM generate_series(1, 3)"
)


def test_answers_any_request_as_documented(api: Client, plain: Plain) -> None:
    plain.run(ROWS)
    schema = schemathesis.openapi.from_asgi("/openapi.json", api.app)
    for found in schema.get_all_operations():
        operation = found.ok()
        if not NEEDS_A_BROKER.match(operation.label):
            fuzz(operation, GenerationMode.POSITIVE, PROMISES)
            # Wrong values of a query may vanish on the way into a URL; in a body they cannot.
            rejected = [negative_data_rejection] if operation.method.upper() in ("POST", "PATCH") else []
            fuzz(operation, GenerationMode.NEGATIVE, [*PROMISES, *rejected])


def fuzz(operation: Any, mode: GenerationMode, checks: list[Any]) -> None:
    @settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Case) -> None:
        case.validate_response(case.call(), checks=checks)

    with suppress(Unsatisfiable):  # a request without anything that could be wrong
        answers()
