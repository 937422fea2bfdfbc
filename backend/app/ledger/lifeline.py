"""The lifeline: durable work that nobody works on any more is taken up again, or ends with a word about why.

A run is a row and a message. A process that works on it keeps a session named after the run; until then its message
waits in the queue or in a worker's hands. A run that has had neither for a while lost its process, and its message was
purged: a replay is started again where it stood, any other run ends as FAILURE. Wide patches that wait get a run.

A standby that is promoted may lack the patch of an event that is acknowledged, where it followed asynchronously: then
everything is looked at again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from backend.app import db
from backend.app.errors import CitycacheError, sentence
from backend.app.ledger import ledger
from backend.app.telemetry.logs import say_once
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_name("lifeline.sql"))
EVERY_SECONDS: Final = 10.0
GRACE_SECONDS: Final = 60.0  # a dead worker's message may take that long until the broker gives it out again
GONE: Final = "its process is gone, and so is the message that would have begun it again"


@dataclass(frozen=True)
class Lost:
    """A run without a process."""

    task_id: str
    task: str
    trigger: str
    arguments: Mapping[str, Any]


@dataclass
class Lifeline:
    """Looks after runs and wide patches; any number of processes may have one."""

    held: Callable[[Sequence[str]], set[str] | None]  # those of the runs whose message is there; None: nobody knows
    resume_wide: Callable[[], Any]  # starts a run for the wide patches that wait, if none is there
    restart: Mapping[str, Callable[[Lost], Any]] = field(default_factory=dict)  # task → how a run of it goes on
    grace: float = GRACE_SECONDS
    after_promotion: Callable[[], Any] = lambda: None  # called when the database is another server's than before
    _timeline: str | None = None  # of the database, at the last look
    _missing: dict[str, float] = field(default_factory=dict)  # run → monotonic seconds of the first look that missed it

    def run(self, stop: threading.Event) -> None:
        """Look now and from time to time, until `stop` is set."""
        while True:
            try:
                self.run_once()
            except CitycacheError as failure:
                log.warning("runs are not looked after: %s", failure)
            except Exception:
                log.exception("runs are not looked after")
            if stop.wait(EVERY_SECONDS):
                return

    def run_once(self) -> list[Lost]:
        """One look; the runs that were given up or started again. Raises Away."""
        self._look_for_promotion()
        self.resume_wide()
        lost = self._lost()
        for run in lost:
            del self._missing[run.task_id]
            self._rescue(run)
        return lost

    def _look_for_promotion(self) -> None:
        try:
            with db.transaction() as connection:
                timeline = connection.exec_driver_sql(SQL["timeline"]).scalar_one()
        except DBAPIError as refusal:  # not every provider's server tells
            say_once(log, "after a promotion refresh_all_caches has to be started: %s", sentence(refusal))
            return
        if self._timeline not in (None, timeline):
            log.warning("the database's standby has been promoted: everything is looked at again")
            self.after_promotion()
        self._timeline = timeline

    def _lost(self) -> list[Lost]:
        suspects = self._suspects()
        held = self.held([run.task_id for run in suspects]) if suspects else set()
        if held is None:
            self._missing.clear()
            return []
        now = time.monotonic()
        missing = [run for run in suspects if run.task_id not in held]
        self._missing = {run.task_id: self._missing.get(run.task_id, now) for run in missing}
        return [run for run in missing if now - self._missing[run.task_id] >= self.grace]

    def _rescue(self, run: Lost) -> None:
        if restart := self.restart.get(run.task):
            log.warning("%s is started again: %s", run.task, GONE, extra={"task_id": run.task_id})
            restart(run)
        else:
            log.warning("%s ends: %s", run.task, GONE, extra={"task_id": run.task_id})
            ledger.finish(run.task_id, "FAILURE", error=GONE)

    def _suspects(self) -> list[Lost]:
        with db.transaction() as connection:
            return [Lost(*row) for row in connection.exec_driver_sql(SQL["lost"], {"seconds": self.grace})]


def is_wide_unattended() -> bool:
    """Whether wide patches wait and no run is there to work them off. Raises DatabaseAway."""
    with db.transaction() as connection:
        return bool(connection.exec_driver_sql(SQL["unattended_wide"]).scalar_one())
