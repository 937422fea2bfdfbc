"""What is kept of a message that cannot be applied is bounded, and is sent again without holding anything up."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backend.app import db, settings
from backend.app.dead_letters import letters as dead_letters
from backend.app.dead_letters import requeue
from backend.app.dead_letters.letters import CUT, MOST_PAYLOAD, DeadLetter, unreadable
from backend.app.dead_letters.requeue import PART, Chosen, SentAgain, one_by_one
from backend.app.errors import BrokerAway
from events.contract import Hint
from events.errors import Malformed, UnknownType
from tests import oracle
from tests.plain import Plain

HUGE = 300_000
CURLY = "\N{RIGHT DOUBLE QUOTATION MARK}"
MOST_BYTES = 12 * 2**20  # that Python may take to keep 2 million characters
SCALARS = some.one_of(some.text(max_size=2_000), some.integers(-(2**63), 2**63), some.floats(), some.none())


@pytest.fixture
def plain(database: str, configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """The test's database, whose events are applied in this process."""
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
    settings.settings.cache_clear()
    with Plain(database) as plain:
        yield plain


def bury(*letters: DeadLetter) -> None:
    with db.transaction() as connection:
        dead_letters.bury(connection, letters, str(uuid4()))


def failed(plain: Plain, companies: int) -> list[int]:
    """Letters of companies that could not be patched, and now could be; the ids of the companies."""
    plain.run("INSERT INTO cities (id, name) VALUES (1, 'a')")
    ids = plain.column(
        "INSERT INTO companies (name, city_id) SELECT 'c', 1 FROM generate_series(1, %s) RETURNING id", [companies]
    )
    bury(*(dead_letters.failed(Hint("company", row, str(uuid4()), "", None), Malformed("broken"), 3) for row in ids))
    return ids


# What is kept


@pytest.mark.parametrize(
    "letter",
    [
        unreadable(Malformed("r" * HUGE), b"b" * HUGE, "c" * HUGE, {"h" * HUGE: "v" * HUGE}),
        unreadable(UnknownType("t" * HUGE), "b" * HUGE, "", {str(n): n for n in range(1_000)}),
        unreadable(Malformed("binary"), b"\xff" * HUGE, "", {}),
        unreadable(Malformed("wide characters"), "\N{SNOWMAN}".encode() * HUGE, "", {}),
        dead_letters.failed(Hint("product", 1, "i" * HUGE, "t" * HUGE, None), Malformed("m" * HUGE), 3),
        DeadLetter("failed", "r" * HUGE, subject="s" * HUGE, event_type="t" * HUGE),
    ],
    ids=["everything", "type and headers", "binary", "wide characters", "a key", "of another release"],
)  # fmt: skip
def test_a_letter_has_a_bound_in_every_part(plain: Plain, letter: DeadLetter) -> None:
    bury(letter)

    (kept,) = dead_letters.listed()
    assert len(kept["reason"]) <= dead_letters.MOST_REASON
    assert len(kept["payload"] or "") <= dead_letters.MOST_PAYLOAD
    assert all(len(kept[name] or "") <= dead_letters.MOST_NAME for name in ("subject", "event_id", "event_type"))
    assert plain.one("SELECT coalesce(max(length(headers::text)), 0) FROM dead_letters") < 2**16


def test_what_was_cut_says_so() -> None:
    letter = unreadable(Malformed("r" * 1_000), b"b" * HUGE, "", {CUT: "no"})

    assert letter.reason.endswith("… (cut, of 1000 characters)")
    assert letter.headers == {CUT: f"{HUGE} bytes"}


@given(headers=some.dictionaries(some.text(max_size=300), SCALARS, max_size=80), body=some.binary(max_size=2_000))
def test_any_headers_and_any_body_make_a_letter(headers: dict[str, Any], body: bytes) -> None:
    letter = unreadable(Malformed("wrong"), body, "", headers, most=1_000)

    assert len(letter.payload or "") <= 1_000
    assert all(not isinstance(value, float) or math.isfinite(value) for value in (letter.headers or {}).values())


def test_letters_with_what_json_and_postgresql_do_not_know_can_be_kept(plain: Plain) -> None:
    bury(unreadable(Malformed("\0\ud800"), b"\0", "\0", {"a": math.nan, "b": math.inf, "c\0": "\ud800\0", "d": 2**63}))

    assert plain.one("SELECT count(*) FROM dead_letters") == 1


def test_counts_open_letters_no_further_than_asked(plain: Plain) -> None:
    bury(*(DeadLetter("failed", "r") for _ in range(50)))
    plain.run("UPDATE dead_letters SET closed_at = now() WHERE id IN (SELECT id FROM dead_letters LIMIT 10)")

    with db.transaction() as connection:
        assert dead_letters.open_letters(connection) == 40
        assert dead_letters.open_letters(connection, most=7) == 7


