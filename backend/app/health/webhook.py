"""Tells another service of incidents, as they begin and as they end: signed, at least once, bounded in time and size.

What is told is marked in the incidents' own table, so nothing is lost when a process ends or the other side is away,
and nothing waits for it: who judges health knows nothing of this. The format is that of https://www.standardwebhooks.com:
the signature covers id, time and body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from socket import SHUT_RDWR
from threading import Event, Thread
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from backend.app import db
from backend.app.errors import CitycacheError, sentence
from backend.app.health.incidents import Incident
from backend.app.settings import settings
from events.sql_files import statements

log = logging.getLogger(__name__)
SQL: Final = statements(Path(__file__).with_suffix(".sql"))
LOOK_SECONDS: Final = 3.0  # between two looks for what is untold
LONGEST_PAUSE: Final = 300.0  # seconds between two looks while the other side is away; until the refused is told again
ATTEMPT_SECONDS: Final = 10.0  # for one request, whatever the other side does; for each address that does not answer
CUT_SECONDS: Final = 0.1  # between two cuts of a connection that is overdue
ATTEMPTS: Final = 3  # of one look
MOST_BYTES: Final = 65_536  # of a body
EACH: Final = 20  # incidents of one look
LATER: Final = (408, 429)  # answers that are not about what was told
Moment = Literal["begin", "end"]


class Untold(CitycacheError):
    """The other side takes nothing now."""


class Declined(CitycacheError):
    """The other side does not take this one."""


@dataclass(frozen=True)
class Telling:
    """One thing to be told."""

    incident: Incident
    moment: Moment

    @property
    def id(self) -> str:
        """The same however often it is told."""
        return f"incident-{self.incident.id}-{self.moment}"

    def body(self) -> bytes:
        """JSON; values that would make it too large are left out."""
        told = {"type": f"incident.{self.moment}", "incident": self.incident.as_dict()}
        whole = json.dumps(told).encode()
        if len(whole) <= MOST_BYTES:
            return whole
        short = self.incident.as_dict() | {"values": {}, "effect": "", "values_left_out": True}
        return json.dumps(told | {"incident": short}).encode()


class Teller:
    """Tells what is untold, with growing pauses while the other side is away."""

    def __init__(self) -> None:
        self.pause = LOOK_SECONDS
        self._refused: dict[int, float] = {}  # by id of the incident; monotonic seconds of the next attempt

    def run_once(self) -> int:
        """One look; how many were told. Never raises for what the other side does. Raises DatabaseAway."""
        told, now = 0, time.monotonic()
        self._refused = {id_: due for id_, due in self._refused.items() if due > now}
        try:
            for telling in untold(list(self._refused)):
                told += self._is_told(telling)
        except Untold as failure:
            self.pause = min(LONGEST_PAUSE, 2 * self.pause)
            log.warning("an incident is not told yet: %s", failure)
        else:
            self.pause = LOOK_SECONDS
        return told

    def _is_told(self, telling: Telling) -> bool:
        """Where its beginning is refused, its end is put off as well."""
        if telling.incident.id in self._refused:
            return False
        try:
            _send_again_and_again(telling)
        except Declined as failure:
            self._refused[telling.incident.id] = time.monotonic() + LONGEST_PAUSE
            log.warning("%s is refused: %s", telling.id, failure)
            return False
        _mark(telling)
        return True


def untold(refused: Sequence[int] = ()) -> list[Telling]:
    """What nobody has been told of but these incidents, each beginning before its end. Raises DatabaseAway."""
    with db.transaction() as connection:
        rows = connection.exec_driver_sql(SQL["untold"], {"refused": list(refused), "limit": EACH}).fetchall()
    due: list[Telling] = []
    for *incident, begins, ends in rows:
        due += [Telling(Incident(*incident), "begin")] if begins else []
        due += [Telling(Incident(*incident), "end")] if ends else []
    return due


def _mark(telling: Telling) -> None:
    with db.transaction() as connection:
        told = SQL["begin_told"] if telling.moment == "begin" else SQL["end_told"]
        connection.exec_driver_sql(told, {"id": telling.incident.id})


def _send_again_and_again(telling: Telling) -> None:
    for attempt in Retrying(
        retry=retry_if_exception_type(Untold),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=0.5, max=5),
        reraise=True,
    ):
        with attempt:
            send(telling)


def send(telling: Telling) -> None:
    """One request; raises Declined or Untold unless the answer is a 2xx. A redirect is none, and no body is read."""
    url, body = urlsplit(settings().incident_webhook_url), telling.body()
    try:
        with _within(ATTEMPT_SECONDS, url) as connection:
            connection.request(
                "POST", f"{url.path or '/'}{'?' if url.query else ''}{url.query}", body, _headers(telling, body)
            )
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as failure:
        quotes = isinstance(failure, ssl.SSLError) or not isinstance(failure, OSError)  # the address
        raise Untold(type(failure).__name__ if quotes else sentence(failure)) from None
    if not 200 <= status < 300:
        is_refused = 400 <= status < 500 and status not in LATER
        raise (Declined if is_refused else Untold)(f"the answer is {status}")


@contextmanager
def _within(seconds: float, url: SplitResult) -> Iterator[HTTPConnection]:
    """A connection that is cut after so long: a timeout of a socket begins anew with each byte."""
    if url.scheme == "https":
        connection: HTTPConnection = HTTPSConnection(
            url.hostname or "", url.port, timeout=seconds, context=ssl.create_default_context()
        )
    else:
        connection = HTTPConnection(url.hostname or "", url.port, timeout=seconds)
    is_over = Event()
    Thread(target=_cut, args=(connection, is_over, seconds), name="webhook's cut", daemon=True).start()
    try:
        yield connection
    finally:
        is_over.set()
        connection.close()


def _cut(connection: HTTPConnection, is_over: Event, seconds: float) -> None:
    """Again and again: it may be connected only afterwards."""
    is_over.wait(seconds)
    while not is_over.wait(CUT_SECONDS):
        if sock := connection.sock:
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)


def _headers(telling: Telling, body: bytes) -> dict[str, str]:
    at = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "User-Agent": "citycache",
        "Webhook-Id": telling.id,
        "Webhook-Timestamp": at,
        "Webhook-Signature": signature(settings().incident_webhook_key, telling.id, at, body),
    }


def signature(key: str, message_id: str, at: str, body: bytes) -> str:
    """HMAC-SHA256 over `id.timestamp.body`, in base64 behind the version."""
    signed = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode()
