"""The console's pages with addresses: each can be passed on, gone back from, and read by everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.acceptance.stage import CATALOG, KEY, SHIFT, SMALL, Stage, Visit, settled, stage, tab_to, violations
from tests.waiting import until

LOOKER = "a-key-that-may-only-read"
LARGE = 2**53 + 1  # a browser's numbers skip it
MORE = f"""
    INSERT INTO companies (id, external_id, name, city_id) VALUES ({LARGE}, 'large', 'large', 2);
    INSERT INTO products (id, external_id, name, company_id)
        VALUES ({LARGE}, NULL, '<b>bold</b>', {LARGE}), (150, NULL, ' ', 10);
    INSERT INTO task_runs (task_id, task, trigger, state, queued_at, started_at, finished_at, error)
        VALUES (gen_random_uuid(), 'replay_events', 'cli', 'FAILURE', '2026-01-05T10:10:00Z', '2026-01-05T10:10:00Z',
                '2026-01-05T10:20:00Z', 'the log is gone');
    INSERT INTO task_runs (task_id, task, trigger, state, queued_at, started_at, finished_at)
        VALUES (gen_random_uuid(), 'import_feed', 'cli', 'SUCCESS', '2026-01-05T10:32:00Z', '2026-01-05T10:32:00Z',
                '2026-01-05T10:40:00Z');
    INSERT INTO dead_letters (kind, reason, subject, event_id, payload) VALUES
        ('failed', 'it does not fit', 'product/777', 'e777', NULL), ('unreadable', 'not JSON', NULL, NULL, 'x');
    INSERT INTO incidents (kind, began_at, ended_at) VALUES
        ('relay_absent', '2026-01-05T10:00:00Z', '2026-01-05T10:30:00Z'),
        ('worker_absent', '2026-01-05T14:00:00Z', '2026-01-05T14:30:00Z');
    INSERT INTO observations (at, seconds, captured, published, applied, patched, latency, canary_ms)
        SELECT '2026-01-05T10:00:00Z'::timestamptz + n * interval '5 seconds', 5, 50, 50, 50, 50, '{{}}', 8
          FROM generate_series(1, 720) AS n"""
RUNS = """
    INSERT INTO task_runs (task_id, task, trigger, state, arguments, result, started_at, finished_at) VALUES
        ('00000000-0000-4000-8000-000000000001', 'refresh_all_caches', 'beat', 'SUCCESS', '{}',
         '{"checked": 40, "missing": 4, "extra": 0, "different": 1, "patched": 3, "drift": 3, "delayed": 2, "parts": {
            "products": {"checked": 30, "missing": 4, "different": 1, "patched": 3, "drift": 3, "delayed": 2},
            "companies": {"skipped": "another run"}, "counts": {"checked": 10}}}', now(), now())"""
OF_COLOURS = ("color-contrast", "link-in-text-block")  # of axe's rules
RANGE = "#/history?from=2026-01-05T10:00:00Z&to=2026-01-05T11:00:00Z"
PAGES = {
    "products": "#/products?company_id=10",
    "product": "#/products/101",
    "companies": "#/companies",
    "company": "#/companies/20",
    "cities": "#/cities",
    "city": "#/cities/1",
    "runs": "#/runs",
    "run": "#/runs/00000000-0000-4000-8000-000000000001",
    "letters": "#/letters",
    "letter": "#/letters/1",
    "incidents": "#/incidents",
    "help": "#/help",
    "kind": "#/help/relay_absent",
    "history": RANGE,
}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(
        tmp_path_factory.mktemp("pages"),
        f"{CATALOG};{MORE};{RUNS}",
        API_KEYS=f"looker:read:{LOOKER}",
        RUN_HISTORY_DAYS="3650",  # a rebuild that is due meanwhile forgets none of these old runs
    ) as open_stage:
        yield open_stage


