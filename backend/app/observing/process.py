"""The observer as a process of its own, for installations where the API's database role may not write the caches."""

from __future__ import annotations

import logging
import signal
import threading

from backend.app import db
from backend.app.observing.observer import Observer
from backend.app.settings import settings
from backend.app.startup import refuse_unfit_database, warn_on_default_passwords

log = logging.getLogger(__name__)


def run() -> None:
    """Observe until SIGTERM or SIGINT."""
    warn_on_default_passwords(settings())
    refuse_unfit_database()
    db.engine("observer", size=5)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    observer = Observer()
    observer.start()
    while not stopped.wait(0.5):
        pass
    observer.stop()
    db.dispose()
    log.info("observer stopped")
