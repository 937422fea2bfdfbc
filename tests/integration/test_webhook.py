"""The webhook tells of each incident's beginning and end, at least once, and nothing waits for who is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backend.app.errors import BadSetting
from backend.app.health import webhook
from backend.app.health.incidents import Incident
from backend.app.observing.observer import Observer
from backend.app.settings import settings
from tests.certificates import authority, certificate
from tests.conftest import configured_as
from tests.plain import Plain
from tests.receiver import Receiver, receiving
from tests.system import System
from tests.waiting import until

KEY = "a key that signs what is told"
SECONDS = 1.0  # of one attempt
LONG = 10 * SECONDS  # far more than what bounds one attempt


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path / "receiver") as receiver:
        yield receiver


@pytest.fixture
def plain(
    configured_database: None, database: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plain]:
    """An incident that is over, and one that is open."""
    monkeypatch.setattr(webhook, "ATTEMPT_SECONDS", SECONDS)
    told = configured_as(monkeypatch, INCIDENT_WEBHOOK_URL=receiver.url, INCIDENT_WEBHOOK_KEY=KEY)
    with told, Plain(database) as plain:
        plain.run("""
            INSERT INTO incidents (kind, began_at, ended_at, values) VALUES
                ('rows_wrong', now() - interval '2 hours', now() - interval '1 hour', '{"rows": 3}'),
                ('relay_absent', now() - interval '5 minutes', NULL, '{}'),
                ('worker_absent', now() - interval '3 days', now() - interval '2 days', '{}')""")
        yield plain


ALL = ["incident-1-begin", "incident-1-end", "incident-2-begin"]


def is_signed(taken: dict[str, Any]) -> bool:
    """As https://www.standardwebhooks.com says."""
    headers = taken["headers"]
    content = f"{headers['Webhook-Id']}.{headers['Webhook-Timestamp']}.{taken['body']}"
    wanted = base64.b64encode(hmac.new(KEY.encode(), content.encode(), hashlib.sha256).digest()).decode()
    return bool(headers["Webhook-Signature"] == f"v1,{wanted}")


def test_tells_each_beginning_and_each_end_once_signed_and_in_order(plain: Plain, receiver: Receiver) -> None:
    assert [webhook.Teller().run_once(), webhook.Teller().run_once()] == [3, 0]
    plain.run("UPDATE incidents SET ended_at = now() WHERE ended_at IS NULL")
    assert webhook.Teller().run_once() == 1

    assert receiver.ids() == [*ALL, "incident-2-end"]  # and nothing of what was over two days ago
    assert all(is_signed(taken) for taken in receiver.taken())
    first = json.loads(receiver.taken()[0]["body"])
    assert first["type"] == "incident.begin"
    assert first["incident"]["effect"] == "3 cached rows are wrong and not mended yet."
    assert abs(time.time() - int(receiver.taken()[0]["headers"]["Webhook-Timestamp"])) < 600


@pytest.mark.parametrize("mode", ["broken", "busy", "elsewhere", "silent", "dripping"])
def test_what_was_not_taken_is_told_again_by_the_next_process(plain: Plain, receiver: Receiver, mode: str) -> None:
    receiver.behave(mode)
    began, teller = time.monotonic(), webhook.Teller()

    assert teller.run_once() == 0
    assert time.monotonic() - began < webhook.ATTEMPTS * LONG
    assert teller.pause > webhook.LOOK_SECONDS
    assert {taken["path"] for taken in receiver.taken(mode)} == {"/hook?token=of-the-address"}
    assert {taken["headers"]["Webhook-Id"] for taken in receiver.taken(mode)} == {ALL[0]}

    receiver.behave("well")
    assert webhook.Teller().run_once() == 3
    assert receiver.ids() == ALL


def test_one_that_is_refused_keeps_no_other_one_from_being_told(
    plain: Plain, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "EACH", 1)
    receiver.behave("picky")
    teller = webhook.Teller()

    assert [teller.run_once() for _ in range(3)] == [0, 1, 0]
    tried = [taken["headers"]["Webhook-Id"] for taken in receiver.taken("picky")]
    assert tried == ["incident-1-begin", "incident-2-begin"], "once each, and no end before its beginning"
    assert teller.pause == webhook.LOOK_SECONDS

    receiver.behave("well")
    assert webhook.Teller().run_once() == 2
    assert receiver.ids() == ["incident-1-begin", "incident-1-end"]


