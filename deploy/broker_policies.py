"""Set the policies of events/topology.py through RabbitMQ's management API; safe to run again at any time.

Where CITYCACHE_API_PASSWORD, CITYCACHE_RELAY_PASSWORD and so on are set, it also makes the users citycache_api,
citycache_relay and so on with the rights of backend/app/access/broker_rights.py.

    CELERY_BROKER_URL=amqp://admin:…@rabbitmq:5672// python deploy/broker_policies.py

User, password and vhost are those of CELERY_BROKER_URL; RABBITMQ_MANAGEMENT_URL names the API where it is not port
15672 of the same host. A definitions file would be no way here: a node that is given one makes no default user.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from backend.app.access.broker_rights import RIGHTS
from events.topology import POLICIES

PATIENCE = 60.0  # seconds that a broker may take to start
PAUSE = 1.0


def main() -> int:
    """Set all of them. Exit codes: 0 set, 1 the broker refused or did not answer in time, 2 no broker named."""
    broker = os.environ.get("CELERY_BROKER_URL", "").split(";")[0]
    if not broker.startswith(("amqp://", "amqps://", "pyamqp://")):
        print("CELERY_BROKER_URL names no RabbitMQ: nothing to set", file=sys.stderr)
        return 2
    deadline = time.monotonic() + PATIENCE
    for what, path, body in wishes(broker, os.environ):
        request = request_for(broker, os.environ.get("RABBITMQ_MANAGEMENT_URL"), path, body)
        try:
            send(request, deadline)
        except urllib.error.HTTPError as failure:
            print(f"{what}: the broker answers {failure.code} {failure.reason}", file=sys.stderr)
            return 1
        except OSError as failure:
            print(f"{what}: {request.host} does not answer: {failure}", file=sys.stderr)
            return 1
        print(f"{what} is set")
    return 0


def wishes(broker: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What to PUT: its name for people, its path below /api, its body. The vhost is that of the broker's URL."""
    vhost = quote(unquote(urlsplit(broker).path[1:]) or "/", safe="")
    for name, policy in POLICIES.items():
        yield f"policy {name}", f"policies/{vhost}/{quote(name, safe='')}", {"priority": 0, **policy}
    for process, rights in RIGHTS.items():
        if password := environment.get(f"CITYCACHE_{process.upper()}_PASSWORD"):
            user = f"citycache_{process}"
            yield f"user {user}", f"users/{user}", {"password": password, "tags": ""}
            yield f"permissions of {user}", f"permissions/{vhost}/{user}", asdict(rights)


def request_for(broker: str, management: str | None, path: str, body: Mapping[str, Any]) -> urllib.request.Request:
    """One PUT, with the account of the broker's URL."""
    url = urlsplit(broker)
    base = (management or f"http://{url.hostname}:15672").rstrip("/")
    account = f"{unquote(url.username or 'guest')}:{unquote(url.password or 'guest')}"
    return urllib.request.Request(
        f"{base}/api/{path}",
        method="PUT",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Basic {base64.b64encode(account.encode()).decode()}",
            "Content-Type": "application/json",
        },
    )


def send(request: urllib.request.Request, deadline: float) -> None:
    """Send it until the broker answers; OSError when it does not by the deadline (monotonic seconds)."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with direct.open(request, timeout=10):
                return
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main())
