"""The worker's sign of life: it comes from the loop that talks to the broker, and only while that is connected."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from backend.app.health import pulse, watchdog


class WorkerPulse(bootsteps.StartStopStep):
    """Touches the pulse file from the consumer's own timer."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._timer: Any = None

    def start(self, worker: Any) -> None:
        """Begin; called anew after every reconnection."""
        watchdog.move("worker")
        self._timer = worker.timer.call_repeatedly(pulse.EVERY_SECONDS, self._give)

    def _give(self) -> None:
        watchdog.move("worker")
        pulse.touch()

    def stop(self, worker: Any) -> None:
        """A worker without its broker is not well. Called also when the connection never came about."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