def test_letters_of_a_reason_are_found_by_a_name_that_fits_into_an_address(plain: Plain) -> None:
    bury(DeadLetter("failed", "a" * HUGE), DeadLetter("failed", "a" * HUGE), DeadLetter("unreadable", "a" * HUGE))

    groups = [found["group"] for found in dead_letters.reasons()]

    assert [len(dead_letters.listed(group=group)) for group in groups] == [2, 1]
    assert all(len(group) == 32 for group in groups)


def test_many_large_letters_are_kept_in_little_memory(plain: Plain) -> None:
    bodies = [f"{number}{CURLY * (MOST_PAYLOAD - 1)}" for number in range(8)]

    tracemalloc.start()
    bury(*(DeadLetter("unreadable", "r", payload=body) for body in bodies))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert plain.column("SELECT payload FROM dead_letters ORDER BY id") == bodies
    assert peak < MOST_BYTES


# Sending again


def test_letters_are_applied_in_this_process_and_each_is_closed_once(plain: Plain) -> None:
    failed(plain, 120)

    assert requeue.requeue(Chosen()) == SentAgain(120, more=False)

    assert plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL") == 0
    assert plain.all("SELECT DISTINCT split_part(closed_because, '/', 1) FROM dead_letters") == [
        ("a later patch of company",)
    ]
    assert oracle.violations(plain) == []


def test_what_there_is_no_time_for_stays_open_and_the_answer_says_so(plain: Plain) -> None:
    failed(plain, 2 * PART + 20)
    sent: list[int] = []
    send = one_by_one(lambda letter: sent.append(letter["id"]))

    assert [requeue._send_all(Chosen(), send, until=0.0) for _ in range(3)] == [
        SentAgain(PART, more=True),
        SentAgain(PART, more=True),
        SentAgain(20, more=False),
    ]
    assert sent == plain.column("SELECT id FROM dead_letters ORDER BY id")


def test_what_is_buried_anew_meanwhile_is_not_sent_once_more(plain: Plain) -> None:
    failed(plain, 3)

    def send(letter: dict[str, Any]) -> None:
        bury(dead_letters.failed(Hint("company", letter["id"], str(uuid4()), "", None), Malformed("broken"), 3))

    assert requeue._send_all(Chosen(), one_by_one(send)) == SentAgain(3, more=False)
    assert plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL") == 3


def test_nothing_is_locked_while_letters_are_sent(plain: Plain) -> None:
    failed(plain, 3)
    locked: list[int] = []

    def send(letter: dict[str, Any]) -> None:
        locked.append(plain.one("SELECT id FROM dead_letters WHERE id = %s FOR UPDATE NOWAIT", [letter["id"]]))

    requeue._send_all(Chosen(), one_by_one(send))

    assert locked == plain.column("SELECT id FROM dead_letters ORDER BY id")
    assert plain.column("SELECT DISTINCT closed_because FROM dead_letters") == ["requeued"]


def test_what_was_not_sent_stays_open_and_can_be_sent_at_once(plain: Plain) -> None:
    failed(plain, 5)
    sent: list[int] = []

    def send(letter: dict[str, Any]) -> None:
        if len(sent) == 2:
            raise BrokerAway
        sent.append(letter["id"])

    with pytest.raises(BrokerAway):
        requeue._send_all(Chosen(), one_by_one(send))

    assert plain.column("SELECT id FROM dead_letters WHERE closed_at IS NOT NULL ORDER BY id") == sent
    assert requeue._send_all(Chosen(), one_by_one(lambda letter: None)).requeued == 3


def test_two_who_send_at_once_send_each_letter_once(plain: Plain) -> None:
    failed(plain, 5)
    sent: list[int] = []

    def send(letter: dict[str, Any]) -> None:
        requeue._send_all(Chosen(), one_by_one(lambda other: sent.append(other["id"])))
        sent.append(letter["id"])

    requeue._send_all(Chosen(), one_by_one(send))

    assert sorted(sent) == plain.column("SELECT id FROM dead_letters ORDER BY id")


def test_a_claim_of_a_process_that_is_gone_ends(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(plain, 2)
    requeue._claim(Chosen(), 0, 10**9)
    assert requeue._claim(Chosen(), 0, 10**9) == []

    monkeypatch.setattr(requeue, "CLAIM_SECONDS", 0.0)

    assert len(requeue._claim(Chosen(), 0, 10**9)) == 2


def test_the_beginning_of_a_message_is_not_sent_as_if_it_were_the_message(plain: Plain) -> None:
    bury(unreadable(Malformed("too large"), b"b" * HUGE, "", {}))

    assert requeue.requeue(Chosen()).requeued == 0
