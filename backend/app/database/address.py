"""DATABASE_URL as libpq's parameters, with any number of hosts."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import psycopg2
from psycopg2.extensions import parse_dsn

SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg2")
WRITES: Final = "primary"
READS: Final = "prefer-standby"
NOWHERE: Final = "/nowhere"
PLACES: Final = ("host", "hostaddr", "port", "service", "passfile")
WANTED: Final = "must be postgresql://user:password@host:port/name, several hosts as host:port,host:port"


def parameters(url: str, attributes: str = WRITES) -> dict[str, str]:
    """Keyword arguments for psycopg2.connect. Raises ValueError, with a sentence that quotes nothing of the URL.

    Several hosts are written as libpq does, `a:5432,b:5432`, or as SQLAlchemy does, `?host=a:5432&host=b:5432`.
    `attributes` says which of them is taken (WRITES, READS), unless the URL's own `target_session_attrs` does.
    """
    check_scheme(url)
    place, _, query = url.partition("://")[2].partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    named = [host for name, value in options if name == "host" for host in value.split(",")]
    others = urlencode([pair for pair in options if pair[0] != "host"], quote_via=quote)
    found = _parsed(f"postgresql://{place}?{others}") | ({"host": ",".join(named)} if named else {})
    if any(_has_port(host) for host in named):
        found |= _split(named)
    _check_ports(found)
    return {"target_session_attrs": attributes, **found}


def check_scheme(url: str) -> None:
    """Raise ValueError unless the URL is one of PostgreSQL."""
    if url.partition("://")[0] not in SCHEMES:
        raise ValueError("must start with postgresql+psycopg2:// or postgresql://")


def check_values(url: str) -> None:
    """Raise ValueError unless libpq knows the value of each parameter: it looks at them when it connects, and here that
    is to a folder without a server."""
    for name, value in parameters(url).items():
        if name not in PLACES:
            wishes: dict[str, Any] = {"host": NOWHERE, name: value}
            try:
                psycopg2.connect(**wishes)
            except psycopg2.OperationalError as failure:
                if not str(failure).startswith("connection to server"):
                    raise ValueError(f"has a {name} that PostgreSQL's client does not know") from None


def password(url: str) -> str:
    """That of the URL, or nothing."""
    return parameters(url).get("password", "") if url else ""


def _parsed(uri: str) -> dict[str, str]:
    try:
        found: dict[str, str] = parse_dsn(uri)
    except psycopg2.ProgrammingError:
        raise ValueError(WANTED) from None
    return found


def _check_ports(found: dict[str, str]) -> None:
    """One for all hosts, or one each."""
    ports = found.get("port", "").split(",")
    hosts = found.get("host", found.get("hostaddr", "")).split(",")
    if len(ports) not in (1, len(hosts)) or not all(map(_is_port, ports)):
        raise ValueError(WANTED)


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65_536)


def _has_port(host: str) -> bool:
    return not host.startswith("/") and (host.count(":") == 1 or "]:" in host)


def _split(hosts: list[str]) -> dict[str, str]:
    pairs = [host.rpartition(":") if _has_port(host) else (host, "", "") for host in hosts]
    return {"host": ",".join(host.strip("[]") for host, _, _ in pairs), "port": ",".join(port for _, _, port in pairs)}
