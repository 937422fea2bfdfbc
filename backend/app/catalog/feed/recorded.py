"""An import as a run of the ledger, so that people see beside the caches what moves them.

It has a session named after its run: when the process ends without a word, the lifeline ends the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any, Final
from uuid import uuid4

from backend.app import db
from backend.app.catalog.feed.importing import BadLine, Imported
from backend.app.errors import Away, sentence
from backend.app.ledger import ledger

log = logging.getLogger(__name__)
TASK: Final = "import_feed"
REPORT_SECONDS: Final = 1.0


class ImportRun:
    """The run of one import."""

    def __init__(self) -> None:
        self.task_id = str(uuid4())
        self._reported = time.monotonic()

    def report(self, lines: int) -> None:
        """Show so many lines as applied, at most once a second."""
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self._write(ledger.progress, {"lines": lines})

    def succeed(self, done: Imported) -> None:
        """All lines are applied."""
        self._write(ledger.finish, "SUCCESS", asdict(done))

    def fail(self, failure: BaseException) -> None:
        """It has stopped. What a bad line holds stays out of the ledger, which everybody may read."""
        error = sentence(failure)
        if isinstance(failure, BadLine):
            error = f"line {failure.line} is bad; go on from line {failure.next_line}"
        self._write(ledger.finish, "FAILURE", None, error)

    def _write(self, write: Callable[..., Any], *told: Any) -> None:
        try:
            write(self.task_id, *told)
        except Away as failure:
            log.warning("the import's run is not written down: %s", failure, extra={"task_id": self.task_id})


@contextmanager
def recorded(from_line: int) -> Iterator[ImportRun]:
    """A run from its beginning to its end, which the caller tells when all went well. Raises DatabaseAway."""
    run = ImportRun()
    with closing(db.direct(f"run {run.task_id}")):
        ledger.begin(run.task_id, TASK, "cli", {"from_line": from_line})
        try:
            yield run
        except BaseException as failure:
            run.fail(failure)
            raise