def test_nobody_there_loses_nothing(
    plain: Plain, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = configured_as(monkeypatch, INCIDENT_WEBHOOK_URL="http://127.0.0.1:9/hook?token=of-the-address")
    with nobody, caplog.at_level(logging.DEBUG):
        assert webhook.Teller().run_once() == 0
    assert "refused" in caplog.text
    assert not any(secret in caplog.text for secret in (KEY, "of-the-address"))

    with configured_as(monkeypatch, INCIDENT_WEBHOOK_URL=receiver.url):
        assert webhook.Teller().run_once() == 3
    assert receiver.ids() == ALL


def test_a_certificate_of_another_host_is_told_without_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = certificate(authority(tmp_path), "server", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_shake_hands, args=(context, listener), daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/hook"
        variables = {"INCIDENT_WEBHOOK_URL": url, "INCIDENT_WEBHOOK_KEY": KEY, "SSL_CERT_FILE": str(shown.authority)}
        with configured_as(monkeypatch, **variables), pytest.raises(webhook.Untold) as untold:
            webhook.send(webhook.Telling(Incident(1, "relay_absent", "", datetime.now(UTC), None, {}), "begin"))
    assert str(untold.value) == "SSLCertVerificationError"


def _shake_hands(context: ssl.SSLContext, listener: socket.socket) -> None:
    with suppress(OSError):
        context.wrap_socket(listener.accept()[0], server_side=True)


@pytest.mark.timeout(60)
def test_an_answer_without_an_end_is_not_read(
    plain: Plain, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "ATTEMPT_SECONDS", LONG)  # who reads is cut off only then
    receiver.behave("endless")
    began = time.monotonic()

    assert webhook.Teller().run_once() == 3

    assert time.monotonic() - began < LONG


def test_a_body_is_bounded(plain: Plain, receiver: Receiver) -> None:
    plain.run("UPDATE incidents SET values = jsonb_build_object('rows', repeat('9', 200000)) WHERE id = 1")

    assert webhook.Teller().run_once() == 3

    told = json.loads(receiver.taken()[0]["body"])
    assert (told["incident"]["kind"], told["incident"]["values"]) == ("rows_wrong", {})
    assert all(len(taken["body"]) <= webhook.MOST_BYTES for taken in receiver.taken())


def test_the_observer_waits_for_nobody_and_a_killed_one_loses_nothing(
    database: str, broker: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.behave("silent")
    told = {"INCIDENT_WEBHOOK_URL": receiver.url, "INCIDENT_WEBHOOK_KEY": KEY}
    with System(database, broker, tmp_path / "system", OBSERVER="true", STALL_SECONDS="1", **told) as system:
        with Plain(database) as plain:
            system.start(["api"])
            until(lambda: bool(receiver.taken("silent")), 60, "it is told that parts are missing")
            seen = plain.one("SELECT count(*) FROM observations")
            system.start(["relay", "worker"])
            open_ = "SELECT count(*) FROM incidents WHERE ended_at IS NULL"
            until(lambda: plain.one(open_) == 0, 60, "incidents end while the other side keeps silent")
            assert len(receiver.taken("silent")) < webhook.ATTEMPTS, "the first telling still waits"
            until(lambda: plain.one("SELECT count(*) FROM observations") > seen, 30, "and so do observations go on")
            system.kill("api")
            receiver.behave("well")
            system.start(["api"])
            ended = plain.column("SELECT id FROM incidents WHERE ended_at IS NOT NULL")
            wanted = {f"incident-{id_}-{moment}" for id_ in ended for moment in ("begin", "end")}
            until(lambda: wanted <= set(receiver.ids()), 60, "it is told of all that was wrong meanwhile")
        assert wanted
        assert not any(secret in system.log(part) for part in ("api",) for secret in (KEY, "of-the-address"))


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        ("ftp://example.org/x", KEY, "INCIDENT_WEBHOOK_URL: must start with http:// or https://"),
        ("https://example.org/x", "short", "INCIDENT_WEBHOOK_KEY of at least 16 characters"),
        ("http://", KEY, "INCIDENT_WEBHOOK_URL: names no host"),
        ("https://user:pw@example.org/x", KEY, "INCIDENT_WEBHOOK_URL: must have no user or password"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, url: str, key: str, says: str
) -> None:
    told = configured_as(monkeypatch, INCIDENT_WEBHOOK_URL=url, INCIDENT_WEBHOOK_KEY=key)
    with told, pytest.raises(BadSetting) as refused:
        settings()
    assert says in str(refused.value)
    assert url not in str(refused.value)
    assert key not in str(refused.value)


def test_nobody_is_told_by_default(
    configured_database: None, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "webhook" not in threads_of_an_observer()
    with configured_as(monkeypatch, INCIDENT_WEBHOOK_URL=receiver.url, INCIDENT_WEBHOOK_KEY=KEY):
        assert "webhook" in threads_of_an_observer()


def threads_of_an_observer() -> set[str]:
    """That run while one does."""
    observer = Observer()
    observer.start()
    try:
        return {thread.name for thread in threading.enumerate()}
    finally:
        observer.stop()
