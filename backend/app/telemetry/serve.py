"""How relay and worker show their metrics: files that a worker shares with its children, and a small HTTP server.

A child writes to the files of its place in the pool, and the child that replaces a dead one goes on in them: counters
never fall, and no crash leaves a file behind. The folder belongs to one process tree, which holds a lock in it;
folders whose lock nobody holds are removed by whoever starts next.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, start_http_server, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from backend.app.settings import settings

log = logging.getLogger(__name__)
PREFIX: Final = "citycache-metrics-"
YOUNG_SECONDS: Final = 60.0  # a folder without a lock may be one that is being made
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_held: list[Any] = []  # the open lock; children inherit it
_place: dict[int, str] = {}  # by process id


def share() -> None:
    """With METRICS_PORT set, keep all numbers in files. Called before the first metric is made, which decides it."""
    if not settings().metrics_port or settings().in_process or VARIABLE in os.environ:
        return
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    _held.append(_locked(folder))
    _place[os.getpid()] = "main"
    os.environ[VARIABLE] = str(folder)
    values.ValueClass = values.MultiProcessValue(place)  # type: ignore[no-untyped-call]
    atexit.register(_remove, folder, os.getpid())


def place() -> str:
    """Names this process's files: main, or the number of its place in the pool."""
    pid = os.getpid()
    if pid not in _place:
        billiard = sys.modules.get("billiard.process")
        index = getattr(billiard.current_process(), "index", None) if billiard else None
        _place[pid] = f"pid{pid}" if index is None else f"child{index}"
    return _place[pid]


class Only(Collector):
    """The metrics of these names, from this process's registry or from the files of it and its children."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._names = {metric.name for metric in registry.collect()}
        self._files = _files()

    def collect(self) -> Iterable[Metric]:
        """The present numbers."""
        if self._files is None:
            return self._registry.collect()
        return [metric for metric in self._files.collect() if metric.name in self._names]


def serve(registry: CollectorRegistry) -> None:
    """Answer at METRICS_HOST:METRICS_PORT in a thread, if a port is set. A taken one is a warning, no reason to end."""
    port = settings().metrics_port
    if not port or settings().in_process:
        return
    shown = CollectorRegistry()
    shown.register(Only(registry))
    ProcessCollector(registry=shown)
    try:
        start_http_server(port, settings().metrics_host, shown)
    except OSError as failure:
        log.warning("no metrics at port %s: %s", port, failure)
        return
    log.info("metrics at http://%s:%s/metrics", settings().metrics_host, port)


def _files() -> Any:
    return MultiProcessCollector(None, os.environ[VARIABLE]) if _held else None  # type: ignore[no-untyped-call]


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        try:
            if time.time() - folder.stat().st_mtime > YOUNG_SECONDS or (folder / "lock").exists():
                _locked(folder).close()
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its owner lives, or it is another user's
            continue


def _locked(folder: Path) -> Any:
    """The open lock of a folder; BlockingIOError when another process tree holds it."""
    lock = (folder / "lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
