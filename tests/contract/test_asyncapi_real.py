"""Events as they are really captured, packed and published are what `events/asyncapi.yaml` describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from sqlalchemy import inspect

from backend.app.catalog.models import City, Company, Product
from backend.app.worker import consumer
from events import contract
from events.packing import Outgoing, messages
from tests.contract.test_asyncapi import DOCUMENT, TRACE, validate
from tests.outbox import waiting
from tests.plain import Plain

MODELS = {"product": Product, "company": Company, "city": City}
ADOPTED = {  # of tables that were there before
    "catalog.city.truncated",
    *(f"catalog.watched.{what}" for what in ("created", "updated", "deleted", "truncated")),
}
EVERY_TYPE = """
    INSERT INTO cities (id, name, latitude) VALUES (1, 'a', 52.5), (2, 'ü "quoted"', NULL);
    INSERT INTO companies (id, name, city_id) VALUES (1, 'x', 1), (2, 'y', 2);
    INSERT INTO products (id, company_id, name, kind) VALUES (1, 1, 'p', 'product'), (2, 2, 'q', 'service');
    UPDATE cities SET longitude = 13.4, name = 'b' WHERE id = 1;
    UPDATE companies SET city_id = NULL WHERE id = 1;
    UPDATE products SET kind = 'service', is_active = false WHERE id = 1;
    DELETE FROM products WHERE id = 1;
    DELETE FROM companies WHERE id = 1;
    DELETE FROM cities WHERE id = 1;
    TRUNCATE products;
    TRUNCATE companies CASCADE"""


@pytest.fixture
def published(database: str) -> list[Outgoing]:
    """Messages of events of every type, one of them traced."""
    with Plain(database) as plain:
        plain.run(EVERY_TYPE)
        plain.one("SELECT set_config('citycache.traceparent', %s, false)", (TRACE,))
        plain.run("INSERT INTO cities (id, name) VALUES (9, 'traced')")
        rows = waiting(plain)
    return list(messages(rows))


def test_captured_events_of_every_type_are_valid(published: list[Outgoing]) -> None:
    assert {message.type for message in published} == set(contract.TYPES) - ADOPTED
    for message in published:
        payload = json.loads(message.body)
        validate(payload)
        assert all(event["type"] == message.type for event in payload)


def test_captured_rows_have_the_columns_of_the_models(published: list[Outgoing]) -> None:
    for message in published:
        noun = message.type.split(".")[1]
        columns = {column.key for column in inspect(MODELS[noun]).columns}
        for event in json.loads(message.body):
            images = [image for image in (event["data"]["before"], event["data"]["after"]) if image]
            assert all(set(image) == columns for image in images)


def test_an_update_names_the_columns_that_changed_and_nothing_else_does(published: list[Outgoing]) -> None:
    changed = {
        (message.type, tuple(event["data"]["changed"])) for message in published for event in json.loads(message.body)
    }

    assert {pair for pair in changed if pair[1]} == {
        ("catalog.city.updated", ("name", "longitude")),
        ("catalog.company.updated", ("city_id",)),
        ("catalog.product.updated", ("kind", "is_active")),
    }


def test_the_consumer_reads_what_was_published(published: list[Outgoing]) -> None:
    for message in published:
        hints, letters = consumer.read_parts(message.body, contract.BATCH, {})
        assert letters == []
        assert {hint.noun for hint in hints} == {message.type.split(".")[1]}
        assert len(hints) == len(message.ids)


def test_the_description_refuses_what_no_event_may_be(published: list[Outgoing]) -> None:
    (event,) = json.loads(published[-1].body)
    for wrong in (
        {"specversion": "0.3"},
        {"type": "catalog.planet.created"},
        {"subject": 7},
        {"time": None},
        {"data": {"before": None}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validate([event | wrong])
    with pytest.raises(jsonschema.ValidationError):
        validate([event] * 201)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def test_every_reference_resolves_and_every_operation_has_a_channel() -> None:
    for reference in _references(DOCUMENT):
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]
    for name, operation in DOCUMENT["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in DOCUMENT["channels"]
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
