"""What the relay counts, and the spans of what it publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.app.health import pulse, watchdog
from backend.app.telemetry import metrics, tracing
from events import publisher
from events.packing import Outgoing
from events.relay import Relayed, RelayWatcher

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class CountingWatcher(RelayWatcher):
    """Turns what a relay does into metrics."""

    def led(self, leads: bool) -> None:
        """Leads from now on, or no more."""
        metrics.RELAY_LEADS.set(leads)

    def relayed(self, relayed: Relayed) -> None:
        """A round."""
        watchdog.move("relay")
        pulse.touch()
        metrics.RELAY_ROUNDS.inc()
        if relayed.delivered:
            metrics.RELAY_EVENTS.inc(relayed.delivered)

    def followed(self) -> None:
        """Waits for its turn to lead: alive all the same."""
        watchdog.move("relay")
        pulse.touch()

    def failed(self, failure: BaseException) -> None:
        """A lost server, by the name of the error, which is one of a few."""
        watchdog.move("relay")
        metrics.RELAY_FAILURES.labels(type(failure).__name__).inc()

    def waits(self, seconds: float) -> None:
        """The row that has been offered for longest."""
        metrics.RELAY_OLDEST_SECONDS.set(seconds)

    def floor_reset(self) -> None:
        """A row stood below the floor."""
        metrics.RELAY_FLOOR_RESETS.inc()


class Published(publisher.PublisherWatcher):
    """Counts messages; one with traced events gets a span, from its sending to the end of its delivery."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def sending(self, message: Outgoing) -> str | None:
        """A message with traced events goes on in the trace of the first that is recorded, with links to all others."""
        if not message.traceparents:
            return None
        first = next(filter(tracing.is_sampled, message.traceparents), message.traceparents[0])
        others = [other for other in message.traceparents if other != first]
        attributes: dict[str, Any] = {"messaging.system": "rabbitmq", "messaging.batch.message_count": len(message.ids)}
        span = tracing.start(f"publish {message.type}", first, others, "producer", **attributes)
        if span is not None:
            self._spans.append(span)
        return tracing.traceparent(span) if span else first

    def confirmed(self, messages: int, seconds: float) -> None:
        """The broker has these messages."""
        metrics.RELAY_MESSAGES.inc(messages)
        metrics.RELAY_CONFIRM_SECONDS.observe(seconds)

    def slimmed(self, events: int) -> None:
        """These went without their data."""
        metrics.RELAY_SLIM.inc(events)

    def buried(self) -> None:
        """One became a dead letter."""
        metrics.RELAY_BURIED.inc()

    def ended(self) -> None:
        """All spans of the delivery end."""
        for span in self._spans:
            span.end()
        self._spans.clear()
