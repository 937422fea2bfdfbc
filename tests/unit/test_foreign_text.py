"""No text that others send costs more than in proportion to its length, whichever pattern or function looks at it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from backend.app.access.api_keys import parse
from backend.app.api import problems
from backend.app.api.paging import key_of
from backend.app.catalog.feed.lines import Bad, decode
from backend.app.errors import Unprocessable
from backend.app.settings import settings
from backend.app.telemetry import logs
from events import contract
from events.errors import EventError
from tests.hostile_patterns import hostile, patterns

SHORT: Final = 1_000  # characters
TIMES: Final = 8  # as long as that is the long input
MOST_GROWTH: Final = 3 * TIMES  # of the time: linear is 8, quadratic 64
FAST_SECONDS: Final = 0.02  # too short to tell its growth, and to hurt
WORDS: Final = (
    "a",
    "a.",
    "://",
    "password",
    "token=",
    "0",
    " ",
    "\n",
    "\0",
    "é",
    "\ud800",
    "[",
    '{"a":',
    "%",
    ":",
    "/",
)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("API_KEY", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaab")
    settings.cache_clear()
    yield
    settings.cache_clear()


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of the quickest of some runs."""
    found = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        work()
        found = min(found, time.thread_time() - begin)
        if found < FAST_SECONDS:
            break
    return found


def grows_too_fast(short: Callable[[], Any], long: Callable[[], Any]) -> bool:
    slow = seconds(long)
    return slow > FAST_SECONDS and slow > MOST_GROWTH * max(seconds(short), FAST_SECONDS / TIMES**2)


@pytest.mark.parametrize(
    ("place", "pattern"), list(patterns()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_pattern_of_the_code_takes_more_than_linear_time(place: str, pattern: re.Pattern[str]) -> None:
    for short, long in zip(hostile(pattern, SHORT), hostile(pattern, SHORT * TIMES), strict=True):
        for method in (pattern.search, pattern.fullmatch, lambda text: pattern.sub("", text)):
            assert not grows_too_fast(lambda: method(short), lambda: method(long)), f"{place}: {long[:60]!r}…"  # noqa: B023


def test_the_patterns_of_the_code_are_found() -> None:
    found = dict(patterns())
    assert len(found) >= 10
    assert any(place.startswith("backend/app/telemetry/logs.py") for place in found)


def test_a_careless_pattern_would_be_noticed() -> None:
    careless = re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@]*):")
    pairs = zip(hostile(careless, SHORT), hostile(careless, SHORT * TIMES), strict=True)
    assert any(grows_too_fast(lambda: careless.search(s), lambda: careless.search(t)) for s, t in pairs)  # noqa: B023


def record(text: str) -> logging.LogRecord:
    made = logging.LogRecord("api", logging.INFO, "", 0, "%s", (text,), None)
    vars(made).update(field=text)
    return made


def of_event(text: str) -> contract.Hint:
    happened = contract.event(text, "catalog.product.updated", f"product/{text}", text, None, None, text)
    return contract.hint(happened)


FUNCTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "masked": logs.masked,
    "text line": lambda text: logs.TextLines().format(record(text)),
    "json line": lambda text: logs.JsonLines().format(record(text)),
    "problem": lambda text: problems.problem(404, text, text),
    "hint": of_event,
    "feed line": lambda text: decode(text.encode("utf-8", "replace")),
    "feed line in JSON": lambda text: decode(json.dumps({"op": text, "kind": text, "id": text}).encode()),
    "cursor": lambda text: key_of(text, str, int),
    "keys": parse,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_that_sees_foreign_text_takes_more_than_linear_time(name: str) -> None:
    def run(text: str) -> None:
        with suppress(Bad, EventError, Unprocessable, ValueError):
            FUNCTIONS[name](text)

    for word in WORDS:
        short, long = (word * (20 * SHORT * times // len(word)) for times in (1, TIMES))
        assert not grows_too_fast(lambda: run(short), lambda: run(long)), word  # noqa: B023


@pytest.mark.parametrize("form", [logs.TextLines(), logs.JsonLines()])
def test_a_line_is_cut_and_shows_no_part_of_a_secret(form: logging.Formatter) -> None:
    secret = settings().api_key
    for before in range(logs.LONGEST - len(secret) - 100, logs.LONGEST + 10, 7):
        told = form.format(record("." * before + secret + "." * 5_000))
        assert len(told) < 2 * (logs.LONGEST + 200)
        assert secret[:8] not in told
    assert "cut: " in told


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x1b[2J", "\x9b2J", "\ud800"])
def test_foreign_text_begins_no_line_of_its_own(end: str) -> None:
    text = f"a{end}2026-11-24T08:00:00.123Z ERROR relay: all is lost"
    for form in (logs.TextLines(), logs.JsonLines()):
        told = form.format(record(text))
        assert not any(line.startswith("2026-11-24T08") for line in told.splitlines())
        assert not any(sign in told for sign in "\r\x1b\x9b")
        told.encode()
