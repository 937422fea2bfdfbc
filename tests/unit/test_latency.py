"""What is said of times is near what they were, also after an outage of hours."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backend.app.telemetry import latency
from backend.app.telemetry.latency import BOUNDS

NOW = 1_800_000_000.0
HOUR_MS = 3_600_000
seconds = st.floats(0.001, HOUR_MS / 1000)


@given(st.lists(seconds, min_size=1, max_size=latency.SAMPLE), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_within_a_few_times_of_the_true_one(waited: list[float], share: float) -> None:
    texts = [datetime.fromtimestamp(NOW - each, UTC).isoformat().replace("+00:00", "Z") for each in waited]
    said = latency.percentile(latency.histogram(texts, NOW), share)
    true = sorted(waited)[math.ceil(share * len(waited)) - 1] * 1000
    assert said is not None
    assert true / 4 - 1 <= said <= true * 4 + 1


def test_bounds_grow_by_no_more_than_four_times_up_to_an_hour() -> None:
    pairs = pairwise(BOUNDS)
    assert all(low < high and (high <= 4 * low or low >= HOUR_MS) for low, high in pairs)


def test_histograms_are_summed_and_those_of_other_bounds_left_out() -> None:
    one = [1] * (len(BOUNDS) + 1)
    assert latency.total([one, [9] * 23, one]) == [2] * (len(BOUNDS) + 1)
    assert latency.total([]) == [0] * (len(BOUNDS) + 1)
