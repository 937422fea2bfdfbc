"""Log lines, as text for people or as JSON for collectors; no line shows a password or an API key.

What others have sent may be in any line: it is cut before anything is looked for in it, and cannot begin a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote, unquote

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from backend.app.database import address
from backend.app.settings import Settings, settings

MASK: Final = "***"
SHORTEST_SECRET: Final = 6  # a shorter one would mask half of the words of a line
MOST_SAID: Final = 1_000  # sentences that are remembered
_said: set[str] = set()
LONGEST: Final = 32_768  # characters of a text that is logged or masked; the rest is cut
LONGEST_SECRET: Final = 1_024  # characters that are looked at beyond the cut, so that no half of a secret stays there
_IN_URL: Final = re.compile(r"(://[^\s:/@]{0,255}):[^\s/@]{1,1023}@")
_NAMED: Final = re.compile(
    r"\b(api[_-]?key|x-api-key|password|passwd|authorization|token)"
    r"(['\"]?\s{0,8}[=:]\s{0,8}['\"]?)(bearer\s{1,8})?[^\s&'\",;]+",
    re.IGNORECASE,
)
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a table for `translate` takes 40 ms of a cut text
_CONTROLS_IN_JSON: Final = re.compile("[\x7f-\x9f]")  # json.dumps has escaped the others
_CONTINUED: Final = "\n    "  # lines of one record after its first: none of them looks like a record of its own
_OWN: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}


def configure(form: str = "text", level: str = "INFO") -> None:
    """Send the whole process's log to standard error; `form` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # it brings handlers of its own, which mask nothing
        logger = logging.getLogger(name)
        if logger.handlers or logger.propagate:  # else it has been silenced: --no-access-log
            logger.handlers.clear()
            logger.propagate = True
    for name in ("amqp", "kombu", "alembic.runtime"):
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), logging.WARNING))


def masked(text: str) -> str:
    """The text, at most LONGEST characters of it, without passwords in URLs, values of things named like secrets, and
    this process's own secrets."""
    if len(text) <= LONGEST:
        return _masked(text)
    seen = _masked(text[: LONGEST + LONGEST_SECRET])
    return f"{seen[:-LONGEST_SECRET]}… (cut: {len(text):,} characters)"


def _masked(text: str) -> str:
    text = _NAMED.sub(rf"\1\2\3{MASK}", _IN_URL.sub(rf"\1:{MASK}@", text))
    for secret in _secrets(settings()):
        text = text.replace(secret, MASK)
    return text


class TextLines(logging.Formatter):
    """`2026-11-24T08:00:00.123Z INFO relay: sentence field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record; a traceback follows on lines of its own."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_instant(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        told = "\n".join(map(masked, [line, *_traceback(self, record)]))
        return _encodable(_CONTROLS.sub(lambda one: f"\\x{ord(one[0]):02x}", told).replace("\n", _CONTINUED))


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the record's own fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        entry: dict[str, Any] = {
            "time": _instant(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if trace := _traceback(self, record):
            entry["traceback"] = "\n".join(trace)
        told = json.dumps({name: _masked_value(value) for name, value in entry.items()}, ensure_ascii=False)
        return _encodable(_CONTROLS_IN_JSON.sub(lambda one: f"\\u{ord(one[0]):04x}", told))


def now() -> str:
    """The instant as lines of the log tell it."""
    return _told(datetime.now(UTC))


def _instant(record: logging.LogRecord) -> str:
    return _told(datetime.fromtimestamp(record.created, UTC))


def _told(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN and name != "color_message"}


def _masked_value(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool, type(None))) else masked(str(value))


def _encodable(text: str) -> str:
    """With lone surrogates written out: a stream refuses them, and the line would be lost."""
    return text.encode("utf-8", "backslashreplace").decode()


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    return [formatter.formatException(record.exc_info)] if record.exc_info else []


def say_once(log: logging.Logger, text: str, *told: object) -> None:
    """A warning about what stays as it is: once in a process, and again after MOST_SAID others."""
    said = text % told
    if len(_said) >= MOST_SAID:
        _said.clear()
    if said not in _said:
        _said.add(said)
        log.warning("%s", said)


@cache
def _secrets(own: Settings) -> set[str]:
    urls = own.celery_broker_url.split(";")
    databases = (own.database_url, own.database_read_url)
    keys = [part.strip().split(":", 2)[-1] for part in own.api_keys.split(",")]
    found = {own.api_key, own.incident_webhook_key, *keys, *map(_password, urls), *map(address.password, databases)}
    both = found | {quote(secret, safe="") for secret in found} | {unquote(secret) for secret in found}
    return {secret for secret in both if len(secret) >= SHORTEST_SECRET and secret not in ("citycache",)}


def _password(url: str) -> str:
    try:
        return str(make_url(url).password or "") if url else ""
    except (ArgumentError, ValueError):
        return ""
