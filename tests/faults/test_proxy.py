"""The proxy does to connections what the fault tests say it does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy


class Echo:
    """A server that sends back what it gets, and keeps count of the connections that it saw end."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(1024):
                    client.sendall(data)
            except OSError:
                pass
        self.ended.release()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.socket.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        assert answer(client) == b"ping"
        yield client


def answer(client: socket.socket, patience: float = 5) -> bytes:
    """What comes back for a ping; raises TimeoutError when nothing does."""
    client.settimeout(patience)
    client.sendall(b"ping")
    return client.recv(1024)


def test_passes_on_and_names_itself_in_urls(proxy: Proxy, client: socket.socket):
    assert answer(client) == b"ping"
    assert proxy.url("amqp://me:secret@127.0.0.1:5672/test-1") == f"amqp://me:secret@127.0.0.1:{proxy.port}/test-1"


def test_reset_ends_connections_with_an_error_and_lets_new_ones_through(proxy: Proxy, client: socket.socket):
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1024)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
        assert answer(other) == b"ping"


def test_held_bytes_arrive_after_healing(proxy: Proxy, client: socket.socket):
    proxy.hold()
    with pytest.raises(TimeoutError):
        answer(client, 0.1)
    proxy.heal()
    assert client.recv(1024) == b"ping"


def test_a_forgotten_connection_stays_open_on_both_sides(proxy: Proxy, echo: Echo, client: socket.socket):
    assert proxy.half_open() == 1
    with pytest.raises(TimeoutError):
        answer(client, 0.1)
    client.close()
    assert not echo.ended.acquire(timeout=0.1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as other:
        assert answer(other) == b"ping"
    proxy.heal()
    assert echo.ended.acquire(timeout=5)


def test_delays(proxy: Proxy, client: socket.socket):
    proxy.delay(0.05)
    begin = time.monotonic()
    assert answer(client) == b"ping"
    assert time.monotonic() - begin >= 0.1


def test_an_end_on_one_side_ends_the_other(proxy: Proxy, echo: Echo, client: socket.socket):
    client.close()
    assert echo.ended.acquire(timeout=5)


def test_hangs_up_when_nobody_listens_behind():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Proxy(port) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        assert hangs_up(client)


def hangs_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
