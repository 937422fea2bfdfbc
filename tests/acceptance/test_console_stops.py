"""Whatever stands still, the console says so within 15 seconds, names the station, and is well again afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.acceptance.stage import Stage, stage

PROMISED_SECONDS = 15
STATIONS = {  # what is stopped → station, and words of its reason
    "relay": ("relay", "relay"),
    "worker": ("worker", "worker"),
    "broker": ("relay", "The broker does not answer"),
    "database": ("writers", "The database does not answer"),
}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("stops")) as open_stage:
        yield open_stage


@pytest.mark.parametrize("part", STATIONS)
def test_names_the_station_that_stands_still(console: Stage, part: str) -> None:
    station, words = STATIONS[part]
    with console.page() as visit:
        visit.page.wait_for_selector("#canary[data-state=ok]", timeout=30_000)
        with console.stopped(part):
            began = time.monotonic()
            visit.page.wait_for_selector(f".station[data-station={station}][data-state=standing]", timeout=15_000)
            visit.page.wait_for_selector("#tile-pipeline[data-state=standing]", timeout=5_000)
            visit.page.wait_for_selector("#canary[data-state=absent]", timeout=15_000)
            assert time.monotonic() - began < PROMISED_SECONDS
            named = visit.text(f".station[data-station={station}] h3")
            assert visit.text("#pipeline-word").endswith(named)
            assert words in visit.text("#pipeline-why")
        visit.page.wait_for_selector("#tile-pipeline[data-state=ok]", timeout=30_000)
        visit.page.wait_for_selector("#canary[data-state=ok]", timeout=30_000)


def test_names_a_relay_and_a_worker_that_died(console: Stage) -> None:
    with console.page() as visit:
        for part in ("relay", "worker"):
            console.system.kill(part)
            visit.page.wait_for_selector(f".station[data-station={part}][data-state=standing]", timeout=15_000)
            console.system.start([part])
            visit.page.wait_for_selector("#tile-pipeline[data-state=ok]", timeout=30_000)
