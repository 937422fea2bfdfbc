"""Clients of the API who write own rows and read them at once, with `fresh` or without. What they saw is kept."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any, Final

from tests.faults.history import Read, Write, violations
from tests.faults.world import FLOW_SECONDS, World

COMPANIES: Final = 1_000  # as many writes has a product
FIRST: Final = 5_000_000  # id of the first company
PATIENCE: Final = 10.0
PREPARE: Final = f"""
    INSERT INTO companies (id, name, city_id)
    SELECT {FIRST} + n, 'of a client', (SELECT min(id) FROM cities) FROM generate_series(0, {COMPANIES}) AS n
    ON CONFLICT DO NOTHING"""


class Clients:
    """Some of them, each with one product at a time."""

    def __init__(self, world: World, seed: int, number: int) -> None:
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self._world, self._seed, self._number = world, seed, number

    def prepare(self) -> None:
        """Make the companies, before anything is faulty."""
        with self._world.plant.sql() as sql:
            sql.run(PREPARE)

    def work(self, stop: threading.Event) -> None:
        """Until stopped."""
        with ThreadPoolExecutor(self._number) as pool:
            for done in [pool.submit(self._client, number, stop) for number in range(self._number)]:
                done.result()

    def violations(self) -> list[str]:
        """Reads that could not have been."""
        return violations(self.writes, self.reads, bound=2 * FLOW_SECONDS)

    def _client(self, number: int, stop: threading.Event) -> None:
        dice = random.Random(f"{self._seed} {number}")
        while not stop.is_set():
            self._follow(number, dice, stop)
            stop.wait(0.2)  # something was away

    def _follow(self, number: int, dice: random.Random, stop: threading.Event) -> None:
        """Write and read one product until a write has no answer."""
        made = self._ask("POST", "/products", name="of a client", company_id=FIRST, is_active=False)
        row = made["id"] if made else None
        for company in range(FIRST + 1, FIRST + COMPANIES + 1):
            if row is None or stop.wait(dice.uniform(0, 0.05)):
                return
            begin = time.monotonic()
            written = self._ask("PATCH", f"/products/{row}", company_id=company, is_active=True)
            end = time.monotonic() if written else None
            self.writes.append(Write(f"product/{row}", company, begin, end))
            for _ in range(dice.randint(1, 3)):
                self._read(number, row, dice.random() < 0.5)
            if end is None:
                return

    def _read(self, number: int, row: int, fresh: bool) -> None:
        begin = time.monotonic()
        query = f"?fresh=product/{row}" if fresh else ""
        if answer := self._ask("GET", f"/caches/explain/product/{row}{query}"):
            cached, is_fresh = answer["cached"], answer["fresh"] == "yes"
            value = cached["company_id"] if cached else None
            self.reads.append(Read(f"product/{row}", number, value, begin, time.monotonic(), is_fresh))

    def _ask(self, method: str, path: str, **body: Any) -> dict[str, Any] | None:
        """The answer with what it says of freshness; None where there was none."""
        address = f"{self._world.plant.api_url}/api/v1{path}"
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return {**json.load(answer), "fresh": answer.headers.get("Citycache-Fresh")}
        except (OSError, ValueError, HTTPException):  # killed, away, refused, or cut off amid its answer
            return None
