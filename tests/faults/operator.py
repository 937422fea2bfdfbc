"""Someone at the console while all this happens: asks the API all the time, and may start rebuilds and replays."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from http.client import HTTPException
from typing import Final

from tests.faults.world import World

PATHS: Final = ("/health/ready", "/api/v1/celery/stats", "/api/v1/cities?limit=5", "/api/v1/celery/tasks?limit=5")
TASKS: Final = (
    ("update-product-city-cache", {}),
    ("update-company-city-cache", {}),
    ("update-cities-product-count", {}),
    ("refresh-all-caches", {}),
    ("replay-events", {"from_offset": 0}),
    ("replay-events", {"from_offset": 0, "dry_run": True}),
)
PROMISED_SECONDS: Final = 2.5  # 2 s, and the way on a machine that is busy with dying
PATIENCE: Final = 10.0  # of the client


class Operator:
    """One person, one request after the other."""

    def __init__(self, world: World, seed: int, tasks: bool) -> None:
        """`tasks`: start some, too."""
        self.answers: Counter[int] = Counter()
        self.slow: list[str] = []  # answers that took longer than the API promises, while it was not suspended
        self._world, self._dice, self._tasks = world, random.Random(seed), tasks

    def work(self, stop: threading.Event) -> None:
        """One request after the other, until stopped."""
        while not stop.wait(0.3):
            self._ask(urllib.request.Request(self._world.plant.api_url + self._dice.choice(PATHS)))
            if self._tasks and self._dice.random() < 0.07:
                task, body = self._dice.choice(TASKS)
                self._ask(
                    urllib.request.Request(
                        f"{self._world.plant.api_url}/api/v1/celery/tasks/{task}",
                        method="POST",
                        data=json.dumps(body).encode(),
                        headers={"Content-Type": "application/json"},
                    )
                )

    def _ask(self, request: urllib.request.Request) -> None:
        begin, pid, was_suspended = time.monotonic(), self._world.pid("api"), "api" in self._world.suspended
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                answer.read()
                status = answer.status
        except urllib.error.HTTPError as refusal:
            status = refusal.code
        except (OSError, HTTPException):
            return  # it was killed, or not there
        self.answers[status] += 1
        seconds = time.monotonic() - begin
        if seconds > PROMISED_SECONDS and self._world.pid("api") == pid and not was_suspended:
            self.slow.append(f"{request.get_method()} {request.selector}: {status} after {seconds:.1f} s")
