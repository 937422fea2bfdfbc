"""`events/asyncapi.yaml` says what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from events import contract, topology
from events.outbox import Row
from events.packing import messages

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(contract.__file__).with_name("asyncapi.yaml")).read_text("utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
CHANNELS = DOCUMENT["channels"]
QUEUES = {"updater": topology.UPDATER, "log": topology.LOG, "deadLetters": topology.DEAD_LETTERS}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def validate(payload: Any) -> None:
    schema = {"$ref": "#/components/schemas/Batch", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(payload)


def row(number: int, kind: str, subject: str, before: str | None, after: str | None) -> Row:
    return Row(
        number, f"6f1c1a52-6b0f-4a53-9d5c-{number:012d}", kind, subject, "2026-01-31T12:00:00.1Z", before, after, TRACE
    )


def test_names_every_type():
    assert SCHEMAS["Type"]["enum"] == list(contract.TYPES)


@pytest.mark.parametrize("kind", contract.TYPES)
def test_describes_what_the_publisher_sends(kind: str):
    noun, what = kind.split(".")[1:]
    subject = noun if what == "truncated" else f"{noun}/-9223372036854775808"
    before = None if what in ("created", "truncated") else '{"id": 1, "name": "a"}'
    after = None if what in ("deleted", "truncated") else '{"id": 1, "name": "b"}'
    sent = list(messages([row(number, kind, subject, before, after) for number in range(450)]))
    assert [len(message.ids) for message in sent] == [200, 200, 50]
    for message in sent:
        validate(json.loads(message.body))


def test_describes_an_event_that_travels_slim():
    large = row(1, "catalog.product.updated", "product/1", None, None)._replace(slim="too large")
    deep = row(2, "catalog.product.created", "product/2", None, '{"a": ' + "[" * 999 + "]" * 999 + "}")
    (sent,) = messages([large])
    (other,) = messages([deep])
    for event in (*json.loads(sent.body), *json.loads(other.body)):
        validate([event])
        assert (event["data"], event["slim"], bool(event["slimreason"])) == (None, True, True)
        with pytest.raises(jsonschema.ValidationError):
            validate([{name: value for name, value in event.items() if name != "slim"}])
        with pytest.raises(jsonschema.ValidationError):
            validate([event | {"data": {"before": None, "after": None, "changed": []}}])


def test_its_examples_are_valid_and_can_be_read():
    for example in DOCUMENT["components"]["messages"]["events"]["examples"]:
        validate(example["payload"])
        body = json.dumps(example["payload"])
        read = list(contract.decode(body, DOCUMENT["defaultContentType"], example["headers"]))
        assert [contract.hint(event).noun for event in read if isinstance(event, contract.Event)] == ["product"]


def test_rejects_what_the_contract_rejects():
    with pytest.raises(jsonschema.ValidationError):
        validate([])
    with pytest.raises(jsonschema.ValidationError):
        validate([{"id": "x"}])


def test_names_the_limits_and_the_content_type():
    assert DOCUMENT["defaultContentType"] == contract.BATCH
    assert SCHEMAS["Batch"]["maxItems"] == contract.MOST_EVENTS
    assert "128 KiB" in DOCUMENT["info"]["description"]
    assert contract.MOST_BYTES == 128 * 1024


def test_names_the_exchange():
    exchange = CHANNELS["catalog"]["bindings"]["amqp"]["exchange"]
    assert (exchange["name"], exchange["type"]) == (topology.EVENTS.name, topology.EVENTS.type)
    assert exchange["durable"] == topology.EVENTS.durable
    assert topology.DEAD_LETTER_EXCHANGE.name in CHANNELS["deadLetters"]["title"]


@pytest.mark.parametrize("name", sorted(QUEUES))
def test_names_the_queues_with_their_types(name: str):
    queue, channel = QUEUES[name], CHANNELS[name]
    assert channel["address"] == channel["bindings"]["amqp"]["queue"]["name"] == queue.name
    assert channel["x-queue-type"] == queue.queue_arguments["x-queue-type"]
    assert queue.durable


def test_names_what_the_queues_are_bound_by():
    assert CHANNELS["log"]["x-bound-by"] == [topology.LOG.routing_key]
    assert CHANNELS["updater"]["x-bound-by"] == list(topology.UPDATER_KEYS)
