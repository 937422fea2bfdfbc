"""Addresses, names and URLs in settings: whatever means nothing is refused with a sentence (ValueError)."""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from typing import Final
from urllib.parse import parse_qs, urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HIGHEST_PORT: Final = 65_535
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-)){0,20}")


@cache
def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas."""
    return tuple(map(_network, _parts(text, "addresses or networks")))


@cache
def hosts(text: str) -> frozenset[str]:
    """Names and addresses without ports, in lower case, separated by commas."""
    return frozenset(map(_host, _parts(text, "names")))


def check_host(host: str) -> None:
    """Raise unless this is a name or an address."""
    _host(host)


def check_url(url: str) -> None:
    """Raise unless each host of the URL is one, with a port that there is; hosts are separated by commas.

    No message shows a part of the URL: of one with an odd password nobody knows which part is the password.
    """
    try:
        authority = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        raise ValueError("is no URL") from None
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("has blanks or characters that nobody sees")
    for part in authority.split(",") if authority else []:
        host, port = _split(part)
        if not _is_host(host):
            raise ValueError("has a host that is neither a name nor an address")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= HIGHEST_PORT):
            raise ValueError(f"has a port that is not from 1 to {HIGHEST_PORT:,}")


def check_database_url(url: str) -> None:
    """Raise unless the URL names a database; without a host it is the local socket's."""
    check_url(url)
    query = parse_qs(urlsplit(url).query)
    if not urlsplit(url).path.strip("/") and "dbname" not in query:
        raise ValueError("names no database: it ends in /NAME")


def check_broker_url(url: str) -> None:
    """Raise unless the URL names a host."""
    check_url(url)
    if not urlsplit(url).netloc.rpartition("@")[2]:
        raise ValueError("names no host")


def _split(part: str) -> tuple[str, str]:
    if part.startswith("["):
        host, _, rest = part[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = part.partition(":")
    return host, port


def _parts(text: str, what: str) -> list[str]:
    if not text:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"has an empty entry: {what} are separated by single commas")
    return parts


def _network(part: str) -> Network:
    try:
        return ipaddress.ip_network(part)
    except ValueError:
        raise ValueError(f"{part[:60]!r} is neither an address nor a network such as 10.0.0.0/8") from None


def _is_host(part: str) -> bool:
    try:
        return bool(_host(part))
    except ValueError:
        return False


def _host(part: str) -> str:
    host = part.lower().strip("[]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if len(host) > 253 or not _NAME.fullmatch(host):
            raise ValueError(f"{part[:60]!r} is not the name or address of a host, without a port") from None
    return host