def go(visit: Visit, address: str) -> Page:
    """The page of an address, once it is filled."""
    visit.page.goto(f"{visit.home}/?lang=en{address}")
    visit.page.wait_for_selector("#detail-body > div > :not(p.muted:only-child)")
    return visit.page


def test_a_product_leads_to_its_company_and_its_city_and_back(visit: Visit) -> None:
    page = go(visit, "#/products/101")
    title, facts = page.locator("#detail-title"), page.locator("#detail .facts")
    expect(title).to_have_text("p101")
    expect(facts).to_contain_text("City in the cacheNowhere")
    expect(page.locator("#detail .explained")).to_contain_text("Cache and catalog agree")
    run = page.locator("#detail tbody tr").first.locator("td:nth-of-type(3) a")
    assert re.fullmatch(r"#/runs/[0-9a-f-]{36}", run.get_attribute("href") or "")

    facts.get_by_role("link", name="z").click()
    expect(title).to_have_text("z")
    expect(facts).to_contain_text("City in the catalogNowhere")
    page.get_by_role("link", name="Its products and services").click()
    expect(page.locator("#detail tbody tr")).to_have_count(14)
    page.go_back()
    expect(title).to_have_text("z")
    page.go_back()
    expect(title).to_have_text("p101")


def test_a_city_is_rebuilt_from_its_page_which_leads_to_the_run(console: Stage, visit: Visit) -> None:
    console.plain.run(
        "UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 102"
    )  # whose company is in city 1
    page = go(visit, "#/cities/1")
    page.get_by_role("button", name="Rebuild this city").click()
    page.locator("#detail [role=status]").get_by_role("link").click()
    expect(page.locator("#detail .run[data-state=SUCCESS]")).to_be_visible(timeout=60_000)
    expect(page.locator("#detail .run")).to_contain_text("Rebuild a city")
    page.locator("#detail .facts").get_by_role("link", name="1", exact=True).click()
    expect(page.locator("#detail-title")).to_have_text("Berlin")
    assert console.plain.one("SELECT city_id FROM product_city_mapping WHERE product_id = 102") == 1


def test_a_run_says_who_with_what_and_what_came_of_it(console: Stage, visit: Visit) -> None:
    page = go(visit, "#/runs/00000000-0000-4000-8000-000000000001")
    detail = page.locator("#detail")
    expect(detail.locator(".facts")).to_contain_text("Started byby schedule")
    expect(detail.locator(".told")).to_have_text(
        "40 rows were compared with the catalog. 5 differed. 2 were only late: their events were on the way. "
        "3 rows were repaired."
    )
    expect(detail.locator(".phases tbody th")).to_have_text(["products", "companies", "counts"])
    expect(detail.locator(".phases tbody tr").nth(1)).to_contain_text("Another one is under way.")

    failed = console.plain.one("SELECT task_id::text FROM task_runs WHERE error = 'the log is gone'")
    page = go(visit, f"#/runs/{failed}")
    expect(detail.locator(".told")).to_contain_text("Look for this run's id in the worker's log")
    page.get_by_role("button", name="Run it again").click()
    page.locator("#detail [role=status]").get_by_role("link").click()
    expect(page.locator("#detail .run[data-state=SUCCESS]")).to_contain_text("Replay events", timeout=60_000)
    expect(page.locator("#detail .facts")).to_contain_text("by hand · default")


@pytest.fixture
def forgotten_weeks(console: Stage) -> Iterator[None]:
    """No counts of any hour and no finding, before the test and after it."""
    forget = "DELETE FROM city_hours; DELETE FROM count_looks; DELETE FROM audit_findings"
    console.plain.run(forget)
    yield
    console.plain.run(forget)


