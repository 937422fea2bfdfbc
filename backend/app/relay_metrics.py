"""What the relay counts."""

from __future__ import annotations

from backend.app import metrics, pulse
from events.relay import Relayed, Watcher


class Counted(Watcher):
    """Turns what a relay does into metrics."""

    def led(self, leads: bool) -> None:
        """Leads from now on, or no more."""
        metrics.RELAY_LEADS.set(leads)

    def relayed(self, relayed: Relayed) -> None:
        """A round."""
        pulse.touch()
        metrics.RELAY_ROUNDS.inc()
        if relayed.delivered:
            metrics.RELAY_EVENTS.inc(relayed.delivered)

    def followed(self) -> None:
        """Waits for its turn to lead: alive all the same."""
        pulse.touch()

    def failed(self, failure: BaseException) -> None:
        """A lost server, by the name of the error, which is one of a few."""
        metrics.RELAY_FAILURES.labels(type(failure).__name__).inc()


def confirmed(messages: int, seconds: float) -> None:
    """The broker has confirmed these messages."""
    metrics.RELAY_MESSAGES.inc(messages)
    metrics.RELAY_CONFIRM_SECONDS.observe(seconds)
