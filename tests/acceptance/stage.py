"""The whole system with servers of its own, and Chromium looking at its console."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from backend.embedded import spawn
from backend.embedded.errors import ServerMissing
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from tests.plain import Plain
from tests.servers import CAREFREE, frozen, migrate
from tests.system import System
from tests.waiting import until

KEY = "the key of these tests"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the cheapest to run first

CATALOG = """
    INSERT INTO cities (id, external_id, name, latitude, longitude) VALUES
        (1, 'c1', 'Berlin', 52.5, 13.4), (2, 'c2', 'Lisbon', 38.7, -9.1), (3, NULL, 'Nowhere', NULL, NULL);
    INSERT INTO companies (id, external_id, name, city_id) VALUES
        (10, 'k10', 'x', 1), (20, 'k20', 'y', 2), (30, 'k30', 'z', 3);
    INSERT INTO products (id, external_id, company_id, name)
        SELECT n, 'p' || n, 10 * (1 + n % 3), 'p' || n FROM generate_series(101, 140) AS n;
    SELECT setval(pg_get_serial_sequence(name, 'id'), 1000)
      FROM unnest(ARRAY['cities', 'companies', 'products']) AS name"""
SHIFT = """() => new Promise(resolve => {
    let sum = 0;
    new PerformanceObserver(list => list.getEntries().forEach(one => { if (!one.hadRecentInput) sum += one.value; }))
        .observe({type: 'layout-shift', buffered: true});
    setTimeout(() => resolve(sum), 100);
})"""
SMALL = """() => [...document.querySelectorAll('a, button, summary, select, input:not([type=radio])')]
    .filter(one => one.checkVisibility() && !one.closest('.sr, .skip'))
    .map(one => [one.outerHTML.slice(0, 90), one.getBoundingClientRect()])
    .filter(([, box]) => box.width > 1 && (box.height < 32 || box.width < 32)).map(([html]) => html)"""
HAS_OUTLINE = """() => {
    const focused = document.activeElement;
    const style = getComputedStyle(focused.matches('.segments input') ? focused.nextElementSibling : focused);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
}"""


@dataclass
class Shown:
    """A system whose console is looked at."""

    system: System
    browser: Browser

    @contextmanager
    def page(self, key: str = KEY, query: str = "lang=en", **options: Any) -> Iterator[Visit]:
        """The console in a fresh browser context; `key` is there as if it had been entered in this tab."""
        context = self.browser.new_context(**{"reduced_motion": "reduce", "locale": "en-GB", **options})
        context.set_default_timeout(10_000)
        if key:
            context.add_init_script(f"sessionStorage.setItem('citycache.key', {key!r})")
        visit = Visit(context.new_page(), self.system.api_url)
        try:
            visit.page.goto(f"{self.system.api_url}/?{query}")
            for filled in ("html:not(.filling)", "#tile-pipeline[data-state]", "#totals:not(:empty)"):
                visit.page.wait_for_selector(filled, state="attached")
            yield visit
        finally:
            context.close()


@dataclass
class Stage(Shown):
    """Servers, system and browser of one module."""

    postgres: Postgres
    rabbitmq: RabbitMQ
    plain: Plain

    def pids(self, part: str) -> list[int]:
        """The processes of relay, worker, broker or database."""
        server = {"broker": self.rabbitmq, "database": self.postgres}.get(part)
        pid = (server.pid if server else self.system.pid(part)) or 0
        return [pid, *spawn.descendants(pid)]

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """The part as a frozen machine."""
        with frozen(self.pids(part)[0]):
            yield


@dataclass
class Visit:
    """One open page, and what it did."""

    page: Page
    home: str
    errors: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # (method, URL)

    def __post_init__(self) -> None:
        """Listen from the start."""
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        self.page.on("pageerror", lambda failure: self.errors.append(str(failure)))
        self.page.on("request", lambda request: self.requests.append((request.method, request.url)))

    def text(self, selector: str) -> str:
        """What an element shows."""
        return self.page.locator(selector).inner_text()

    def until(self, selector: str, holds: Callable[[str], bool], seconds: float = 10) -> float:
        """Wait until the element's text is as wanted; the seconds it took."""
        return until(lambda: holds(self.text(selector)), seconds, f"{selector}: {self.text(selector)!r}")

    def posts(self) -> list[str]:
        """Paths of what the page asked to be done."""
        return [urlsplit(url).path for method, url in self.requests if method == "POST"]

    def leaves_no_trace(self) -> None:
        """Nothing in the browser's log, nothing asked of another host, no key in a URL."""
        assert self.errors == []
        assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for _, url in self.requests} == {self.home}
        assert not any(KEY in url or "key" in urlsplit(url).query for _, url in self.requests)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that shows consoles."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        _missing("chromium, which shows the console, is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def stage(place: Path, catalog: str, **environment: str) -> Iterator[Stage]:
    """Start it all, with this in the caches; nothing audits, so that what a test tampers with stays as it is."""
    postgres, rabbitmq = Postgres(place / "postgres", settings=CAREFREE), RabbitMQ(place / "rabbitmq")
    try:
        rabbitmq.begin()
    except ServerMissing as missing:
        _missing(str(missing))
    try:
        postgres.start()
        migrate(postgres.url)
        rabbitmq.await_ready()
        settings = {"API_KEY": KEY, "AUDIT_CORE_SHARE": "0", "FRESHNESS_TARGET_MS": "3600000", **environment}
        with (
            System(postgres.url, rabbitmq.url, place / "system", **settings) as system,
            Plain(postgres.url) as plain,
            chromium() as browser,
        ):
            system.start()
            system.wait_until(lambda: bool(plain.one("SELECT count(*) FROM observations WHERE canary_ms > 0")), 60)
            plain.run(catalog)
            settled(plain)
            yield Stage(system, browser, postgres, rabbitmq, plain)
    finally:
        rabbitmq.kill()
        postgres.stop()


def _missing(what: str) -> None:
    if os.environ.get("CITYCACHE_TESTS_ALLOW_MISSING") == "1" and not os.environ.get("CI"):
        pytest.skip(f"NOT TESTED: {what}")
    pytest.fail(f"{what}: `make test` installs it; CITYCACHE_TESTS_ALLOW_MISSING=1 skips these tests", pytrace=False)


def settled(plain: Plain) -> None:
    """Wait until the caches hold what the catalog asks for."""
    wanted = """SELECT product.id, company.city_id FROM products AS product
                  JOIN companies AS company ON company.id = company_id
                 WHERE product.is_active AND company.is_active AND city_id IS NOT NULL"""
    cached = "SELECT product_id, city_id FROM product_city_mapping"
    differ = f"(({wanted}) EXCEPT ({cached})) UNION ALL (({cached}) EXCEPT ({wanted}))"
    until(lambda: not plain.all(differ), 30, "the caches follow the catalog")


def violations(page: Page, context: str | None = None, rules: Sequence[str] = ()) -> list[str]:
    """What axe finds, with the elements; by these of its rules only."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(page, context=context, options=options)["violations"]
    return [f"{one['id']}: {json.dumps([node['html'][:200] for node in one['nodes']])}" for one in found]


def tab_to(page: Page, there: str) -> None:
    """Press Tab until the focus is there; each stop on the way shows that it has it."""
    for _ in range(80):
        page.keyboard.press("Tab")
        assert page.evaluate(HAS_OUTLINE), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if page.evaluate(there):
            return
    raise AssertionError(f"Tab never came to {there}")
