"""The console as an operator uses it: Chromium on a running system."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.stage import (
    CATALOG,
    KEY,
    SHIFT,
    SMALL,
    Stage,
    Visit,
    settled,
    stage,
    tab_to,
    violations,
)
from tests.integration.test_console import streaming
from tests.plain import Plain
from tests.waiting import until

MOST_OF_A_CORE = 0.03
TOLD = 10  # states, one a second, during which a page that is idle is measured
OPERATOR = "the-key-of-an-operator"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    keys = f"ops:operate:{OPERATOR}"
    with stage(tmp_path_factory.mktemp("console"), CATALOG, REBUILD_CHUNK_KEYS="5", API_KEYS=keys) as open_stage:
        yield open_stage


def await_canaries(plain: Plain) -> None:
    """Wait until canaries have come and gone."""
    batches = "SELECT count(*) FROM task_runs WHERE task = 'apply_catalog_events'"
    seen = plain.one(batches)
    until(lambda: plain.one(batches) > seen + 1, 20, "canaries come and go")


def runs(page: Page, task: str, state: str) -> Any:
    """The newest run of a task, once it is in this state."""
    run = page.locator(".run", has=page.locator(".run-task", has_text=task)).first
    expect(run.locator(".run-state")).to_have_text(state, timeout=15_000)
    return run


def test_the_map_moves_when_a_row_is_written_and_only_then(console: Stage, visit: Visit) -> None:
    canvas = visit.page.locator("#map-canvas")
    before = canvas.screenshot()
    await_canaries(console.plain)
    assert canvas.screenshot() == before

    console.plain.run("INSERT INTO cities (id, name, latitude, longitude) VALUES (500, 'Quito', -0.2, -78.5)")
    console.plain.run("INSERT INTO companies (id, name, city_id) VALUES (500, 'q', 500)")
    console.plain.run(
        "INSERT INTO products (id, name, company_id) SELECT n, 'q', 500 FROM generate_series(501, 530) AS n"
    )

    visit.until("#feed", lambda feed: "Quito" in feed and "goods +30" in feed, 5)
    until(lambda: canvas.screenshot() == canvas.screenshot(), 10, "the ring around it is gone")
    assert canvas.screenshot() != before
    assert "Quito 30" in (canvas.get_attribute("aria-label") or "")
    visit.page.click("#city-details summary")
    expect(visit.page.locator("#city-rows tr", has_text="Quito").locator("td").first).to_have_text("30")

    console.plain.run("DELETE FROM products WHERE id BETWEEN 501 AND 530")
    console.plain.run("DELETE FROM companies WHERE id = 500")
    console.plain.run("DELETE FROM cities WHERE id = 500")
    expect(visit.page.locator("#city-rows tr", has_text="Quito")).to_have_count(0)


def test_the_table_of_cities_is_searched_and_sorted(visit: Visit) -> None:
    visit.page.click("#city-details summary")
    names = visit.page.locator("#city-rows th")
    expect(names).to_have_count(3)
    visit.page.click("#city-head [data-column=name] button")
    expect(names).to_have_text(["Berlin", "Lisbon", "Nowhere"])
    visit.page.click("#city-head [data-column=name] button")
    expect(names).to_have_text(["Nowhere", "Lisbon", "Berlin"])
    visit.page.fill("#city-search", "lis")
    expect(names).to_have_text(["Lisbon"])
    expect(visit.page.locator("#unplaced")).to_contain_text("Nowhere")


def test_a_page_asks_for_two_scripts(visit: Visit) -> None:
    asked = sorted(urlsplit(url).path for _, url in visit.requests if ".js" in url)
    assert asked == ["/console/app.js", "/console/early.js"]


def test_a_refresh_shows_its_progress_and_its_result(console: Stage, visit: Visit) -> None:
    with (
        console.stopped("beat"),  # a rebuild that is due just now would be the one that runs
        closing(Plain(console.postgres.url, autocommit=False)) as blocker,
    ):
        active = "SELECT count(*) FROM task_runs WHERE state IN ('PENDING', 'STARTED', 'RETRY')"
        until(lambda: not console.plain.one(active), 30, "no run is under way")
        console.plain.run("DELETE FROM product_city_mapping WHERE product_id BETWEEN 101 AND 112")
        blocker.run("INSERT INTO product_city_mapping VALUES (101, 1, 1, 'product')")  # is waited for when it is mended

        visit.page.click("[data-task=update_product_city_cache]")
        expect(visit.page.locator(".toast")).to_have_text("Rebuild products is queued.")
        run = runs(visit.page, "Rebuild products", "running")
        expect(run.get_by_role("progressbar")).to_be_visible()
        expect(run.locator(".run-result")).to_contain_text("checked 40")

    run = runs(visit.page, "Rebuild products", "done")
    expect(run.locator("summary")).to_contain_text("checked 40 · missing 12 · repaired 12")
    expect(run.locator(".run-trigger")).to_have_text("by hand")
    settled(console.plain)


def test_a_dry_run_lists_exactly_what_a_tampered_row_makes(console: Stage, visit: Visit) -> None:
    tampered = [
        "UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 102",
        "DELETE FROM product_city_mapping WHERE product_id = 103",
        "UPDATE product_city_mapping SET kind = 'service' WHERE product_id = 104",
    ]
    for statement in tampered:
        assert console.plain.run(statement) == 1

    visit.page.click("#replay-open")
    visit.page.click("#replay-dry")
    rows = visit.page.locator("#replay-result tbody tr")
    expect(rows).to_have_count(3, timeout=20_000)
    assert sorted(rows.locator("th").all_inner_texts()) == ["102", "103", "104"]
    wrong = rows.filter(has_text="102")
    assert (wrong.locator(".old").inner_text(), wrong.locator(".new").inner_text()) == ("city_id\n2", "city_id\n1")
    assert rows.filter(has_text="103").locator("td").nth(1).inner_text() == "no row"
    expect(visit.page.locator("#replay-result h3")).to_have_text("3 rows would change")
    assert console.plain.one("SELECT city_id FROM product_city_mapping WHERE product_id = 102") == 2

    visit.page.click("#replay-go")
    runs(visit.page, "Replay events", "done")
    settled(console.plain)
    visit.page.click("#replay-open")
    visit.page.click("#replay-dry")
    expect(visit.page.locator("#replay-result")).to_contain_text("Nothing would change", timeout=20_000)


def test_a_replay_that_cannot_be_is_refused_in_words(visit: Visit) -> None:
    visit.page.click("#replay-open")
    visit.page.fill("#replay-since", "2026-01-02T00:00:00")
    visit.page.fill("#replay-offset", "5")
    visit.page.click("#replay-dry")
    expect(visit.page.locator("#replay-problem")).to_contain_text("give either since or from_offset, not both")
    visit.errors.clear()  # the browser notes each answer above 399


def test_clearing_asks_twice(console: Stage, visit: Visit) -> None:
    settled(console.plain)
    counted = console.plain.one("SELECT sum(products_count + services_count) FROM city_counts")  # which page tells
    visit.page.click("#clear-open")
    gone = f"{counted} goods and services and 3 companies in 3 cities would be gone"
    expect(visit.page.locator("#clear-preview")).to_contain_text(gone)
    expect(visit.page.locator("#clear-go")).to_be_hidden()
    visit.page.click("#clear-next")
    expect(visit.page.locator("#clear-go")).to_be_disabled()
    visit.page.fill("#clear-word", "yes")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#clear-go")).to_be_disabled()
    assert visit.posts() == []

    visit.page.fill("#clear-word", "clear")
    visit.page.click("#clear-go")
    runs(visit.page, "Clear the caches", "done")
    assert visit.posts() == ["/api/v1/celery/tasks/clear-all-caches"]
    assert console.plain.one("SELECT count(*) FROM product_city_mapping") == 0
    expect(visit.page.locator("#totals")).to_contain_text("0 goods")

    visit.page.click("[data-task=refresh_all_caches]")
    runs(visit.page, "Rebuild everything", "done")
    settled(console.plain)
    expect(visit.page.locator("#totals")).to_contain_text("40 goods")


def test_explains_by_id_and_external_id(console: Stage, visit: Visit) -> None:
    visit.page.fill("#explain-id", "p105")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".verdict")).to_contain_text("product/105")
    expect(visit.page.locator(".verdict")).to_contain_text("agree")
    patches = visit.page.locator("#explain-result tbody tr")
    expect(patches).to_have_count(1)
    for active in (False, True):
        console.plain.run("UPDATE products SET is_active = %s WHERE id = 105", (active,))
        settled(console.plain)
    visit.page.keyboard.press("Enter")
    expect(patches).to_have_count(3)
    expect(patches.first.locator("code")).to_have_count(2)  # event and run; no trace
    expect(visit.page.locator("#explain-result")).to_contain_text("Patches before")

    console.plain.run("UPDATE product_city_mapping SET city_id = 3 WHERE product_id = 105")
    visit.page.fill("#explain-id", "105")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(".verdict")).to_contain_text("differs")
    expect(visit.page.locator(".sides .new")).to_have_text("city_id1")
    expect(visit.page.locator(".sides .old")).to_have_text("city_id3")
    console.plain.run("UPDATE product_city_mapping SET city_id = 1 WHERE product_id = 105")

    visit.page.locator("#nouns label", has_text="city").click()
    visit.page.fill("#explain-id", "nothing like it")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#explain-result")).to_contain_text("There is no city with the id or external id")


def test_says_how_soon_a_wrong_row_is_found(console: Stage, visit: Visit) -> None:
    found = visit.page.locator("#nines-found")
    console.plain.run(
        """INSERT INTO audit_minutes (minute, cache, checked, round_seconds)
           SELECT now(), cache, 1000, CASE cache WHEN 'products' THEN 115 ELSE 5 END
             FROM unnest(ARRAY['products', 'companies', 'counts']) AS cache"""
    )
    expect(found).to_have_text("the auditor's first round is not done yet")
    console.plain.run(
        "INSERT INTO audit_minutes (minute, cache, checked, round_seconds) VALUES (now(), 'active', 2, 5)"
    )
    expect(found).to_have_text("a row that goes wrong is found within 2 min")
    console.plain.run("DELETE FROM audit_minutes")


def test_shows_an_admin_who_did_what(console: Stage, visit: Visit) -> None:
    page = visit.page
    page.click("[data-task=update_cities_product_count]")
    runs(page, "Recount cities", "done")
    page.click("#log-show")
    rows = page.locator("#log-body tbody tr")
    started = rows.filter(has_text="POST /celery/tasks/update-cities-product-count").first
    expect(started).to_contain_text("default admin")
    expect(started.locator("td").nth(3)).to_have_text("202")
    assert re.fullmatch(r"#/runs/[0-9a-f-]{36}", started.locator("td a").get_attribute("href") or "")

    console.plain.run(
        "INSERT INTO audit_log (method, path, status) SELECT 'PUT', '/x', 401 FROM generate_series(1, 25)"
    )
    page.click("#log-show")
    expect(rows.filter(has_text="no known key")).to_have_count(20)
    page.click("#log-more")
    expect(rows.filter(has_text="no known key")).to_have_count(25)
    console.plain.run("DELETE FROM audit_log")


def test_says_that_the_audit_log_is_for_admins_and_forgets_it_with_the_key(console: Stage) -> None:
    with console.page(key=OPERATOR) as visit:
        page = visit.page
        page.click("#log-show")
        expect(page.locator("#log-body")).to_contain_text(
            "this needs the role admin; the key 'ops' has the role operate"
        )
        page.click("#key-button")
        page.fill("#key-input", KEY)
        page.keyboard.press("Enter")
        page.click("#log-show")
        expect(page.locator("#log-body tbody tr").first).to_contain_text("/audit-log")
        page.click("#key-button")
        page.click("#key-forget")
        expect(page.locator("#log-body table")).to_have_count(0)
        visit.errors[:] = [error for error in visit.errors if "403" not in error]
        visit.leaves_no_trace()


def test_dead_letters_are_read_and_sent_again(console: Stage, visit: Visit) -> None:
    console.plain.run(
        """INSERT INTO dead_letters (kind, reason, subject, payload, attempts)
           SELECT 'failed', 'the patch fails: ' || n / 2, 'product/' || 100 + n, '{"what": 1}', 3
             FROM generate_series(2, 6) AS n"""
    )
    reasons = visit.page.locator(".reason")
    expect(reasons).to_have_count(3)
    reasons.filter(has_text="the patch fails: 1").get_by_role("button", name="View").click()
    expect(visit.page.locator("#letters-list .letter")).to_have_count(2)
    visit.page.locator("#letters-list .letter").first.get_by_role("button").click()
    expect(visit.page.locator("#letters-list .letter")).to_have_count(1)
    visit.page.keyboard.press("Escape")
    reasons.filter(has_text="the patch fails: 2").get_by_role("button", name="Requeue").click()
    dialog = visit.page.locator("#requeue-dialog")
    expect(dialog.locator("h2")).to_have_text("Requeue 2 letters?")
    expect(dialog).to_contain_text("compared with the catalog again")
    assert violations(visit.page, "#requeue-dialog") == []
    visit.page.keyboard.press("Escape")
    assert visit.posts() == ["/api/v1/events/dead-letters/requeue"], "only the one before"
    reasons.filter(has_text="the patch fails: 2").get_by_role("button", name="Requeue").click()
    visit.page.click("#requeue-go")
    expect(reasons).to_have_count(2)
    visit.page.click("#requeue-all")
    visit.page.click("#requeue-go")
    expect(visit.page.locator("#letters-body")).to_contain_text("None.")
    assert console.plain.one("SELECT count(*) FROM dead_letters WHERE closed_at IS NULL") == 0


def test_the_keyboard_alone_suffices(console: Stage, visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    tab_to(page, "document.activeElement.dataset.task === 'update_cities_product_count'")
    page.keyboard.press("Enter")
    runs(page, "Recount cities", "done")

    tab_to(page, "document.activeElement.id === 'replay-open'")
    page.keyboard.press("Enter")
    expect(page.locator("#replay-dialog")).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#replay-dialog')"
        )
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "replay-open"

    page.keyboard.press("/")
    page.keyboard.type("p106")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("product/106")

    plot = page.locator("#timeline .plot.tall .frame")
    plot.focus()
    page.keyboard.press("End")
    expect(page.locator("#timeline .plot.tall .sr")).to_contain_text("p50")


def test_asks_for_the_key_when_it_is_needed_and_keeps_it_out_of_urls(console: Stage) -> None:
    with console.page(key="") as visit:
        page = visit.page
        page.click("[data-task=update_cities_product_count]")
        expect(page.locator("#key-dialog")).to_be_visible()
        page.fill("#key-input", "a wrong one")
        page.keyboard.press("Enter")
        expect(page.locator("#key-problem")).to_contain_text("the API key is wrong")
        page.fill("#key-input", KEY)
        page.keyboard.press("Enter")
        expect(page.locator(".toast:not(.bad)")).to_have_text("Recount cities is queued.")
        expect(page.locator("#key-button")).to_have_text("Key entered")
        visit.errors[:] = [error for error in visit.errors if "401" not in error]
        visit.leaves_no_trace()
        assert (
            page.evaluate("[JSON.stringify(localStorage), location.href].some((one) => one.includes('key of these'))")
            is False
        )


def test_remembers_language_and_theme(console: Stage) -> None:
    with console.page(query="lang=ru") as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.lang") == "ru"
        expect(page.locator("#h-way")).to_have_text("Путь события")
        page.click("#language")
        expect(page.locator("#h-way")).to_have_text("Event path")
        page.click("#theme")
        page.click("#theme")
        page.goto(console.system.api_url)
        expect(page.locator("#h-way")).to_have_text("Event path")
        assert page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == [
            "en",
            "dark",
        ]
        visit.leaves_no_trace()


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(console: Stage, scheme: Any, language: str) -> None:
    console.plain.run("INSERT INTO dead_letters (kind, reason) VALUES ('unreadable', 'not JSON')")
    console.plain.run(
        "INSERT INTO audit_findings (cache, key, side, cached, wanted)"
        " VALUES ('products', '5', 'different', '{\"a\": 1}', '{\"a\": 2}')"
    )
    with console.page(query=f"lang={language}", color_scheme=scheme) as visit:
        page = visit.page
        page.click("#city-details summary")
        page.fill("#explain-id", "107")
        page.keyboard.press("Enter")
        page.wait_for_selector(".verdict")
        page.wait_for_selector(".reason")
        page.click("#log-show")
        page.wait_for_selector("#log-body td")
        assert violations(page) == []
        for opener, dialog in (("#replay-open", "#replay-dialog"), ("#clear-open", "#clear-dialog")):
            page.click(opener)
            assert violations(page, dialog) == []
            page.keyboard.press("Escape")
        page.evaluate("document.querySelector('#key-dialog').showModal()")
        assert violations(page, "#key-dialog") == []
        visit.leaves_no_trace()
    console.plain.run("DELETE FROM dead_letters")
    console.plain.run("DELETE FROM audit_findings")


@pytest.mark.parametrize("language", ["en", "ru"])
def test_nothing_sticks_out_on_a_phone(console: Stage, language: str) -> None:
    phone = {"width": 360, "height": 740}
    console.plain.run("INSERT INTO audit_log (method, path, status) VALUES ('PUT', '/x', 401)")
    with console.page(query=f"lang={language}", viewport=phone, is_mobile=True, has_touch=True) as visit:
        page = visit.page
        for section in ("map", "explain", "log", "runs", "findings", "letters", "incidents", "schedule", "freshness"):
            page.tap(f"#{section} button.fold")
        page.tap("#city-details summary")
        page.fill("#explain-id", "108")
        page.keyboard.press("Enter")
        page.wait_for_selector(".verdict")
        page.tap("#log-show")
        page.wait_for_selector("#log-body td")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for opener, dialog in (("#replay-open", "#replay-dialog"), ("#clear-open", "#clear-dialog")):
            page.tap(opener)
            box = page.locator(dialog).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            page.keyboard.press("Escape")
        visit.leaves_no_trace()


def test_asks_nothing_of_anybody_else(console: Stage, visit: Visit) -> None:
    await_canaries(console.plain)
    kinds = {urlsplit(url).path.rpartition(".")[2] for _, url in visit.requests}
    assert {"css", "js"} <= kinds
    icon = visit.page.evaluate("document.querySelector('link[rel=icon]').href")  # which not every browser asks for
    assert icon.startswith(visit.home)
    assert visit.page.evaluate(
        "performance.getEntriesByType('resource').every((one) => one.name.startsWith(location.origin))"
    )


def test_says_that_the_api_is_away_and_goes_on_by_itself(console: Stage) -> None:
    with console.page() as visit:
        console.system.kill("api")
        expect(visit.page.locator("#lost")).to_contain_text("The API does not answer", timeout=10_000)
        expect(visit.page.locator("#live-text")).to_have_text("No connection")
        console.system.start(["api"])
        expect(visit.page.locator("#lost")).to_be_hidden(timeout=10_000)
        console.plain.run("UPDATE companies SET city_id = 2 WHERE id = 30")
        visit.until("#feed", lambda feed: "Lisbon" in feed, 10)
        console.plain.run("UPDATE companies SET city_id = 3 WHERE id = 30")
        settled(console.plain)


NAMES = "all => all.filter((one) => !one.matches('h2, button.fold')).map((one) => one.outerHTML)"
NEED = "#verdict-list li[data-kind=dead_letters_open]"


def test_says_on_top_what_needs_a_person_with_one_button_that_helps(console: Stage, visit: Visit) -> None:
    page = visit.page
    console.plain.run("INSERT INTO dead_letters (kind, reason, subject) VALUES ('failed', 'no', 'product/101')")
    need = page.locator(NEED)
    expect(need).to_contain_text("could not be applied: 1")
    expect(need).to_contain_text("Read their reasons")
    expect(page).to_have_title(re.compile("needs? you"))
    expect(page.locator("#announce")).to_contain_text("could not be applied: 1")
    assert page.locator("link[rel=icon]").get_attribute("href") == "console/icon-bad.svg"
    need.get_by_role("button", name="Requeue all").click()
    expect(page.locator("#requeue-dialog")).to_contain_text("failed: 1 letter")
    page.click("#requeue-go")
    expect(need).to_have_count(0, timeout=15_000)


def test_an_address_leads_to_its_section_though_what_is_above_grows(console: Stage) -> None:
    with console.page(query="lang=en#letters") as visit:
        page = visit.page
        page.wait_for_selector("#run-list > *")
        page.wait_for_selector("#schedule-body table")
        until(lambda: 0 <= page.evaluate("letters.getBoundingClientRect().top") < 260 or at_the_end(page), 8)
        shift = page.evaluate(SHIFT)
        assert shift < 0.1, f"layout shift {shift}"


def at_the_end(page: Page) -> bool:
    return bool(page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2"))


def test_a_run_and_a_city_and_the_incidents_have_addresses(console: Stage, visit: Visit) -> None:
    page, home = visit.page, f"{console.system.api_url}/?lang=en"
    page.click("[data-task=update_cities_product_count]")
    run = runs(page, "Recount cities", "done")
    address = run.locator(".run-when a").get_attribute("href")
    with console.page(query=f"lang=en{address}") as other:
        expect(other.page.locator("#detail-title")).to_contain_text("Run ")
        expect(other.page.locator("#detail .run-state")).to_have_text("done")
        expect(other.page.locator("#runs")).to_be_hidden()
    page.click("#city-details summary")
    page.locator("#city-rows a", has_text="Berlin").click()
    expect(page.locator("#detail-title")).to_have_text("Berlin")
    expect(page.locator("#detail .verdict")).to_contain_text("city/1")
    page.go_back()
    expect(page.locator("#detail")).to_be_hidden()
    page.goto(f"{home}#/incidents")
    expect(page.locator("#detail-title")).to_have_text("Incidents")
    assert violations(page) == []
    page.reload()
    expect(page.locator("#detail-title")).to_have_text("Incidents")


def test_a_list_of_runs_stays_while_somebody_reads_it(console: Stage, visit: Visit) -> None:
    page = visit.page
    page.select_option("#runs-filter", "task=apply_catalog_events")
    first = page.locator("#run-list .run").first
    expect(first.locator(".run-task")).to_have_text("Event batch")
    first.locator("summary").click()
    shown = page.locator("#run-list .run").evaluate_all("all => all.map(one => one.dataset.key)")
    await_canaries(console.plain)
    assert page.locator("#run-list .run").evaluate_all("all => all.map(one => one.dataset.key)") == shown
    expect(first.locator("details")).to_have_attribute("open", "")
    assert "repaired" not in visit.text("#run-list")
    assert re.search(r"took \d+ ms|took [1-9]", visit.text("#run-list"))
    assert "0.0 s" not in visit.text("#run-list")
    key = first.get_attribute("data-key")
    page.click("#runs-again")
    page.locator("#run-list .run").first.wait_for()
    expect(page.locator(f"#run-list .run[data-key='{key}'] details")).to_have_attribute("open", "")


def test_findings_say_when_they_were_mended_and_how_many_there_are(console: Stage, visit: Visit) -> None:
    console.plain.run(
        "INSERT INTO audit_findings (cache, key, side, repaired_at)"
        " SELECT 'products', n::text, 'missing', CASE WHEN n > 3 THEN now() END FROM generate_series(1, 30) AS n"
    )
    body = visit.page.locator("#findings-body")
    expect(body).to_contain_text("20 of 30 shown, 3 not mended")
    expect(body.locator("tbody tr").first.locator("td").last.locator("time")).to_be_visible()
    console.plain.run("DELETE FROM audit_findings")


def test_one_total_of_a_dry_run_wherever_it_is_told(console: Stage, visit: Visit) -> None:
    page = visit.page
    told = "import('./console/runs.js').then(({summary}) => summary({would_change: %s}))"
    tables = '{"product_city_mapping": 120, "company_city_mapping": 3, "city_counts": 92}'
    assert page.evaluate(told % tables) == "would change 123"


def test_nothing_moves_while_only_canaries_come(console: Stage) -> None:
    with console.page(reduced_motion="no-preference") as visit:
        await_canaries(console.plain)
        moving = "document.getAnimations().filter(one => one.effect.getTiming().iterations === Infinity).length"
        assert visit.page.evaluate(moving) == 0
        expect(visit.page.locator(".station.moving")).to_have_count(0)


def test_says_that_nothing_has_changed_yet_rather_than_ago_of_nothing(visit: Visit) -> None:
    told = "import('./console/overview.js').then(({lastChange}) => lastChange({changed_seconds: %s}))"
    assert [visit.page.evaluate(told % seconds) for seconds in ("null", "undefined", "120")] == [
        "No cache has changed yet", "No cache has changed yet", "Last change in a cache 2\N{NO-BREAK SPACE}min ago",
    ]  # fmt: skip


@pytest.mark.calm
class TestCalm:
    def test_an_idle_page_with_motion_takes_next_to_no_processor(self, console: Stage) -> None:
        with console.page(reduced_motion="no-preference"):
            await_canaries(console.plain)
            with streaming(console.system.api_url) as stream:
                stream.next("state")
                before, begun = rendering(), time.monotonic()
                for _ in range(TOLD):
                    stream.next("state")
                spent, took = rendering() - before, time.monotonic() - begun
        assert spent / took < MOST_OF_A_CORE


def rendering() -> float:
    """CPU seconds of all renderers of this process's browsers."""
    browsers = psutil.Process().children(recursive=True)
    renderers = [one for one in browsers if "--type=renderer" in one.cmdline()]
    return sum(sum(one.cpu_times()[:2]) for one in renderers)


