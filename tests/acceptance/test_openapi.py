"""The whole OpenAPI on a real system: with a key every answer is a documented one and none is a 5xx; without a key
nothing guarded answers. Seeded, and bounded in time: operations take turns until the time is over."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.system import System

SEED = 20_261_124
SECONDS = 45.0  # of fuzzing with a key; every operation has at least one turn
EXAMPLES = 6  # of one turn
KEY = "the-key-of-the-acceptance-test"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ROWS = (
    "INSERT INTO cities (name) SELECT 'c' FROM generate_series(1, 3);"
    "INSERT INTO companies (name, city_id) SELECT 'c', 1 FROM generate_series(1, 3);"
    "INSERT INTO products (name, company_id) SELECT 'p', 1 FROM generate_series(1, 3);"
    "INSERT INTO dead_letters (kind, reason, payload) VALUES ('unreadable', 'a test', '[]')"
)


class Fuzzed:
    """A running system with rows, and its operations."""

    def __init__(self, system: System, database: str) -> None:
        self.system, self.database = system, database
        schema = schemathesis.openapi.from_url(f"{system.api_url}/openapi.json")
        self.operations = [found.ok() for found in schema.get_all_operations()]
        self.turns = dict.fromkeys((operation.label for operation in self.operations), 0)

    def counts(self) -> list[Any]:
        tables = ("cities", "companies", "products", "task_runs WHERE trigger = 'api'")
        with Plain(self.database) as plain:
            return [plain.one(f"SELECT count(*) FROM {table}") for table in tables]


@pytest.fixture(scope="module")
def fuzzed(databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    place: Path = tmp_path_factory.mktemp("openapi")
    limits = {"API_KEY": KEY, "RATE_LIMIT_PER_SECOND": "0", "OBSERVER": "false"}
    with (
        databases.migrated() as database,
        vhosts.fresh() as broker,
        System(database, broker, place, **limits) as system,
    ):
        with Plain(database) as plain:
            plain.run(ROWS)
        system.start(["relay", "worker", "api"])
        yield Fuzzed(system, database)


def test_without_a_key_nothing_guarded_answers(fuzzed: Fuzzed) -> None:
    before = fuzzed.counts()
    guarded = [operation for operation in fuzzed.operations if operation.method != "get" or _has_key(operation)]
    for operation in guarded:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}):
            _turn(operation, GenerationMode.POSITIVE, 2, lambda case, headers=headers: _is_refused(case, headers))
    assert len(guarded) >= 19
    assert fuzzed.counts() == before


def test_with_a_key_every_answer_is_documented_and_none_is_a_5xx(fuzzed: Fuzzed) -> None:
    order, ends = random.Random(SEED), time.monotonic() + SECONDS
    while time.monotonic() < ends or not all(fuzzed.turns.values()):
        for operation in order.sample(fuzzed.operations, len(fuzzed.operations)):
            if time.monotonic() > ends and fuzzed.turns[operation.label]:
                continue
            number = fuzzed.turns[operation.label] = fuzzed.turns[operation.label] + 1
            _turn(operation, GenerationMode.POSITIVE, EXAMPLES, lambda case: _is_documented(case, CHECKS), number)
            checks = [*CHECKS, negative_data_rejection]
            _turn(
                operation,
                GenerationMode.NEGATIVE,
                EXAMPLES,
                lambda case, checks=checks: _is_documented(case, checks),
                number,
            )
    answered = requests.get(f"{fuzzed.system.api_url}/health/ready", timeout=5)
    assert answered.status_code == 200, answered.text
    assert "Traceback" not in fuzzed.system.log("api")


def _has_key(operation: Any) -> bool:
    return bool(operation.definition.raw.get("security"))


def _turn(operation: Any, mode: GenerationMode, examples: int, check: Any, number: int = 0) -> None:
    @seed(SEED + number)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case) -> None:
        check(case)

    with suppress(Unsatisfiable):  # a request without anything that could be wrong
        run()


def _is_refused(case: Case, headers: dict[str, str]) -> None:
    for name in ("X-API-Key", "Authorization"):
        case.headers.pop(name, None)
    answer = case.call(headers=headers)
    assert answer.status_code == 401, f"{case.operation.label}: {answer.status_code}"


def _is_documented(case: Case, checks: list[Any]) -> None:
    """A busy machine may miss the API's own deadline of 2 s once; a request that gets a 503 twice fails."""
    answer = case.call(headers={"X-API-Key": KEY})
    if answer.status_code == 503:
        answer = case.call(headers={"X-API-Key": KEY})
    too_long = answer.status_code in (414, 431)  # whatever its values are
    case.validate_response(answer, checks=CHECKS if too_long else checks)
