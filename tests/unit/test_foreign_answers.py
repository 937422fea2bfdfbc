"""Whatever answers at the address where the API should be, a command says so in a sentence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from backend import test_celery
from backend.app.commands.status import health_at

JSON = b"Content-Type: application/json\r\n"


def listening(said: bytes) -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(
    params={
        "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
        "nothing": b"",
        "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        "cut off refusal": b"HTTP/1.1 503 no\r\nContent-Length: 100\r\n\r\n{",
        "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        "a page of a refusal": b"HTTP/1.1 404 no\r\nContent-Length: 6\r\n\r\n<html>",
        "another encoding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        "another type": b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 2\r\n\r\n[]",
        "headers without an end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    }.items(),
    ids=lambda case: case[0],
)
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from listening(request.param[1])


def test_status_knows_no_health_of_a_stranger(stranger: str) -> None:
    assert health_at(stranger) is None


def test_a_stranger_is_nobody_who_could_run_a_task(stranger: str) -> None:
    with pytest.raises((test_celery.NobodyAnswers, test_celery.HttpRefused)):
        test_celery.System(stranger, "").call("POST", "/api/v1/celery/tasks/clear-all-caches", {})
