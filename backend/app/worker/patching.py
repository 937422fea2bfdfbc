"""The keys of a batch, part by part, each part in a transaction of its own, until all are patched or buried.

A part that fails is replaced by smaller ones, down to the key that fails alone; all others go through. Whether that
key is at fault or the system, a rehearsal with another key tells: what fails for every key raises EveryKeyFails, and
nothing may be acknowledged then; a key that fails while others work is buried after some tries.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from sqlalchemy import Connection
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from backend.app import db
from backend.app.caches import rehearsal
from backend.app.caches.apply import Plan, request_wide
from backend.app.caches.diff import Noun
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import patch
from backend.app.dead_letters import letters
from backend.app.dead_letters.letters import DeadLetter
from backend.app.errors import Away, EveryKeyFails, TooLong, sentence
from backend.app.ledger import ledger
from backend.app.telemetry import metrics
from backend.app.worker.breaker import SHRINK, breaker
from events.contract import Hint

log = logging.getLogger(__name__)
TRIES_ALONE: Final = 3  # of a key that fails by itself, before it is buried
PAUSES_ALONE: Final = (0.2, 1.0)  # seconds between them
NOTHING: Final = Keys()


@dataclass(frozen=True)
class Done:
    """What has come of the parts so far."""

    keys: int = 0  # looked at, products of companies included
    patched: int = 0  # mapping rows changed
    buried: Sequence[DeadLetter] = ()  # keys that fail alone; whoever finishes keeps them
    is_spoiled: bool = False  # what finishing would keep cannot be kept as it is


Finish = Callable[[Connection, Done], None]  # joins the last transaction


class Patching:
    """One batch under way."""

    def __init__(self, plan: Plan, cause: Cause, task_id: str, hints: Sequence[Hint] = ()) -> None:
        self._plan, self._cause, self._task_id = plan, cause, task_id
        self._hints = {(hint.noun, hint.id): hint for hint in hints}
        self._done = Done()
        self._tries = 0  # of the key that fails alone now
        self._is_requested = not plan.leaves_some

    def run(self, finish: Finish) -> Done:
        """Patch all parts. Raises Away, and then whoever called tries all of them again, which is harmless."""
        waiting = deque(self._plan.parts)
        while waiting:
            part = waiting.popleft()
            try:
                self._done = self._commit(part, None if waiting else finish)
                self._is_requested, self._tries = True, 0
            except Exception as failure:
                is_finishing = not waiting
                waiting.extendleft(reversed(self._instead(part, failure, is_finishing)))
                if is_finishing:
                    waiting.append(NOTHING)
        return self._done

    @retry(
        retry=retry_if_exception(db.is_rollback),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        before_sleep=lambda state: metrics.BATCH_RETRIES.labels("rollback").inc(),
        reraise=True,
    )
    def _commit(self, part: Keys, finish: Finish | None) -> Done:
        with db.transaction() as connection:
            if not self._is_requested:
                request_wide(connection, self._plan, self._cause)
            rows = patch(connection, part, self._cause).rows if part else 0
            letters.close_patched(connection, part, self._task_id)
            done = replace(self._done, keys=self._done.keys + len(part), patched=self._done.patched + rows)
            if finish:
                finish(connection, done)
        return done

    def _instead(self, part: Keys, failure: Exception, is_finishing: bool) -> list[Keys]:
        """The parts to try after one has failed; none when its only key was buried. Finishing gets a transaction of
        its own then, so that what fails in it is not taken for the fault of a key."""
        if isinstance(failure, Away) and not isinstance(failure, TooLong):
            raise failure
        log.warning("a patch of %s keys failed: %s", len(part), sentence(failure))
        metrics.BATCH_BISECTIONS.inc()
        if isinstance(failure, TooLong):
            breaker.shrink(len(part))
        if len(part) > 1:
            return part.split(SHRINK if isinstance(failure, TooLong) else 2)
        if db.is_rollback(failure):
            raise EveryKeyFails(f"others get in the way of each try: {sentence(failure)}") from failure
        if not part:
            return self._without_a_key(failure)
        return [part] if is_finishing else self._alone(part, failure)

    def _alone(self, part: Keys, failure: Exception) -> list[Keys]:
        noun, key = part.only()
        if not rehearsal.works(cast("Noun", noun), [key], self._record_trial):
            raise EveryKeyFails(f"patches fail, and not only that of {noun}/{key}: {sentence(failure)}") from failure
        self._tries += 1
        if self._tries < TRIES_ALONE:
            time.sleep(PAUSES_ALONE[self._tries - 1])
            return [part]
        self._bury(noun, key, failure)
        return []

    def _bury(self, noun: str, key: int, failure: Exception) -> None:
        hint = self._hints.get((noun, key)) or Hint(noun, key, "", "", None)
        letter = letters.failed(hint, failure, self._tries)
        self._done, self._tries = replace(self._done, buried=[*self._done.buried, letter]), 0
        if isinstance(failure, TooLong):
            breaker.forgive()

    def _without_a_key(self, failure: Exception) -> list[Keys]:
        """No key is at fault: what others wrote into the batch may be, or the system."""
        if self._done.is_spoiled or not rehearsal.works("city", [], self._record_trial):
            raise EveryKeyFails(f"what has been done cannot be recorded: {sentence(failure)}") from failure
        self._done = replace(self._done, is_spoiled=True)
        return []

    def _record_trial(self, connection: Connection) -> None:
        """What finishing writes as well."""
        letters.bury(connection, [DeadLetter("failed", "a rehearsal")], self._task_id)
        ledger.insert_finished(connection, self._task_id, "rehearsal", "event", {}, time.time(), time.time())
