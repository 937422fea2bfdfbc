"""The whole system with servers of its own, and Chromium looking at its console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
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
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Stage:
    """Servers, system and browser of one module."""

    system: System
    postgres: Postgres
    rabbitmq: RabbitMQ
    browser: Browser
    plain: Plain

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
def stage(place: Path, **environment: str) -> Iterator[Stage]:
    """Start it all; nothing audits, so that what a test tampers with stays as it is."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        _missing("chromium, which shows the console, is not installed")
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
            sync_playwright() as playwright,
        ):
            system.start()
            browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
            system.wait_until(lambda: bool(plain.one("SELECT count(*) FROM observations WHERE canary_ms > 0")), 60)
            yield Stage(system, postgres, rabbitmq, browser, plain)
            browser.close()
    finally:
        rabbitmq.kill()
        postgres.stop()


def _missing(what: str) -> None:
    if os.environ.get("CITYCACHE_TESTS_ALLOW_MISSING") == "1" and not os.environ.get("CI"):
        pytest.skip(f"NOT TESTED: {what}")
    pytest.fail(f"{what}: `make test` installs it; CITYCACHE_TESTS_ALLOW_MISSING=1 skips these tests", pytrace=False)
