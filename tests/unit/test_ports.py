"""Ports for servers that are started a moment later."""

from __future__ import annotations

import socket
from pathlib import Path

from backend.embedded import spawn


def test_no_connection_can_take_the_port_before_its_server_listens() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(spawn.free_port() < first for _ in range(200))


def test_the_preferred_port_is_taken_when_it_is_free_only() -> None:
    free = spawn.free_port()
    assert spawn.free_port(free) == free
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free))
        taken.listen()
        assert spawn.free_port(free) != free
