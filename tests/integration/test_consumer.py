"""The worker's step: deliveries become batches that grow with the backlog, and are acknowledged once applied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from backend.app import settings as own
from backend.app.celery_app import app
from backend.app.tasks.roster import APPLY_EVENTS
from backend.app.worker import consumer, starting
from backend.app.worker.consumer import BULK, SUSPECT_DELIVERIES, EventConsumer, read
from events import contract

TIME = "2026-11-24T10:00:00.000000Z"


@dataclass
class Channel:
    """Remembers what it is told."""

    acked: list[tuple[int, bool]] = field(default_factory=list)
    rejected: list[tuple[int, bool]] = field(default_factory=list)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        self.acked.append((tag, multiple))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        self.rejected.append((tag, requeue))


@dataclass
class Entry:
    """A timer that is set."""

    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Begun:
    """A batch that the pool has got."""

    events: int
    ids: list[int]
    letters: int
    ack: Callable[[], None]
    reject: Callable[..., None]
    suspect: dict[str, Any]
    task_id: str
    size: int  # bytes


class Step:
    """The consumer step with a channel, a clock and a pool of the test's own."""

    def __init__(self) -> None:
        self.begun: list[Begun] = []
        self.channel = Channel()
        self._timers: list[Entry] = []
        self._tag = 0
        timer = SimpleNamespace(call_after=self._set)
        worker = SimpleNamespace(app=app, timer=timer, strategies={APPLY_EVENTS.name: self._begin})
        self.step = EventConsumer(worker)
        self.step._worker, self.step._channel = worker, self.channel

    def deliver(self, ids: range | list[int], headers: dict[str, Any] | None = None, time: str = TIME) -> int:
        """A message with an event for each id arrives; its delivery tag."""
        return self.receive(body(*ids, time=time), headers or {})

    def receive(self, body: bytes, headers: dict[str, Any]) -> int:
        """A message arrives; its delivery tag."""
        self._tag += 1
        self.step._on_event(
            SimpleNamespace(body=body, content_type=contract.BATCH, headers=headers, delivery_tag=self._tag)
        )
        return self._tag

    def tick(self) -> None:
        """All timers that are set go off."""
        timers, self._timers = self._timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.call()

    def _set(self, seconds: float, call: Callable[[], None]) -> Entry:
        self._timers.append(Entry(call))
        return self._timers[-1]

    def _begin(self, message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        kwargs = json.loads(message.body)[1]
        self.begun.append(
            Begun(
                len(kwargs["hints"]),
                [hint[1] for hint in kwargs["hints"]],
                len(kwargs["unreadable"]),
                lambda: ack(None, None),
                lambda: reject(None, (), True),
                kwargs.get("suspect") or {},
                message.headers["id"],
                len(message.body),
            )
        )


def body(*ids: int, time: str = TIME) -> bytes:
    return contract.encode(
        contract.event(f"e{n}", "catalog.product.updated", f"product/{n}", time, None, "{}", None) for n in ids
    )


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    monkeypatch.setenv("BATCH_KEYS", "10")
    monkeypatch.setenv("BATCHES_IN_FLIGHT", "2")
    monkeypatch.setattr(starting, "SHORT_SECONDS", 0.0)
    own.settings.cache_clear()
    yield Step()
    own.settings.cache_clear()


# Batches


def test_nothing_starts_before_the_linger_is_over(step: Step) -> None:
    step.deliver([1])
    step.deliver([2, 3])
    assert step.begun == []

    step.tick()

    assert [batch.events for batch in step.begun] == [3]


def test_a_batch_grows_for_a_while_beside_one_under_way(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "SHORT_SECONDS", 3_600.0)
    for n in range(5):
        step.deliver([n])
        step.tick()
    assert [batch.events for batch in step.begun] == [1]

    step.begun[0].ack()
    step.tick()

    assert [batch.events for batch in step.begun] == [1, 4]


def test_batches_grow_while_all_slots_are_taken(step: Step) -> None:
    for n in range(2):
        step.deliver([n])
        step.tick()
    for n in range(5):
        step.deliver([n])
        step.tick()
    assert [batch.events for batch in step.begun] == [1, 1]

    step.begun[0].ack()
    step.tick()

    assert [batch.events for batch in step.begun] == [1, 1, 5]


def test_a_full_batch_is_closed_and_the_next_one_opened(step: Step) -> None:
    for _ in range(3):
        step.deliver(range(8))
    step.deliver(range(3))

    step.tick()

    assert [batch.events for batch in step.begun] == [24, 3]


def test_a_large_batch_is_patched_in_two_halves_that_share_no_lane(step: Step) -> None:
    step.deliver(range(24, 40))

    step.tick()

    assert [{key % 64 < 32 for key in batch.ids} for batch in step.begun] == [{False}, {True}]
    assert sorted(key for batch in step.begun for key in batch.ids) == list(range(24, 40))


def test_nothing_is_lost_or_told_twice_when_a_batch_is_halved(step: Step) -> None:
    step.deliver([*range(24, 40), 2**63])  # the last id is none

    step.tick()

    assert [batch.letters for batch in step.begun] == [1, 0]


def test_a_large_batch_has_a_while_for_itself(step: Step) -> None:
    """Beside it the next one would only wait for its lanes; meanwhile it grows."""
    step.deliver(range(300))
    step.tick()
    first = list(step.begun)
    step.deliver([1])
    step.tick()
    step.deliver([2])
    step.tick()
    assert step.begun == first

    for batch in first:
        batch.ack()
    step.tick()

    assert [batch.events for batch in step.begun[len(first) :]] == [2]


def test_a_large_batch_that_takes_long_holds_up_nobody(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    step.deliver(range(300))
    step.tick()
    first = list(step.begun)
    step.deliver([1])
    step.tick()

    monkeypatch.setattr(starting, "ALONE_SECONDS", 0.0)
    step.tick()

    assert [batch.events for batch in step.begun[len(first) :]] == [1]


def test_a_message_that_came_back_often_is_applied_alone(step: Step) -> None:
    step.deliver([1])
    step.deliver([2], {"x-delivery-count": SUSPECT_DELIVERIES})
    step.deliver([3])

    step.tick()
    step.begun[0].ack()
    step.tick()

    assert [batch.events for batch in step.begun] == [1, 1, 1]


def test_however_often_a_message_came_back_its_events_are_applied(step: Step) -> None:
    """An outage returns it as often as a worker's death would."""
    step.deliver([1, 2], {"x-delivery-count": 1_000})

    step.tick()

    assert (step.begun[0].events, step.begun[0].letters) == (2, 0)


def test_a_message_keeps_its_name_through_its_deliveries_and_another_has_another(step: Step) -> None:
    for ids in ([1], [1], [2]):
        step.deliver(ids, {"x-delivery-count": SUSPECT_DELIVERIES})
        step.tick()
        step.begun[-1].ack()

    names = [batch.suspect["message"] for batch in step.begun]
    assert names[0] == names[1] != names[2]


def test_an_attempt_that_ended_with_its_connection_is_told_to_the_next_one(step: Step) -> None:
    step.deliver([1], {"x-delivery-count": SUSPECT_DELIVERIES})
    step.tick()
    worker, channel = step.step._worker, step.step._channel

    step.step._reset()
    step.step._worker, step.step._channel = worker, channel
    step.deliver([1], {"x-delivery-count": SUSPECT_DELIVERIES + 1})
    step.tick()

    assert step.begun[0].suspect["interrupted"] == []
    assert step.begun[1].suspect["interrupted"] == [step.begun[0].task_id]


def test_dead_letters_fill_a_batch_by_their_bytes(step: Step) -> None:
    for _ in range(40):
        step.receive(b"x" * 250_000, {})
    step.tick()

    sizes = [batch.size for batch in step.begun]
    assert len(sizes) == 2, "all slots are busy, the others wait"
    assert max(sizes) < 1.2 * consumer.MOST_LETTER_BYTES


def test_what_a_worker_keeps_of_dead_letters_has_a_bound(step: Step) -> None:
    for _ in range(200):
        step.receive(b"x" * 250_000, {})

    kept = sum(batch.letter_bytes for batch in step.step._held())
    assert kept < consumer.MOST_KEPT_BYTES + 250_000 + 200 * consumer.BEGINNING
    assert sum(len(batch.letters) for batch in step.step._held()) == 200


# Acknowledgements


def test_a_batch_is_acknowledged_at_once_when_it_is_applied(step: Step) -> None:
    step.deliver([1])
    step.deliver([2])
    step.tick()
    assert step.channel.acked == []

    step.begun[0].ack()

    assert step.channel.acked == [(2, True)]


def test_a_batch_is_acknowledged_alone_while_those_before_it_are_under_way(step: Step) -> None:
    """Acknowledging several at once takes all tags up to one."""
    step.deliver([1])
    step.tick()
    step.deliver([2])
    step.tick()

    step.begun[1].ack()
    assert step.channel.acked == [(2, False)]

    step.begun[0].ack()
    assert step.channel.acked == [(2, False), (1, True)]


def test_lone_events_go_past_messages_of_many_and_both_go_on(step: Step) -> None:
    for n in range(4):
        step.deliver(range(1000 * n, 1000 * n + BULK))
    step.tick()
    assert len(step.begun) == 4, "two batches in two halves each"
    step.deliver([1])
    step.deliver([2])

    for half in step.begun[:2]:
        half.ack()
    step.tick()
    assert step.begun[4].ids == [1, 2], "before the other bulk"

    step.begun[4].ack()
    step.deliver([3])
    step.tick()
    assert step.begun[5].ids == [3], "again, since bulk is in flight"

    for half in step.begun[2:4]:
        half.ack()
    step.deliver([4])
    step.tick()
    assert [batch.ids for batch in step.begun[6:] if batch.ids == [4]] == [], "now it is the turn of bulk"
    assert len(step.begun) == 8
    assert step.channel.acked == [(1, True), (5, False), (6, False), (2, True)]


def test_what_waits_when_the_worker_stops_is_not_acknowledged_with_what_went_past_it(step: Step) -> None:
    for n in range(4):
        step.deliver(range(1000 * n, 1000 * n + BULK))
    step.tick()
    step.deliver([1])
    for half in step.begun[:2]:
        half.ack()
    step.tick()
    assert step.begun[4].ids == [1]

    step.step.stop(SimpleNamespace(connection=None))
    for half in step.begun[2:]:
        half.ack()
    assert step.channel.acked == [(1, True), (2, True), (5, False)]


def test_a_batch_whose_worker_died_returns_and_those_after_it_are_acknowledged(step: Step) -> None:
    step.deliver([1])
    step.tick()
    step.deliver([2])
    step.tick()
    step.begun[1].ack()

    step.begun[0].reject()

    assert step.channel.rejected == [(1, True)]
    assert step.channel.acked == [(2, False)]
    step.deliver([3])
    step.tick()
    assert len(step.begun) == 3


def test_a_halved_batch_is_acknowledged_when_both_halves_are_applied(step: Step) -> None:
    step.deliver(range(24, 40))
    step.deliver(range(24, 40))
    step.tick()

    step.begun[1].ack()
    assert step.channel.acked == []

    step.begun[0].ack()
    assert step.channel.acked == [(2, True)]


@pytest.mark.parametrize("refused", [0, 1])
def test_a_halved_batch_of_which_one_half_failed_returns_whole(step: Step, refused: int) -> None:
    step.deliver(range(24, 40))
    step.tick()

    for number, half in enumerate(step.begun):
        assert step.channel.rejected == []
        half.reject() if number == refused else half.ack()

    assert step.channel.acked == []
    assert step.channel.rejected == [(1, True)]


def test_nothing_is_acknowledged_on_another_connection(step: Step) -> None:
    step.deliver([1])
    step.tick()
    step.step._channel = Channel()

    step.begun[0].ack()
    step.begun[0].reject()

    assert step.channel.acked == step.channel.rejected == []


def test_says_what_it_holds(step: Step) -> None:
    assert step.step.held()["messages"] == 0
    step.deliver([1])
    step.tick()
    step.deliver([2])

    held = step.step.held()
    assert held["messages"] == 2
    assert held["oldest"] == TIME
    assert held["newest"] is None, "0.1.0 cannot read an answer without it"


def test_says_how_old_what_it_holds_is_in_whatever_zone_its_publishers_write(step: Step) -> None:
    for time in ("2026-11-24T11:30:00+03:00", TIME, "2026-11-24T09:00:00Z"):
        step.deliver([1], time=time)

    held = step.step.held()
    assert held["oldest"] == "2026-11-24T08:30:00.000000Z"


def test_an_event_of_unknown_age_may_be_the_oldest_of_all(step: Step) -> None:
    step.deliver([1])
    step.deliver([2], time="the day before yesterday")
    step.deliver([3])

    held = step.step.held()
    assert held["oldest"] is None


# Reading


EVENT = {
    "specversion": "1.0",
    "id": "e1",
    "type": "catalog.company.deleted",
    "source": "/somewhere",
    "subject": "company/7",
    "time": TIME,
    "datacontenttype": "application/json",
    "data": {"before": {"id": 7}, "after": None, "changed": []},
}


def message(body: Any, content_type: str, headers: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(body=json.dumps(body).encode(), content_type=content_type, headers=headers or {})


@pytest.mark.parametrize(
    "arrived",
    [
        message([EVENT], contract.BATCH),
        message([EVENT], contract.BATCH + "; charset=utf-8"),
        message(EVENT, contract.STRUCTURED),
        message(
            EVENT["data"],
            "application/json",
            {f"cloudEvents:{name}": value for name, value in EVENT.items() if name not in ("data", "datacontenttype")},
        ),
        message(
            EVENT["data"],
            "application/json",
            {f"cloudEvents_{name}": value for name, value in EVENT.items() if name not in ("data", "datacontenttype")},
        ),
        message([EVENT | {"somebody": "else's extension"}], contract.BATCH),
    ],
    ids=["batch", "batch with charset", "structured", "binary", "binary, the other spelling", "extension"],
)
def test_reads_an_event_in_every_mode(arrived: Any) -> None:
    hints, letters = read(arrived)

    assert letters == []
    assert [(hint.noun, hint.id, hint.event_id, hint.time) for hint in hints] == [("company", 7, "e1", TIME)]


def test_a_bad_event_does_not_spoil_its_neighbours() -> None:
    bad = [EVENT | {"subject": "company/x"}, EVENT | {"type": "catalog.planet.created"}, {"id": 3}, "text"]

    hints, letters = read(message([EVENT, *bad, EVENT], contract.BATCH))

    assert len(hints) == 2
    assert len(letters) == 3, "what is no event at all becomes one letter, however much there is of it"
    assert [letter.kind for letter in letters].count("unknown_type") == 1
