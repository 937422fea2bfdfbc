"""Every metric of every process, with its meaning. `python -m backend.app.telemetry.metrics` prints docs/metrics.md.

Names follow Prometheus' conventions: base units, `_total` for counters. Numbers of one process live here as objects
that count; those of the pipeline as a whole are Readings, which the API takes from database and broker when it is
asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from backend.app.dead_letters.letters import KINDS
from backend.app.telemetry import latency, serve

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, with nothing anybody asks for
serve.share()

API, RELAY, WORKER = (CollectorRegistry() for _ in range(3))
PROCESSES: Final = {"api": API, "relay": RELAY, "worker": WORKER}  # which /metrics shows what
MILLISECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
MINUTES: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)


class TalliedHistogram(Histogram):
    """A histogram that takes what was counted elsewhere: one call for thousands of events."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Observations by bucket, in the order of the bounds and one more for what is above, and their sum."""
        for bucket, number in zip(self._buckets, counts, strict=True):
            if number:
                bucket.inc(number)
        self._sum.inc(total)


# API

HTTP_SECONDS = Histogram(
    "citycache_http_request_duration_seconds", "Requests, from their arrival to the end of their answer",
    ("method", "route", "status"), buckets=MILLISECONDS[1:], registry=API,
)  # fmt: skip
HTTP_REFUSED = Counter(
    "citycache_http_refused",
    "Requests refused unseen, by reason: key, role, closed, foreign, host, rate, size, head, slow, connections",
    ("reason",), registry=API,
)  # fmt: skip
AUDIT_LOST = Counter(
    "citycache_audit_entries_lost", "Entries of the audit log that the database did not take; the log has them",
    registry=API,
)  # fmt: skip
FRESH_READS = Counter(
    "citycache_fresh_reads", "Reads that asked for fresh rows, by their answer: yes or no", ("fresh",), registry=API
)

# Relay

RELAY_LEADS = Gauge(
    "citycache_relay_leads", "1 while this relay leads, else 0",
    multiprocess_mode="mostrecent", registry=RELAY,
)  # fmt: skip
RELAY_ROUNDS = Counter("citycache_relay_rounds", "Looks into the outbox, empty ones included", registry=RELAY)
RELAY_EVENTS = Counter("citycache_relay_events_published", "Events that the broker confirmed", registry=RELAY)
RELAY_MESSAGES = Counter(
    "citycache_relay_messages_published", "Messages that the broker confirmed, 1 to 200 events each", registry=RELAY
)
RELAY_FAILURES = Counter(
    "citycache_relay_failures", "Rounds that a lost server ended, by the kind of the error", ("error",), registry=RELAY
)
RELAY_SLIM = Counter(
    "citycache_relay_events_slim", "Events published without their data, which was too large or not readable",
    registry=RELAY,
)  # fmt: skip
RELAY_BURIED = Counter(
    "citycache_relay_events_buried", "Events that the broker refused in any form, and that became dead letters",
    registry=RELAY,
)  # fmt: skip
RELAY_OLDEST_SECONDS = Gauge(
    "citycache_relay_oldest_row_seconds",
    "For how long the relay has offered a row that the broker does not take while it takes others",
    multiprocess_mode="mostrecent", registry=RELAY,
)  # fmt: skip
RELAY_FLOOR_RESETS = Counter(
    "citycache_relay_floor_resets",
    "Rows found below the outbox's floor, where none can be unless its sequence was set back", registry=RELAY,
)  # fmt: skip
RELAY_CONFIRM_SECONDS = Histogram(
    "citycache_relay_confirm_seconds", "From the first message of a round to the confirm of its last one",
    buckets=MILLISECONDS, registry=RELAY,
)  # fmt: skip

# Worker: its main process

WORKER_BATCHES = Counter("citycache_worker_batches", "Event batches handed to the pool", registry=WORKER)
WORKER_EVENTS = Counter("citycache_worker_events", "Events in these batches", registry=WORKER)
WORKER_HELD = Gauge(
    "citycache_worker_messages_held", "Messages taken from the queue and not yet acknowledged",
    multiprocess_mode="mostrecent", registry=WORKER,
)  # fmt: skip

WORKER_HOLDS = Gauge(
    "citycache_worker_events_held", "1 while a worker holds events because of what fails for all of them, by reason",
    ("reason",), multiprocess_mode="max", registry=WORKER,
)  # fmt: skip

# Worker: its children