def test_a_city_shows_its_week(console: Stage, forgotten_weeks: None, visit: Visit) -> None:
    console.plain.run("""
        INSERT INTO count_looks SELECT now() - n * interval '1 hour' FROM generate_series(1, 48) AS n
         WHERE n NOT BETWEEN 10 AND 19;
        INSERT INTO city_hours VALUES (2, now() - '49 h'::interval, 7, 2, 1), (2, now() - '5 h'::interval, 9, 2, 1);
        INSERT INTO audit_findings (cache, key, side, wanted, repaired_at)
            VALUES ('companies', '20', 'missing', '{"company_id": 20, "city_id": 2}', now());""")
    page = go(visit, "#/cities/2")
    plot = page.locator("#detail .plot .frame")
    expect(plot).to_have_attribute("aria-label", re.compile("Counts over a week.*Goods: now 14, highest 14"))
    assert (page.locator("#detail .series.products").last.get_attribute("d") or "").count(
        "M"
    ) == 2  # nobody looked amid
    expect(page.locator("#detail .week tr[data-open=false] th").first).to_have_text("20")
    page.goto(f"{visit.home}/?lang=en#/cities/1")
    expect(page.locator("#detail .week")).to_contain_text("found no row of this city wrong")


def test_lists_have_their_filters_in_the_address_and_go_on(console: Stage, visit: Visit) -> None:
    page = go(visit, "#/products?company_id=20")
    rows = page.locator("#detail tbody tr")
    expect(rows).to_have_count(13)
    assert set(page.locator("#detail td[data-column=company]").all_inner_texts()) == {"20"}
    page.get_by_role("link", name="show all").click()
    expect(page).to_have_url(re.compile("#/products$"))
    expect(rows).to_have_count(42)
    console.plain.run(
        "INSERT INTO products (id, name, company_id) SELECT n, 'n', 10 FROM generate_series(201, 230) AS n"
    )
    page.reload()
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(72)
    console.plain.run("DELETE FROM products WHERE id BETWEEN 201 AND 230")
    settled(console.plain)
    page.goto(f"{visit.home}/?lang=en#/cities")
    expect(page.locator("#detail tbody th").first).to_have_text("Nowhere")
    page.locator("#detail thead").get_by_role("link", name="Name").click()
    expect(page.locator("#detail thead [aria-sort=ascending]")).to_have_text("Name")
    expect(page.locator("#detail tbody th")).to_have_text(["Berlin", "Lisbon", "Nowhere"])


def test_ids_that_numbers_cannot_hold_lead_where_they_say(visit: Visit) -> None:
    page = go(visit, f"#/companies/{LARGE}")
    expect(page.locator("#detail-title")).to_have_text("large")
    page.get_by_role("link", name="Its products and services").click()
    product = page.locator("#detail tbody th a")
    expect(product).to_have_text(["<b>bold</b>"])
    product.click()
    expect(page).to_have_url(re.compile(f"#/products/{LARGE}$"))
    expect(page.locator("#detail .facts")).to_contain_text(f"Id{LARGE}")
    assert page.locator("#detail .explained .row a").first.get_attribute("href") == f"#/companies/{LARGE}"


def test_what_has_no_name_is_called_by_its_id(visit: Visit) -> None:
    page = go(visit, "#/products/150")
    expect(page.locator("#detail-title")).to_have_text("Product 150")
    page = go(visit, "#/products?company_id=10")
    expect(page.locator("#detail tbody th", has_text="Product 150")).to_be_visible()


def test_letters_have_addresses_all_those_of_a_reason_and_each(visit: Visit) -> None:
    page = go(visit, "#/letters")
    letters = page.locator("#detail .letter")
    expect(letters).to_have_count(2)
    page.get_by_role("link", name="it does not fit").click()
    expect(letters).to_have_count(1)
    letters.get_by_role("link", name="#1").click()
    expect(page.locator("#detail-title")).to_have_text("Dead letter 1")
    expect(page.locator("#detail .problem")).to_have_text("it does not fit")
    assert page.locator("#detail .facts a").all_inner_texts() == ["product/777", "e777"]
    page.go_back()
    page.go_back()
    expect(letters).to_have_count(2)
    page.goto(f"{visit.home}/?lang=en#/letters/99")
    expect(page.locator("#detail")).to_contain_text("There is no such letter")


