"""Another order of the feed, and events that come twice and in any order, lead to the same right answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests import shuffling
from tests.acceptance import operating
from tests.acceptance.operating import citycache, right
from tests.plain import Plain
from tests.servers import Databases, Vhosts
from tests.shuffling import Scrambler
from tests.system import System


@pytest.fixture(scope="module")
def running(
    databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Plain]]:
    """Relay and two workers."""
    place = tmp_path_factory.mktemp("disorder")
    with operating.running(databases, vhosts, place, "relay", "worker", "worker-2") as both:
        yield both


def test_the_feed_shuffled_inside_equal_instants_leads_to_the_same_counts(running: tuple[System, Plain]) -> None:
    system, plain = running
    feed = shuffling.shuffled(shuffling.lines(operating.FEED), random.Random(20261124))
    text = "".join(json.dumps(line) + "\n" for line in feed)

    citycache(system, "import", "-", stdin=text.encode())

    right(plain)
    assert operating.counts(plain) == operating.expected_counts()
    assert operating.rebuilds(plain) == 0


def test_events_that_come_twice_and_in_any_order_lead_to_the_same_counts(running: tuple[System, Plain]) -> None:
    system, plain = running
    plain.run("TRUNCATE cities CASCADE")
    right(plain)
    before, handled_before = operating.rebuilds(plain), handled(plain)

    with Scrambler(system.broker, seed=20261124) as scrambler:
        citycache(system, "import", str(operating.FEED))
        system.wait_until(lambda: plain.one("SELECT NOT EXISTS (SELECT FROM event_outbox)"), 30)

    system.wait_until(lambda: handled(plain) == handled_before + scrambler.passed, 60, "every event has come twice")
    right(plain, 5)
    assert scrambler.passed > 30_000
    assert operating.counts(plain) == operating.expected_counts()
    assert operating.rebuilds(plain) == before


def handled(plain: Plain) -> int:
    """Events that workers have applied so far, each time that they came."""
    return int(
        plain.one("""
            SELECT coalesce(sum((result->>'events')::int), 0) FROM task_runs WHERE task = 'apply_catalog_events'""")
    )
