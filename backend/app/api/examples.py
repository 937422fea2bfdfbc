"""What /docs says besides the code: an introduction, summaries, and an example for each body and answer.

`examples.json` has the leaves; an answer that is made of them, such as a page, is put together by its schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

TOLD: Final[dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
JSON: Final = "application/json"


def describe(described: dict[str, Any]) -> None:
    """Put all of it into the OpenAPI document."""
    described["info"]["description"] = "\n".join(TOLD["introduction"])
    described["tags"] = [{"name": name, "description": text} for name, text in TOLD["tags"].items()]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            operation["summary"] = TOLD["summaries"].get(f"{method.upper()} {path}", operation["summary"])
            _exemplify(operation, described["components"]["schemas"])


def _exemplify(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["required"] and parameter["name"] in TOLD["parameters"]:
            parameter["example"] = TOLD["parameters"][parameter["name"]]
    good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    for place in [operation.get("requestBody", {}), *good]:
        if content := place.get("content", {}).get(JSON):
            content["example"] = sample(content["schema"], schemas)


def sample(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """An example of a schema; of one that may be null without having one of its own, null."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return TOLD["schemas"][name] if name in TOLD["schemas"] else sample(schemas[name], schemas)
    if choices := schema.get("anyOf"):
        return (
            None
            if {"type": "null"} in choices and not any("$ref" in one for one in choices)
            else sample(choices[0], schemas)
        )
    if schema.get("type") == "array":
        return [sample(schema["items"], schemas)]
    if properties := schema.get("properties"):
        return {name: sample(inner, schemas) for name, inner in properties.items()}
    return schema.get("type") == "boolean" or None
