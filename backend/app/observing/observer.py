"""The observer: some threads of one API process in all: canary, auditor, history, and the judge of health."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg2

from backend.app import db
from backend.app.adopting import attaching
from backend.app.errors import Away
from backend.app.health import incidents, pulse, signs, webhook
from backend.app.health.judge import Judge
from backend.app.ledger import retention
from backend.app.observing import canary, city_hours, history
from backend.app.observing.auditor import Auditor
from backend.app.settings import settings
from backend.app.tasks.settle import passed

log = logging.getLogger(__name__)
LOCK: Final = 0x6F627376  # 'obsv'
FOLLOW_SECONDS: Final = 2.0
PRUNE_SECONDS: Final = 3600.0
JUST_AFTER_SECONDS: Final = 0.05


class Observer:
    """Starts its threads when it leads; any number of API processes may have one."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._landed: list[float] = []  # milliseconds of the canaries since the last observation
        self._may_fly = False  # whether relay and workers know canaries
        self._auditor = Auditor(passed)
        self._leads = False  # or did when the database was lost, and nobody else is known to

    def start(self) -> None:
        """Begin in the background."""
        self._run("observer", self._lead)
        self._run("health", self._watch)
        if settings().incident_webhook_url:
            self._run("webhook", self._tell)

    def stop(self) -> None:
        """End; waits at most two seconds."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lead(self) -> None:
        """Hold the lock; while it is held, canary, auditor and history take their turns."""
        while not self._stop.is_set():
            try:
                connection = db.direct("observer", statement_ms=5_000)
                try:
                    self._work(connection)
                finally:
                    connection.close()
            except (Away, psycopg2.Error) as failure:
                log.warning("the observer waits: %s", failure)
            except Exception:
                log.exception("the observer failed and goes on")
            pulse.touch()
            self._stop.wait(FOLLOW_SECONDS)

    def _work(self, connection: psycopg2.extensions.connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,))
            self._leads = bool((cursor.fetchone() or [False])[0])
            if not self._leads:
                self._auditor = Auditor(passed)  # another process goes round now
                return
            log.info("this process observes")
            stopped = threading.Event()
            bird = threading.Thread(target=self._canaries, args=(stopped,), name="canary", daemon=True)
            bird.start()
            try:
                self._rounds(cursor)
            finally:
                stopped.set()
                bird.join(canary.PATIENCE_SECONDS)

    def _rounds(self, cursor: psycopg2.extensions.cursor) -> None:
        past, parts = history.History(), attaching.Attaching()
        observe_at = prune_at = attach_at = hours_at = 0.0
        while not self._stop.is_set():
            cursor.execute("SELECT 1")  # the lock lives as long as this connection
            pulse.touch()
            pause = self._auditor.run_once() if settings().audit_core_share else 1.0
            now = time.monotonic()
            if now >= observe_at:
                observe_at = now + history.EVERY_SECONDS
                self.observe(past)
            if now >= attach_at:
                parts.run_once()
                attach_at = now + attaching.EVERY_SECONDS
            if now >= hours_at:
                city_hours.run_once()
                hours_at = now + city_hours.EVERY_SECONDS
            if now >= prune_at:
                retention.prune("observer")
                prune_at = now + PRUNE_SECONDS
            self._stop.wait(min(pause, max(0.1, observe_at - time.monotonic())))

    def observe(self, past: history.History) -> None:
        """Write what was seen; a canary that lands meanwhile counts in the next observation."""
        count = len(self._landed)
        past.observe(max(self._landed[:count], default=None))
        del self._landed[:count]
        if past.waiting and past.waiting.knows_canaries is not None:
            self._may_fly = past.waiting.knows_canaries

    def fly(self) -> None:
        """Send one canary, as long as relay and workers know them."""
        if self._may_fly and (flown := canary.fly()) is not None:
            self._landed.append(flown)

    def _watch(self) -> None:
        """Judge health and keep incidents, also while the database is away."""
        looker, judge, book = signs.Looker(), Judge(), incidents.Book()
        while not self._stop.wait(min(incidents.WATCH_SECONDS, judge.seconds_until_overdue() + JUST_AFTER_SECONDS)):
            if not self._leads:
                judge, book = Judge(), incidents.Book()
                continue
            try:
                book.take(judge.judge(looker.look()))
            except Exception:
                log.exception("health could not be judged; it is looked at again")

    def _tell(self) -> None:
        """Tell of incidents, apart from the rest: the other side may be slow or away."""
        teller = webhook.Teller()
        while not self._stop.wait(teller.pause):
            try:
                if self._leads:
                    teller.run_once()
            except Away as failure:
                log.warning("the webhook waits: %s", failure)
            except Exception:
                log.exception("incidents could not be told")

    def _canaries(self, stopped: threading.Event) -> None:
        """Apart from the rest, because a canary that does not arrive takes its time."""
        while settings().canary_seconds and not (stopped.is_set() or self._stop.is_set()):
            began = time.monotonic()
            try:
                self.fly()
            except Away as failure:
                log.warning("the canary waits: %s", failure)
            except Exception:
                log.exception("a canary failed")
            stopped.wait(max(0.1, settings().canary_seconds - (time.monotonic() - began)))
