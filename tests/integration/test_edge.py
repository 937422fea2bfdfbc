"""The edge, by the documented command: what one caller may hold, for how long, and whose address is believed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn
from uvicorn.server import ServerState

from backend.app.api.edge import protocol
from backend.embedded import spawn
from tests.servers import ROOT
from tests.system import SCRIPTS
from tests.waiting import eventually, until

SLOW = protocol.READ_SECONDS + 6


class Api:
    """A process of the API, without any server behind it."""

    def __init__(self, place: Path, files: int = 1024, **variables: str) -> None:
        self.port = spawn.free_port()
        self._log = place / "api.log"
        environment = {"OBSERVER": "false", "DATABASE_URL": "postgresql://a@127.0.0.1:1/a", "API_KEY": "", **variables}
        command = f"ulimit -n {files}; exec {SCRIPTS}/uvicorn backend.app.main:app --port {self.port}"
        self.process = spawn.spawn(["sh", "-c", command], log=self._log, env={**os.environ, **environment}, cwd=ROOT)
        until(self._is_live, 60, "the API answers")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SLOW, source_address=(source, 0))

    def ask(self, path: str = "/health/live", source: str = "127.0.0.1", method: str = "GET", **headers: str) -> str:
        """Everything that comes back until the server closes."""
        with closing(self.connect(source)) as connection:
            given = {"Host": "localhost", "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
            lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
            with suppress(OSError):  # it may answer before it has read all
                connection.sendall("\r\n".join(lines).encode())
            return rest(connection)

    def _is_live(self) -> bool:
        assert self.process.poll() is None, self.log
        with suppress(OSError):
            return " 200 " in self.ask()
        return False


def rest(connection: socket.socket) -> str:
    found = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            found += piece
    return found.decode(errors="replace")


@contextmanager
def running(place: Path, files: int = 1024, **variables: str) -> Iterator[Api]:
    api = Api(place, files, **variables)
    try:
        yield api
    finally:
        spawn.end(api.process, 15, 10)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(tmp_path_factory.mktemp("edge")) as api:
        yield api


EVIL = (
    "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example", "evil.example.", "[::2]",
    "10.0.0.5", "0.0.0.0", "2130706433", "0x7f000001", "localhost@evil.example", "localhost evil.example", "a" * 400,
    "", "localhost,evil.example", "evil.example#localhost", "localhost%2eevil.example", "local\u0130host",
)  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_without_a_key_a_page_of_another_name_reads_and_changes_nothing(api: Api, name: str) -> None:
    """Its own name may lead to this machine: for the browser it is of one origin with us then."""
    asked: list[tuple[str, str]] = [
        ("POST", "/api/v1/celery/tasks/clear-all-caches"), ("GET", "/api/v1/audit-log"), ("GET", "/"), ("GET", "/docs"),
    ]  # fmt: skip
    for method, path in asked:
        answer = api.ask(path, method=method, Host=name, Origin=f"http://{name}")
        assert answer.startswith(("HTTP/1.1 421 ", "HTTP/1.1 400 ")), answer[:300]


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:1", "127.1.2.3", "[::1]:8000"]
)
def test_this_machine_is_answered_by_its_own_names(api: Api, name: str) -> None:
    assert api.ask("/docs", Host=name).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(("name", "status"), [("backend:8000", 200), ("10.0.0.5", 200), ("evil.example", 421)])
def test_machines_of_a_private_network_may_ask_whether_it_lives(api: Api, name: str, status: int) -> None:
    assert api.ask("/health/live", Host=name).startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize("length", [9_000, 30_000, 60_000, 100_000, 1_000_000])
def test_a_long_address_is_refused_at_once_and_holds_up_nobody(api: Api, length: int) -> None:
    begin = time.monotonic()
    answer = api.ask("/health/live?" + "a" * length)
    assert " 200 " in api.ask()
    assert time.monotonic() - begin < 5
    assert answer == "" or answer.startswith("HTTP/1.1 414 ")


def test_an_address_that_is_not_too_long_is_answered(api: Api) -> None:
    assert api.ask("/health/live?" + "a" * 8_000).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("length", "status"), [("2", 422), ("0" * 20 + "2", 422), ("0" * 5_000 + "2", 422), ("0" * 5_000 + "9" * 8, 413)]
)
def test_a_length_of_any_number_of_digits_is_a_length(api: Api, length: str, status: int) -> None:
    head = f"POST /api/v1/cities HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    with closing(api.connect()) as connection:
        connection.sendall(head.encode() + b"{}")
        answer = rest(connection)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "application/problem+json" in answer


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Api-Key", "Cookie", "traceparent", "Origin"])
def test_a_long_header_holds_up_nobody(api: Api, header: str) -> None:
    begin = time.monotonic()
    for length, status in ((30_000, "200"), (40_000, "431"), (200_000, "431")):
        answer = api.ask(**{header.replace("-", "_"): "a" * length})
        assert answer == "" or answer.startswith(f"HTTP/1.1 {status} "), length
    assert time.monotonic() - begin < 5


def test_more_headers_than_anybody_needs_are_refused(api: Api) -> None:
    assert api.ask(**{f"X-{number}": "" for number in range(200)}).startswith("HTTP/1.1 431 ")


def test_headers_without_end_take_no_memory(api: Api) -> None:
    process = psutil.Process(api.process.pid)
    before = process.memory_info().rss
    with closing(api.connect()) as connection, suppress(OSError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        for _ in range(100):
            connection.sendall(b"a" * 2**20)
    assert process.memory_info().rss - before < 20 * 2**20


@pytest.mark.parametrize(
    "half",
    [b"", b"G", b"GET / HTTP/1.1\r\nHost: loc", b"\r\n\r\n\r\n",
     b"POST /api/v1/cities HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
     b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health/live HTTP/1.1\r\nHos"],
)  # fmt: skip
def test_half_a_request_is_not_waited_for_for_ever(api: Api, half: bytes) -> None:
    with closing(api.connect()) as connection:
        connection.sendall(half)
        begin = time.monotonic()
        rest(connection)
        assert time.monotonic() - begin < SLOW - 1


def test_what_is_no_request_is_a_problem(api: Api) -> None:
    with closing(api.connect()) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith("HTTP/1.1 400 ")
    assert "application/problem+json" in answer


def test_one_address_leaves_connections_for_others(tmp_path: Path) -> None:
    with running(tmp_path, files=256) as api, ExitStack() as held:
        for _ in range(150):
            held.enter_context(closing(api.connect())).sendall(b"GET / HTTP/1.1\r\n")
        assert api.ask(source="127.0.0.1").startswith("HTTP/1.1 503 ")
        assert api.ask(source="127.0.0.2").startswith("HTTP/1.1 200 ")
        held.close()
        until(lambda: api.ask().startswith("HTTP/1.1 200 "), 5)


def test_one_address_leaves_event_streams_for_others(api: Api) -> None:
    with ExitStack() as held:
        answers = []
        for _ in range(9):
            stream = held.enter_context(closing(api.connect()))
            stream.sendall(b"GET /api/v1/console/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(stream.recv(15))
        assert [answer[9:12] for answer in answers] == [b"200"] * 8 + [b"503"]
        other = held.enter_context(closing(api.connect("127.0.0.2")))
        other.sendall(b"GET /api/v1/console/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert other.recv(15)[9:12] == b"200"


def test_who_hangs_up_with_requests_in_line_is_forgotten_at_once(tmp_path: Path) -> None:
    stream = b"GET /api/v1/console/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(tmp_path) as api:
        for _ in range(12):
            with closing(api.connect()) as connection:
                connection.sendall(stream + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
                connection.recv(15)
            until(lambda: api.ask("/health/live").startswith("HTTP/1.1 200 "), 5)

        def is_let_in() -> bool:
            with closing(api.connect()) as connection:
                connection.sendall(stream)
                return connection.recv(15)[9:12] == b"200"

        until(is_let_in, 10, "the places of those who have gone are free")
        assert "Traceback" not in api.log


LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_requests_in_line_are_answered_in_their_order_however_they_are_cut(api: Api) -> None:
    body = b'{"name": "' + b"a" * 3 * protocol.PIECE + b'"}'
    posted = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    last = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with closing(api.connect()) as connection:
        connection.sendall((LIVE * 200 + posted) * 3 + LIVE * 150 + last)
        told = rest(connection)

    assert re.findall(r"HTTP/1.1 (\d+) ", told) == (["200"] * 200 + ["404"]) * 3 + ["200"] * 151


def test_requests_in_line_leave_others_their_turn(tmp_path: Path) -> None:
    """Two hundred addresses send as many as the server takes and read no answer."""
    with running(tmp_path) as api, ExitStack() as stack:
        before = psutil.Process(api.process.pid).memory_info().rss
        for number in range(200):
            connection = stack.enter_context(closing(api.connect(f"127.0.1.{1 + number}")))
            connection.setblocking(False)
            with suppress(BlockingIOError):
                while connection.send(LIVE * 2_000):
                    pass
        answers = [api.ask() for _ in range(3)]

        assert all(" 200 " in answer for answer in answers)
        assert psutil.Process(api.process.pid).memory_info().rss - before < 200 * 2**20


def test_of_a_packet_full_of_requests_a_piece_is_parsed_at_a_time() -> None:
    asyncio.run(_piece_by_piece())


async def _piece_by_piece() -> None:
    goes_on, made = asyncio.Event(), list[protocol.BoundedProtocol]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await goes_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def make() -> protocol.BoundedProtocol:
        made.append(protocol.BoundedProtocol(config, ServerState(), {}))
        return made[-1]

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(LIVE * 3_000)
    await eventually(lambda: made and made[0].pipeline)
    most = len(made[0].pipeline)
    goes_on.set()
    told = b""
    async with asyncio.timeout(20):
        while told.count(b"HTTP/1.1 204 ") < 3_000:
            told += await reader.read(2**16)
            most = max(most, len(made[0].pipeline))
    writer.close()
    server.close()

    assert most <= protocol.PIECE // len(LIVE) + 1


FORWARDED = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "https"}


def test_no_proxy_is_believed_unless_it_is_named(api: Api) -> None:
    api.ask("/health/live?unnamed", **FORWARDED)
    until(lambda: "unnamed" in api.log, 5)
    assert "203.0.113.9" not in api.log


def test_a_named_proxy_is_believed(tmp_path: Path) -> None:
    with running(tmp_path, TRUSTED_PROXIES="127.0.0.1, 198.51.100.0/24") as api:
        said = {
            "a": "203.0.113.9", "b": "6.6.6.6, 203.0.113.9, 198.51.100.7", "c": "'; DROP TABLE x --, 203.0.113.9:80",
            "d": "[2001:db8::9]:80", "e": "x" * 5_000, "f": "", "g": "203.0.113.9, nonsense", "h": ",,,",
        }  # fmt: skip
        for name, value in said.items():
            api.ask(f"/health/live?{name}=", X_Forwarded_For=value)
        api.ask("/health/live?z=", source="127.0.0.2", X_Forwarded_For="203.0.113.9")
        until(lambda: "?z=" in api.log, 5)
        found = {name: address for address, name in re.findall(r" (\S+):\d+ - \"GET /health/live\?(\w)=", api.log)}
    proxy = "127.0.0.1"
    wanted = {"a": "203.0.113.9", "b": "203.0.113.9", "c": "203.0.113.9", "d": "2001:db8::9", "e": proxy, "f": proxy}
    assert found == {**wanted, "g": proxy, "h": proxy, "z": "127.0.0.2"}


@pytest.mark.parametrize("number", [15, 2])
def test_ends_with_exit_code_zero_and_writes_json_only(tmp_path: Path, number: int) -> None:
    with running(tmp_path, LOG_FORMAT="json") as api:
        api.ask("/nowhere")
        with closing(api.connect()) as stream:
            stream.sendall(b"GET /api/v1/console/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stream.recv(15)
            api.process.send_signal(number)
            assert api.process.wait(15) == 0
        lines = api.log.splitlines()
    assert len(lines) > 5
    assert all(json.loads(line)["level"] for line in lines)
    assert "Started server process" in lines[0]