def asked_for(page: Page, address: str) -> list[str]:
    """Requests for this address from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if address in request.url else None)
    return found


def test_plots_that_nobody_sees_ask_for_nothing_until_they_are_in_sight(visit: Visit) -> None:
    page = visit.page
    page.clock.install()
    page.reload()
    expect(page.locator("#timeline .series")).not_to_have_count(0)
    asked = asked_for(page, "console/history")
    page.clock.fast_forward(20_000)
    assert page.evaluate("fetch('/health/live').then((answer) => answer.status)") == 200  # what was sent before is seen
    assert not asked
    with page.expect_request("**/console/history?*"):
        page.locator("#timeline").scroll_into_view_if_needed()


def test_the_page_of_an_address_is_asked_for_once(visit: Visit) -> None:
    page = visit.page
    page.evaluate("location.hash = '#/products'")
    expect(page.locator("#detail-body tbody tr")).not_to_have_count(0)
    asked = asked_for(page, "api/v1/products?")
    page.reload()
    expect(page.locator("#detail-body tbody tr")).not_to_have_count(0)
    assert len(asked) == 1


def test_a_list_is_one_stop_of_the_tab_key(console: Stage, visit: Visit) -> None:
    page = visit.page
    page.click("#city-details summary")
    expect(page.locator("#city-rows a")).to_have_count(3)
    assert page.locator("#city-rows a[tabindex='0']").count() == 1
    page.locator("#city-rows a[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('#city-rows a')].indexOf(document.activeElement)") == 1
    assert page.locator("#city-rows a[tabindex='0']").count() == 1


def test_a_phone_shows_the_overview_in_three_screens_with_targets_for_a_finger(console: Stage) -> None:
    with console.page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as visit:
        page = visit.page
        page.wait_for_selector("#verdict[data-state=well]", timeout=20_000)
        assert page.evaluate("document.documentElement.scrollHeight") <= 3 * 844
        assert page.locator("section.folded > :visible").filter(has_not=page.locator("h2")).evaluate_all(NAMES) == []
        assert page.evaluate(SMALL) == []
        page.goto(f"{console.system.api_url}/?lang=en#findings")
        expect(page.locator("#findings-body")).to_be_visible()