BATCH_SECONDS = Histogram(
    "citycache_batch_duration_seconds", "Event batches, from their start in a child to the commit of their patch",
    buckets=MILLISECONDS, registry=WORKER,
)  # fmt: skip
BATCH_KEYS = Counter("citycache_batch_keys", "Distinct keys that batches looked at", registry=WORKER)
BATCH_ROWS = Counter("citycache_batch_rows_changed", "Mapping rows that batches changed", registry=WORKER)
BATCH_BISECTIONS = Counter("citycache_batch_bisections", "Batches, and parts of them, taken apart", registry=WORKER)
BATCH_RETRIES = Counter(
    "citycache_batch_retries", "Patches tried again, by reason: rollback (deadlock, serialisation) or away",
    ("reason",), registry=WORKER,
)  # fmt: skip
BURIED = Counter("citycache_dead_letters_buried", "Dead letters, by kind", ("kind",), registry=WORKER)
COMMIT_TO_CACHE = TalliedHistogram(
    "citycache_commit_to_cache_seconds", "Events, from the writing of the row to its patch; a sample of large batches",
    buckets=[bound / 1000 for bound in latency.BOUNDS], registry=WORKER,
)  # fmt: skip
WIDE_COMPANIES = Counter("citycache_wide_patch_companies", "Companies too large for a batch, patched", registry=WORKER)
WIDE_KEYS = Counter("citycache_wide_patch_keys", "Products of these companies looked at", registry=WORKER)
TASK_SECONDS = Histogram(
    "citycache_task_duration_seconds", "Runs of rebuilds, replays, clears and wide patches, by task and final state",
    ("task", "state"), buckets=MINUTES, registry=WORKER,
)  # fmt: skip
DRIFT_ROWS = Counter(
    "citycache_drift_rows", "Cached rows that a rebuild found wrong although their events had been applied",
    ("task",), registry=WORKER,
)  # fmt: skip
PRUNED = Counter(
    "citycache_pruned_rows", "Rows of history deleted because of their age, by what they were", ("kind",),
    registry=WORKER,
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """A number of the whole pipeline, read when the API is asked; absent where its server did not answer."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    kind: str = "gauge"  # or counter, whose series has `_total` behind its name

    def family(self) -> GaugeMetricFamily | CounterMetricFamily:
        """An empty family; `add_metric(label values, value)` fills it."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return kind(self.name, self.meaning, labels=self.labels)


READINGS: Final = {
    reading.name.removeprefix("citycache_"): reading
    for reading in (
        Reading("citycache_up", "1 where the server answered in time, else 0", ("server",)),
        Reading("citycache_reads_behind_seconds", "How old reads of the caches from DATABASE_READ_URL are at most"),
        Reading("citycache_outbox_rows", "Events committed and not yet confirmed by the broker"),
        Reading("citycache_outbox_oldest_seconds", "Age of the oldest of them; 0 when there is none"),
        Reading("citycache_queue_messages", "Messages that wait in a queue, without those a worker holds", ("queue",)),
        Reading("citycache_wide_patches", "Wide patches that wait: companies, and after a TRUNCATE everything"),
        Reading("citycache_wide_patches_oldest_seconds", "Age of the oldest of these requests; 0 when there is none"),
        Reading("citycache_dead_letters_open", "Dead letters that nobody has requeued or patched", ("kind",)),
        Reading("citycache_incident_open", "1 while an incident of this kind is open, else 0", ("kind",)),
        Reading("citycache_task_runs", "Runs of the last day; of many, about how many", ("task", "state")),
        Reading("citycache_history_seconds", "Age of the oldest row of a history, which pruning bounds", ("table",)),
        Reading("citycache_scheduled_run_age_seconds", "Since beat queued the task last", ("task",)),
        Reading("citycache_scheduled_runs_failed", "Last scheduled runs in a row that did not succeed", ("task",)),
        Reading("citycache_observation_age_seconds", "Since the observer wrote its last row"),
        Reading("citycache_canary_seconds", "Slower way of the last canary that arrived, commit to cache"),
        Reading("citycache_canary_age_seconds", "Since a canary arrived last"),
        Reading("citycache_freshness_seconds", "Commit-to-cache time over the last 5 minutes", ("quantile",)),
        Reading("citycache_consistency_nines", "Nines of rows that are right, by the sample", ("cache", "window")),
        Reading("citycache_audit_findings", "Cached rows that the auditor found wrong", kind="counter"),
    )
}  # fmt: skip


def begin_worker(tasks: Iterable[str]) -> None:
    """Show zeros from the beginning: the first failure must be an increase, not a new series."""
    for task in tasks:
        DRIFT_ROWS.labels(task)
        for state in ("SUCCESS", "FAILURE"):
            TASK_SECONDS.labels(task, state)
    for reason in ("rollback", "away"):
        BATCH_RETRIES.labels(reason)
    for kind in KINDS:
        BURIED.labels(kind)


def described() -> list[tuple[str, str, tuple[str, ...], str, str]]:
    """Of every metric: name as Prometheus shows it, type, labels, where, meaning."""
    found = [
        (_shown(metric.name, metric.type), metric.type, _labels(registry, metric.name), where, metric.documentation)
        for where, registry in PROCESSES.items()
        for metric in registry.collect()
    ]
    readings = [
        (_shown(reading.name, reading.kind), reading.kind, reading.labels, "api: pipeline", reading.meaning)
        for reading in READINGS.values()
    ]
    return [*found, *readings]


def table() -> str:
    """docs/metrics.md's table."""
    lines = ["| metric | type | labels | shown by | meaning |", "|---|---|---|---|---|"]
    for name, kind, labels, where, meaning in described():
        lines.append(f"| `{name}` | {kind} | {', '.join(labels)} | {where} | {meaning} |")
    return "\n".join(lines)


def _shown(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _labels(registry: CollectorRegistry, name: str) -> tuple[str, ...]:
    made = registry._names_to_collectors[name]
    return tuple(getattr(made, "_labelnames", ()))


if __name__ == "__main__":
    print(table())
