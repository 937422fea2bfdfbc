"""How many requests a caller may send."""

from __future__ import annotations

import pytest

from backend.app.api import limits
from backend.app.api.edge.shares import network
from backend.app.api.limits import Buckets


def test_a_burst_passes_then_the_rate_counts() -> None:
    buckets = Buckets(rate=10)

    passed = [buckets.wait("a", now=0.0) for _ in range(21)]

    assert passed[:20] == [0.0] * 20
    assert passed[20] == pytest.approx(0.1)
    assert buckets.wait("a", now=0.1) == 0.0
    assert buckets.wait("a", now=0.1) > 0
    assert buckets.wait("b", now=0.1) == 0.0, "everybody has a bucket of their own"


def test_a_bucket_holds_no_more_than_a_burst() -> None:
    buckets = Buckets(rate=1)
    buckets.wait("a", now=0.0)

    assert [buckets.wait("a", now=3600.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_a_rate_below_one_lets_single_requests_through() -> None:
    buckets = Buckets(rate=0.1)

    assert buckets.wait("a", now=0.0) == 0.0
    assert buckets.wait("a", now=0.0) == pytest.approx(10.0)


def test_callers_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CALLERS", 3)
    buckets = Buckets(rate=10)

    for number in range(1000):
        buckets.wait(f"caller {number}", now=0.0)

    assert len(buckets._buckets) == 3


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "address 192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address 2001:db8:1:2::/64"),
        ("testclient", "address testclient"),
        (None, "address None"),
    ],
)
def test_one_customer_is_one_caller(address: str | None, caller: str) -> None:
    assert network(address) == caller