def test_a_link_in_a_dialog_leads_out_of_it(visit: Visit) -> None:
    page = visit.page
    page.locator(".reason", has_text="it does not fit").get_by_role("button", name="View").click()
    page.locator("#letters-list").get_by_role("link", name="product/777").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("#detail-title")).to_have_text("Product 777")
    expect(page.locator("#detail .problem")).to_be_visible()
    visit.errors.clear()  # there is no such product


def test_an_address_of_nothing_says_so(visit: Visit) -> None:
    for address, words in (
        ("#/products/999999", "neither catalog nor cache knows product 999999"),
        ("#/companies/%E0%A4%A", "valid integer"),
        ("#/history?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "168 hours apart at most"),
    ):
        visit.page.goto(f"{visit.home}/?lang=en{address}")
        expect(visit.page.locator("#detail .problem")).to_contain_text(words)
    visit.page.goto(f"{visit.home}/?lang=ru#/products/999999")
    expect(visit.page.locator("#detail .problem")).to_contain_text("найдено: ")
    visit.errors.clear()  # the browser notes each answer above 399


def test_runs_are_filtered_in_the_address(visit: Visit) -> None:
    page = go(visit, "#/runs?task=replay_events&state=FAILURE")
    runs = page.locator("#detail .run")
    expect(runs).to_have_count(1)
    expect(runs).to_contain_text("the log is gone")
    page.select_option("[data-filter=task]", "clear_all_caches")
    expect(page).to_have_url(re.compile("task=clear_all_caches&state=FAILURE$"))
    expect(page.locator("#detail")).to_contain_text("No run yet.")
    page.go_back()
    expect(runs).to_have_count(1)


def test_every_task_that_the_page_has_a_name_for_can_be_filtered_for(visit: Visit) -> None:
    page = go(visit, "#/runs?task=import_feed")
    expect(page.locator("#detail .run")).to_have_count(1)
    expect(page.locator("[data-filter=task]")).to_have_value("import_feed")
    words = "new URL('words.js', document.querySelector('script[type=module]').src)"
    named = page.evaluate(f"import({words}).then(({{WORDS}}) => Object.keys(WORDS))")
    tasks = {word.removeprefix("task.") for word in named if word.startswith("task.")}
    options = page.locator("[data-filter=task] option").evaluate_all("all => all.map(one => one.value)")
    assert set(options) == {"", *tasks}


def test_history_shows_what_went_on_in_its_range_and_nothing_else(visit: Visit) -> None:
    page = go(visit, RANGE)
    rows = page.locator("#detail tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Import of a feed: done")
    expect(rows.nth(1)).to_contain_text("Replay events: failed")
    expect(page.locator("#detail .span.imports.well")).to_have_count(1)
    expect(rows.last).to_contain_text("No relay has led for 30")
    incident = page.locator("#detail .span.incidents")
    run = page.locator("#detail .span.replays.failure")
    shares = [box["x"] + box["width"] for box in (incident.bounding_box(), run.bounding_box()) if box]
    assert shares[0] > shares[1]
    run.click()
    expect(page.locator("#detail .problem")).to_have_text("the log is gone")


def test_a_drawn_range_becomes_the_address_and_back_leads_out_of_it(visit: Visit) -> None:
    page = go(visit, RANGE)
    frame = page.locator("#detail .plot.tall .frame")
    whole_hour = re.compile(r", 60\smin\. .*canary")  # only what has come is told
    expect(page.locator("#detail .frame .series.canary")).to_have_attribute("d", re.compile("L"))
    expect(frame).to_have_attribute("aria-label", whole_hour)
    box = frame.bounding_box()
    assert box is not None
    inside, y = box["width"] - 66 - 12, box["y"] + 60
    page.mouse.move(box["x"] + 66 + inside / 4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 66 + inside / 2, y, steps=4)
    marks = page.locator("#detail .frame .cursor line")
    expect(marks).to_have_count(2)
    assert marks.first.get_attribute("x1") == marks.last.get_attribute("x1")
    expect(page.locator("#detail .lane-now")).to_contain_text("No relay has led")
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=2026-01-05T10:1[45]:\d\dZ&to=2026-01-05T10:(30|29):\d\dZ$"))
    page.go_back()
    expect(page).to_have_url(re.compile(re.escape(RANGE) + "$"))

    expect(frame).to_have_attribute("aria-label", whole_hour)  # before it has come, keys move nothing
    frame.focus()
    page.keyboard.press("End")
    expect(page.locator("#detail .plot.tall .sr")).to_contain_text("canary")
    page.keyboard.press("-")
    expect(page).to_have_url(re.compile("from=2026-01-05T10:00:00Z&to=2026-01-05T12:00:00Z$"))


def test_a_key_before_the_plot_has_its_range_does_nothing(visit: Visit) -> None:
    held: list[Route] = []
    visit.page.route("**/console/history?*", lambda route: held.append(route))
    page = go(visit, RANGE)
    frame = page.locator("#detail .plot.tall .frame")
    frame.focus()
    for key in ("+", "-", "End"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(re.escape(RANGE) + "$"))
    assert held
    for request in held:
        request.continue_()
    expect(frame).to_have_attribute("aria-label", re.compile("canary"))


def test_the_overviews_range_has_an_address(console: Stage, visit: Visit) -> None:
    visit.page.click("#history-open")
    expect(visit.page.locator("#detail-title")).to_have_text("History")
    expect(visit.page.locator("#detail .frame .series.canary")).to_have_attribute("d", re.compile("M"))
    visit.page.go_back()
    expect(visit.page.locator("#detail")).to_be_hidden()


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_jumps(console: Stage, name: str, language: str) -> None:
    part = None if name == "products" else "#detail"  # all of the document once, then what an address puts there
    with console.page(query=f"lang={language}{PAGES[name]}", color_scheme="light") as visit:
        visit.page.wait_for_selector("#detail-body > div > :not(p.muted:only-child)")
        assert violations(visit.page, part) == []
        visit.page.emulate_media(color_scheme="dark")
        assert violations(visit.page, part, OF_COLOURS) == [], "in the dark"
        assert (shift := visit.page.evaluate(SHIFT)) < 0.1, f"it moves by {shift}"
        visit.leaves_no_trace()


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_phone_shows_each_page_with_targets_for_a_finger(console: Stage, language: str) -> None:
    options: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with console.page(query=f"lang={language}", **options) as visit:
        page = visit.page
        for name, address in PAGES.items():
            page.evaluate(f"document.querySelector('#detail-body').replaceChildren(); location.hash = {address!r}")
            page.wait_for_selector("#detail-body > div > :not(p.muted:only-child)")
            until(lambda: page.evaluate(SMALL) == [], 5, f"{name}: {page.evaluate(SMALL)}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_the_keyboard_alone_walks_from_list_to_row_and_back(visit: Visit) -> None:
    page = go(visit, "#/companies")
    tab_to(page, "!!document.activeElement.closest('#detail tbody')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    expect(page.locator("#detail-title")).to_have_text("y")
    page.go_back()
    expect(page.locator("#detail-title")).to_have_text("Companies")


EXPLAINED = "fetch('/api/v1/caches/explain/product/103').then((answer) => answer.json())"


def test_search_leads_to_rows_runs_events_and_actions_by_the_keyboard_alone(visit: Visit) -> None:
    page, keys, title = visit.page, visit.page.keyboard, visit.page.locator("#detail-title")
    options, chosen = page.locator("#search-list [role=option]"), page.locator("#search-list [aria-selected=true]")
    keys.press("Control+k")
    keys.type("p10")
    expect(options).to_have_count(6)
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    expect(chosen).to_contain_text("p103")
    expect(page.locator("#search-input")).to_have_attribute("aria-activedescendant", "hit-2")
    keys.press("Enter")
    expect(title).to_have_text("p103")

    event = page.locator("#detail .explained a[href^='#/events/']").first.inner_text()
    patch = page.evaluate(EXPLAINED)["last_patch"]  # whichever of the two events came first
    assert (patch["event_id"], patch["subject"] in ("product/103", "company/20")) == (event, True)
    keys.press("Control+k")
    keys.type(event)
    keys.press("Enter")  # before the answer
    expect(title).to_have_text(f"Event {event}")
    expect(page.locator("#detail .facts a").first).to_have_text(patch["subject"])
    assert violations(page) == []

    page.click("#search-open")
    keys.type("recount")
    expect(options).to_have_text(["actionRecount cities"])
    keys.press("Escape")
    expect(page.locator("#search-open")).to_be_focused()
    keys.press("Control+k")
    keys.type("recount")
    expect(chosen).to_have_text("actionRecount cities")
    keys.press("Enter")
    expect(page.locator(".toast")).to_have_text("Recount cities is queued.")
    assert visit.posts() == ["/api/v1/celery/tasks/update-cities-product-count"]


def test_search_takes_text_as_text_and_never_starts_anything_by_itself(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Control+k")
    page.keyboard.press("Enter")
    assert visit.posts() == []
    page.keyboard.press("Control+k")
    page.keyboard.type("<B>")
    expect(page.locator("#search-list .hit-name")).to_have_text(["<b>bold</b>"])
    assert page.locator("#search-list b").count() == 0
    page.keyboard.type("zz")
    expect(page.locator("#search-note")).to_have_text("Nothing begins like this.")


def test_search_stays_open_when_the_address_of_the_last_one_comes_later(visit: Visit) -> None:
    """The browser tells of a new address when it has time, and keys may come before."""
    page = visit.page
    search = "new KeyboardEvent('keydown', {key: 'k', ctrlKey: true})"
    page.evaluate(f"location.hash = '#/products'; dispatchEvent({search})")
    expect(page.locator("#detail-title")).to_have_text("Products")
    page.keyboard.type("Berl")
    expect(page.locator("#search-list .hit-name")).to_have_text(["Berlin"])

    page.go_back()
    expect(page.locator("#search-dialog")).not_to_be_visible()


def test_search_needs_no_more_than_a_key_that_may_read(console: Stage) -> None:
    with console.page(key="") as visit:
        visit.page.keyboard.press("Control+k")
        visit.page.keyboard.type("Berl")
        expect(visit.page.locator("#search-note")).to_have_text("Names and ids are found with an API key.")
        visit.page.keyboard.press("Enter")
        visit.page.fill("#key-input", LOOKER)
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#search-dialog")).to_be_visible()
        visit.page.keyboard.type("Berl")
        expect(visit.page.locator("#search-list .hit-name")).to_have_text(["Berlin"])
        assert KEY not in visit.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


@pytest.mark.parametrize("language", ["en", "ru"])
def test_search_fits_a_phone_and_axe_finds_nothing_in_it(console: Stage, language: str) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    for options in (phone, {"color_scheme": "dark"}):
        with console.page(query=f"lang={language}", **options) as visit:
            visit.page.click("#search-open")
            assert violations(visit.page, "#search-dialog") == []
            visit.page.fill("#search-input", "p10")
            visit.page.locator("#search-list .hit-hint", has_text="p101").wait_for()
            assert violations(visit.page, "#search-dialog") == []
            box = visit.page.locator("#search-dialog").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= visit.page.viewport_size["width"]  # type: ignore[index]
            if options is phone:
                assert visit.page.evaluate(SMALL) == []
