"""Whatever stands still, the console says so within 15 seconds, blames the right one, and is well again afterwards."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Error, expect

from backend.embedded import spawn
from tests.acceptance.stage import Stage, Visit, stage
from tests.servers import ROOT
from tests.system import SCRIPTS
from tests.waiting import until

PROMISED_SECONDS = 15
NEED = re.compile("needs? you")
DASH = "\N{EN DASH}"
NAMES = "all => all.map(one => one.dataset.station)"
WATCHFUL = {"STALL_SECONDS": "6", "CANARY_SECONDS": "2", "AUDIT_CORE_SHARE": "0.1"}
BACK_SECONDS = 45  # for connections to be made anew, and a canary to come
STOPPED = {  # what is stopped → what is named, the station that stands, and kinds of incident of which one is shown
    "relay": ("Relay", "relay", ("relay_stands", "relay_absent")),
    "worker": ("Worker", "worker", ("worker_silent", "worker_stands")),
    "broker": ("RabbitMQ", None, ("broker_away",)),
    "database": ("PostgreSQL", None, ("database_away",)),
}
BOUND = ("#p50", "#p99", "#nines", "#totals", "#letters-body", "#findings-body", "#pipeline-foot")  # to the database

CATALOG = """
    INSERT INTO cities (id, name) VALUES (1, 'Berlin'), (2, 'Lisbon');
    INSERT INTO companies (id, name, city_id) VALUES (1, 'c', 1);
    INSERT INTO products (id, name, company_id) VALUES (77, 'p', 1);
    INSERT INTO task_runs (task_id, task, trigger, state, queued_at, started_at, finished_at)
        VALUES (gen_random_uuid(), 'refresh_all_caches', 'beat', 'SUCCESS', now(), now(), now())"""


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("stops"), CATALOG, **WATCHFUL) as open_stage:
        yield open_stage


@contextmanager
def told(console: Stage, visit: Visit) -> Iterator[None]:
    """Whatever fails, with what the page showed and what the processes said."""
    try:
        yield
    except (AssertionError, Error) as failure:
        shown = visit.page.evaluate("document.querySelector('main').innerText.slice(0, 2500)")
        logs = "\n".join(f"--- {name}\n{console.system.log(name)[-2_500:]}" for name in ("api", "relay", "worker"))
        raise AssertionError(f"{failure}\n--- page\n{shown}\n{logs}") from failure


def is_well(visit: Visit) -> None:
    for well in ("#verdict[data-state=well]", "#tile-pipeline[data-state=ok]", "#canary[data-state=ok]"):
        visit.page.wait_for_selector(well, timeout=BACK_SECONDS * 1000)


def canary_came(console: Stage) -> None:
    """Wait for one that the observer has noted from now on."""
    now = console.plain.one("SELECT clock_timestamp()")
    came = "SELECT count(*) FROM observations WHERE canary_ms IS NOT NULL AND at > %s"
    until(lambda: console.plain.one(came, (now,)) > 0, BACK_SECONDS, "a canary has come through")


@pytest.mark.parametrize("part", STOPPED)
def test_blames_what_stands_still_and_keeps_it_as_an_incident(console: Stage, part: str) -> None:
    name, station, kinds = STOPPED[part]
    listed = "#incidents-body tr:is({})[data-open=false]".format(",".join(f"[data-kind={kind}]" for kind in kinds))
    with console.page() as visit, told(console, visit):
        page = visit.page
        is_well(visit)
        canary_came(console)  # else one that the stop before has kept is the first to be missed
        with console.stopped(part):
            began = time.monotonic()
            page.wait_for_selector("#tile-pipeline[data-state=standing]", timeout=PROMISED_SECONDS * 1000)
            assert visit.text("#pipeline-word") == f"Stopped: {name}"
            standing = page.locator(".station[data-state=standing]").evaluate_all(
                "all => all.map(one => one.dataset.station)"
            )
            assert standing == ([station] if station else [])
            page.wait_for_selector(",".join(f"#verdict-list li[data-kind={kind}]" for kind in kinds), timeout=15_000)
            page.wait_for_selector("#canary[data-state=absent]", timeout=15_000)
            assert time.monotonic() - began < PROMISED_SECONDS + 5
            expect(page).to_have_title(NEED)
            assert page.locator("link[rel=icon]").get_attribute("href") == "console/icon-bad.svg"
            expect(page.locator("#announce")).to_contain_text(
                "needs you" if page.locator("#verdict-list li").count() == 1 else "need you"
            )
            if part == "database":
                shows_nothing_as_known(page)
            observed = [f"kind={kind}" for kind in kinds]
            until(lambda: any(words in console.system.log("api") for words in observed), 20, "the observer has seen it")
        is_well(visit)
        page.reload()
        page.wait_for_selector(listed, timeout=20_000)


@contextmanager
def fast_beat(console: Stage) -> Iterator[None]:
    """A second beat, for which each task is due every few seconds."""
    command = [str(SCRIPTS / "celery"), "-A", "tests.acceptance.fast_schedule", "beat", "--pidfile="]
    schedule = ["--schedule", str(console.system.place / "fast-schedule")]
    environment = console.system.environment | {"FAST_EVERY": "8"}
    log = console.system.place / "fast-beat.log"
    beat = spawn.spawn([*command, *schedule], log=log, env=environment, cwd=ROOT)
    try:
        yield
    finally:
        spawn.end(beat, signal.SIGTERM, 15)


def test_a_broker_that_was_killed_leaves_an_incident_and_the_next_due_run_succeeds(console: Stage) -> None:
    succeeded = "SELECT count(*) FROM task_runs WHERE trigger = 'beat' AND state = 'SUCCESS' AND scheduled_for > %s"
    with console.page() as visit, told(console, visit), fast_beat(console):
        is_well(visit)
        began = console.plain.one("SELECT now()")
        until(lambda: console.plain.one(succeeded, (began,)) > 0, 60, "a due run succeeds")
        console.rabbitmq.kill()
        visit.page.wait_for_selector("#verdict-list li[data-kind=broker_away]", timeout=15_000)
        until(lambda: "kind=broker_away" in console.system.log("api"), 20, "the observer has seen it")
        back = console.plain.one("SELECT now()")
        console.rabbitmq.start()
        until(lambda: console.plain.one(succeeded, (back,)) > 0, 90, "the next due run succeeds")
        is_well(visit)
        visit.page.reload()
        row = visit.page.locator("#incidents-body tr[data-kind=broker_away][data-open=false]").first
        expect(row.locator("time")).to_have_count(2, timeout=20_000)


def shows_nothing_as_known(page: Any) -> None:
    """While the database is away: no zero, no none, nothing green but how runs have ended, which stays true."""
    page.wait_for_selector("#tile-consistency[data-state=unknown]")
    for selector in BOUND:
        shown = page.locator(selector).inner_text()
        assert "0" not in re.sub(r"\d\d:\d\d(:\d\d)?", "", shown), f"{selector}: {shown}"
        assert "none" not in shown.lower(), f"{selector}: {shown}"
        assert shown == DASH or "Unknown since" in shown, f"{selector}: {shown}"
    assert page.locator("main .icon.ok:visible:not(#run-list .icon)").count() == 0, "nothing is green"
    assert page.locator("#run-list .icon.ok:visible").count() > 0
    assert page.locator("#requeue-all").is_hidden()
    with page.context.new_page() as other:
        other.goto(page.url)
        expect(other.locator("#timeline .frame").first).to_have_attribute(
            "data-empty", re.compile("Unknown"), timeout=20_000
        )


def test_names_a_relay_and_a_worker_that_died(console: Stage) -> None:
    with console.page() as visit, told(console, visit):
        for part in ("relay", "worker"):
            console.system.kill(part)
        for part in ("relay", "worker"):
            visit.page.wait_for_selector(f".station[data-station={part}][data-state=standing]", timeout=15_000)
        assert visit.text("#pipeline-word") == "Stopped: Relay"
        console.system.start(["relay", "worker"])
        visit.page.wait_for_selector("#tile-pipeline[data-state=ok]", timeout=BACK_SECONDS * 1000)


def test_a_tampered_row_is_a_line_with_its_key_and_when_it_was_mended(console: Stage) -> None:
    with console.page() as visit, told(console, visit):
        console.plain.run("UPDATE product_city_mapping SET city_id = 2")
        line = visit.page.locator("#findings-body tr", has=visit.page.locator("th", has_text=re.compile("^77$")))
        expect(line).to_have_count(1, timeout=40_000)
        expect(line.locator(".old")).to_contain_text("2")
        assert line.locator("th a").get_attribute("href") == "#/products/77"
        expect(line.locator("td").last.locator("time")).to_be_visible(timeout=20_000)
        expect(visit.page.locator("#findings-body")).to_contain_text(re.compile(r"\d of \d shown, 0 not mended"))
        expect(visit.page.locator("#tile-consistency")).to_have_attribute("data-state", "slow")
        assert console.plain.one("SELECT city_id FROM product_city_mapping") == 1
