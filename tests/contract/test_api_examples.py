"""Everything that /docs shows is told by people, and every example of it is one that the API could take or give."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from backend.app.api.examples import JSON, TOLD
from backend.app.main import create_app

DESCRIBED: dict[str, Any] = create_app().openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
}


def contents(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Schema and example of what is sent and of what is answered well, as JSON."""
    good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    found = [place.get("content", {}).get(JSON) for place in [operation.get("requestBody", {}), *good]]
    return [content for content in found if content]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_has_a_summary_a_description_and_examples_that_are_right(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"] == TOLD["summaries"].get(name), "no summary of its own"
    assert operation["description"]
    for content in contents(operation):
        assert content.get("example") is not None
        schema = {**content["schema"], "components": DESCRIBED["components"]}
        jsonschema_rs.validator_for(schema, validate_formats=True).validate(content["example"])
    for parameter in operation.get("parameters", ()):
        if parameter["required"]:
            schema = {**parameter["schema"], "components": DESCRIBED["components"]}
            jsonschema_rs.validator_for(schema).validate(parameter["example"])


def test_what_is_told_is_there() -> None:
    assert set(TOLD["summaries"]) == set(OPERATIONS)
    assert set(TOLD["schemas"]) <= set(DESCRIBED["components"]["schemas"])
    assert set(TOLD["tags"]) == {tag for operation in OPERATIONS.values() for tag in operation["tags"]}
    assert "X-API-Key" in DESCRIBED["info"]["description"]
