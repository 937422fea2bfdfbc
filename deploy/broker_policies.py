"""Set the policies of events/topology.py through RabbitMQ's management API; safe to run again at any time.

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
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

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
    for name, policy in POLICIES.items():
        request = request_for(broker, os.environ.get("RABBITMQ_MANAGEMENT_URL"), name, policy)
        try:
            send(request, deadline)
        except urllib.error.HTTPError as failure:
            print(f"policy {name}: the broker answers {failure.code} {failure.reason}", file=sys.stderr)
            return 1
        except OSError as failure:
            print(f"policy {name}: {request.host} does not answer: {failure}", file=sys.stderr)
            return 1
        print(f"policy {name} is set")
    return 0


def request_for(broker: str, management: str | None, name: str, policy: Mapping[str, Any]) -> urllib.request.Request:
    """The PUT that sets one policy of the vhost which the broker's URL names."""
    url = urlsplit(broker)
    base = (management or f"http://{url.hostname}:15672").rstrip("/")
    vhost = unquote(url.path[1:]) or "/"
    account = f"{unquote(url.username or 'guest')}:{unquote(url.password or 'guest')}"
    return urllib.request.Request(
        f"{base}/api/policies/{quote(vhost, safe='')}/{quote(name, safe='')}",
        method="PUT",
        data=json.dumps({"priority": 0, **policy}).encode(),
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
