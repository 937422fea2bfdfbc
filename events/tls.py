"""TLS to the broker, by URL: `amqps://…?cacertfile=/etc/ssl/broker-ca.pem`, with RabbitMQ's own names of parameters.

Unlike the client library by itself this checks whose certificate it is: the name in the URL, or
`server_name_indication`, must be in it. Without `cacertfile` the system's authorities count (SSL_CERT_FILE names
others). `certfile` and `keyfile` show a certificate of ours. `verify=verify_none` checks nothing and is for tests.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

SCHEME: Final = "amqps"
FILES: Final = {"cacertfile": "ca_certs", "certfile": "certfile", "keyfile": "keyfile"}
VERIFY: Final = {"verify_peer": ssl.CERT_REQUIRED, "verify_none": ssl.CERT_NONE}
_HEARTBEAT: Final = re.compile(r"(heartbeat=[0-9]{1,5})?")
PARAMETERS: Final = (*FILES, "verify", "server_name_indication")


def split(urls: str) -> tuple[str, dict[str, Any] | bool]:
    """One or several URLs (separated by ';') without TLS parameters, and these as kombu wants them; False without TLS.

    Raises ValueError, in words that show no password. The parameters of the first URL count for all.
    """
    parts = [urlsplit(url) for url in urls.split(";")]
    if not any(part.scheme == SCHEME for part in parts):
        if not all(_HEARTBEAT.fullmatch(part.query) for part in parts):
            raise ValueError(f"there is an unknown parameter; without {SCHEME}:// only heartbeat=SECONDS is known")
        return urls, False
    if any(part.scheme != SCHEME for part in parts):
        raise ValueError("all of them must be amqps://, or none")
    plain = ";".join(urlunsplit(part._replace(query="")) for part in parts)
    wishes = dict(parse_qsl(parts[0].query, keep_blank_values=True))
    if wishes.keys() - set(PARAMETERS):  # not shown: behind a '?' in a password its rest looks like a parameter
        raise ValueError(f"there is an unknown parameter; known ones: {', '.join(PARAMETERS)}")
    return plain, _options(wishes, {part.hostname or "" for part in parts})


def _options(wishes: dict[str, str], hosts: set[str]) -> dict[str, Any]:
    verify = wishes.get("verify", "verify_peer")
    if verify not in VERIFY:
        raise ValueError(f"verify={verify!r} is neither of {', '.join(VERIFY)}")
    options: dict[str, Any] = {"cert_reqs": VERIFY[verify]}
    if verify == "verify_peer":
        options["server_hostname"] = wishes.get("server_name_indication") or _lone(hosts)
    for name, option in FILES.items():
        if name in wishes:
            if not Path(wishes[name]).is_file():
                raise ValueError(f"{name}={wishes[name]!r}: there is no such file")
            options[option] = wishes[name]
    return options


def _lone(hosts: set[str]) -> str:
    if len(hosts) > 1:
        raise ValueError("several hosts need server_name_indication, a name that the certificates of all of them have")
    return hosts.pop()
