"""Log lines, as text for people or as JSON for collectors; no line shows a password or an API key."""

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

from backend.app.settings import Settings, settings

MASK: Final = "***"
SHORTEST_SECRET: Final = 6  # a shorter one would mask half of the words of a line
_IN_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"\b(api[_-]?key|x-api-key|password|passwd|authorization|token)(['\"]?\s*[=:]\s*['\"]?)(bearer\s+)?[^\s&'\",;]+",
    re.IGNORECASE,
)
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
    for name in (
        "uvicorn",
        "uvicorn.error",
        "uvicorn.access",
    ):  # it brings handlers of its own, which mask nothing
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in ("amqp", "kombu", "alembic.runtime"):
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), logging.WARNING))


def masked(text: str) -> str:
    """The text without passwords in URLs, values of things named like secrets, and this process's own secrets."""
    return without_own(_NAMED.sub(rf"\1\2\3{MASK}", _IN_URL.sub(rf"\1:{MASK}@", text)))


def without_own(text: str) -> str:
    """The text without this process's own passwords and keys."""
    for secret in _secrets(settings()):
        text = text.replace(secret, MASK)
    return text


class TextLines(logging.Formatter):
    """`2026-11-24T08:00:00.123Z INFO relay: sentence field=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record; a traceback follows on lines of its own."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_instant(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        return masked("\n".join([line, *_traceback(self, record)]))


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
        return json.dumps({name: _masked_value(value) for name, value in entry.items()}, ensure_ascii=False)


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN and name != "color_message"}


def _masked_value(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool, type(None))) else masked(str(value))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    return [formatter.formatException(record.exc_info)] if record.exc_info else []


@cache
def _secrets(own: Settings) -> set[str]:
    urls = [own.database_url, *own.celery_broker_url.split(";")]
    keys = [part.strip().split(":", 2)[-1] for part in own.api_keys.split(",")]
    found = {own.api_key, *keys, *(_password(url) for url in urls)}
    both = found | {quote(secret, safe="") for secret in found} | {unquote(secret) for secret in found}
    return {secret for secret in both if len(secret) >= SHORTEST_SECRET and secret not in ("citycache",)}


def _password(url: str) -> str:
    try:
        return str(make_url(url).password or "") if url else ""
    except (ArgumentError, ValueError):
        return ""
