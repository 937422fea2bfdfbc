"""What callers without a key can write into the audit log."""

from __future__ import annotations

from backend.app.access.audit_log import AuditEntry
from backend.app.api.sampling import HOUR_SECONDS, MOST_OF_ALL, MOST_OF_ONE, WINDOW_SECONDS, Sampling


def refusal(address: str, detail: str = "the API key is wrong") -> AuditEntry:
    return AuditEntry(None, None, address, "POST", "/api/v1/cities", 401, detail)


def test_the_first_of_a_kind_is_taken_and_the_others_are_counted_when_their_minute_ends() -> None:
    sampling = Sampling()

    taken = [sampling.takes(refusal("192.0.2.1"), now=1.0) for _ in range(5)]

    assert taken == [True, False, False, False, False]
    assert sampling.counts(now=WINDOW_SECONDS) == []
    (counted,) = sampling.counts(now=1.0 + WINDOW_SECONDS)
    assert counted.detail == "the API key is wrong (4 more like this one)"
    assert sampling.takes(refusal("192.0.2.1"), now=2.0 + WINDOW_SECONDS)


def test_one_of_a_kind_needs_no_count() -> None:
    sampling = Sampling()
    sampling.takes(refusal("192.0.2.1"), now=1.0)
    assert sampling.counts(now=float("inf")) == []


def test_a_network_of_one_customer_is_one_caller() -> None:
    sampling = Sampling()
    assert sampling.takes(refusal("2001:db8::1"), now=1.0)
    assert not sampling.takes(refusal("2001:db8::2"), now=1.0)


def test_no_crowd_and_no_caller_writes_more_than_its_part_of_an_hour() -> None:
    sampling = Sampling()
    noisy = [sampling.takes(refusal("192.0.2.1", f"reason {number}"), now=1.0) for number in range(1_000)]
    others = [sampling.takes(refusal(f"10.{number >> 8}.{number & 255}.1"), now=2.0) for number in range(5_000)]

    assert (sum(noisy), sum(others)) == (MOST_OF_ONE, MOST_OF_ALL - MOST_OF_ONE)
    (rest,) = sampling.counts(now=2.0 + HOUR_SECONDS)
    assert (rest.address, rest.detail) == (
        None,
        f"refused, from any address ({6_000 - MOST_OF_ALL:,} more like this one)",
    )
    assert sampling.takes(refusal("192.0.2.9"), now=2.0 + HOUR_SECONDS)
    assert len(sampling) == 1
