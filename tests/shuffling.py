"""Feeds and events in other orders that mean the same."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import amqp
from kombu import Connection

from events import contract, topology

PARENT: Final = {"company": "city", "product": "company"}
Key = tuple[str, str]


def lines(path: Path) -> list[dict[str, Any]]:
    """A change feed's lines."""
    with gzip.open(path, "rt", encoding="utf-8") as feed:
        return [json.loads(line) for line in feed]


def shuffled(feed: list[dict[str, Any]], dice: random.Random) -> Iterator[dict[str, Any]]:
    """The feed with another order inside equal `ts`; lines keep theirs where it matters.

    A line writes its own id and reads its parents, the old and the new one; of two lines that share an id the order
    matters unless both only read it.
    """
    parents: dict[Key, Key] = {}
    for _, group in groupby(feed, key=lambda line: line.get("ts")):
        yield from _one_instant(list(group), parents, dice)


def _one_instant(group: list[dict[str, Any]], parents: dict[Key, Key], dice: random.Random) -> Iterator[dict[str, Any]]:
    followers: dict[int, set[int]] = defaultdict(set)
    waits = [0] * len(group)
    writer: dict[Key, int] = {}
    readers: dict[Key, list[int]] = defaultdict(list)

    def after(number: int, earlier: int) -> None:
        if earlier != number and number not in followers[earlier]:
            followers[earlier].add(number)
            waits[number] += 1

    for number, line in enumerate(group):
        own = (line["kind"], line["id"])
        for parent in _parents(line, own, parents):
            if parent in writer:
                after(number, writer[parent])
            readers[parent].append(number)
        for reader in readers.pop(own, []):
            after(number, reader)
        if own in writer:
            after(number, writer[own])
        writer[own] = number
    ready = [number for number, count in enumerate(waits) if count == 0]
    while ready:
        number = ready.pop(dice.randrange(len(ready)))
        yield group[number]
        for follower in followers[number]:
            waits[follower] -= 1
            if waits[follower] == 0:
                ready.append(follower)


def _parents(line: dict[str, Any], own: Key, parents: dict[Key, Key]) -> list[Key]:
    """Parents that the line reads, the old one included; remembers the new one."""
    old = parents.get(own)
    if line["op"] == "delete":
        parents.pop(own, None)
    elif line.get("parent") is not None:
        parents[own] = (PARENT[line["kind"]], line["parent"])
    elif "parent" in line:
        parents.pop(own, None)
    return [parent for parent in {old, parents.get(own)} if parent]


class Scrambler:
    """Stands between the exchange and the updater's queue: every event passes twice, late and in any order.

    The queue is unbound from the exchange; a queue of the scrambler's own takes its place.
    """

    def __init__(self, broker: str, seed: int) -> None:
        self.passed = 0
        self._dice = random.Random(seed)
        self._held: list[bytes] = []  # single events, as JSON
        self._end = threading.Event()
        self._broker = broker
        self._thread = threading.Thread(target=self._run, name="scrambler")

    def __enter__(self) -> Scrambler:
        with Connection(self._broker) as connection:
            channel = connection.channel()
            self._queue = channel.queue_declare(f"scrambled {uuid4()}", durable=True, auto_delete=False).queue
            channel.queue_bind(self._queue, topology.EVENTS.name, "catalog.#")
            for key in topology.UPDATER_KEYS:
                channel.queue_unbind(topology.UPDATER.name, topology.EVENTS.name, key)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let everything pass, and restore the binding."""
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        with Connection(self._broker) as connection:
            topology.declare(connection.channel())

    def _run(self) -> None:
        with Connection(self._broker, transport_options={"confirm_publish": True}) as connection:
            channel = connection.channel()  # publishes and waits for the broker: a closing channel may lose the rest
            while self._take(channel) or not self._end.is_set():
                self._dice.shuffle(self._held)
                keep = self._dice.randint(0, 3000)
                self._give(channel, keep)
            self._dice.shuffle(self._held)
            self._give(channel, 0)

    def _take(self, channel: Any) -> bool:
        """Up to a few hundred messages; each event is held twice from now on."""
        for number in range(300):
            message = channel.basic_get(self._queue, no_ack=True)
            if message is None:
                self._end.wait(0.02)
                return number > 0
            for event in json.loads(message.body):
                self._held += [json.dumps(event).encode()] * 2
        return True

    def _give(self, channel: Any, keep: int) -> None:
        """Send on all but `keep` events, in messages of one type as the contract wants it."""
        now, self._held = self._held[keep:], self._held[:keep]
        by_type: dict[str, list[bytes]] = defaultdict(list)
        for event in now:
            by_type[json.loads(event)["type"]].append(event)
        for events in by_type.values():
            for start in range(0, len(events), 50):
                part = events[start : start + 50]
                message = amqp.Message(contract.join(part), content_type=contract.BATCH, delivery_mode=2)
                channel.basic_publish(message, exchange="", routing_key=topology.UPDATER.name)
                self.passed += len(part)
