"""The look: nobody is told what was seen before they asked, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg2
import pytest

from backend.app import db
from backend.app.api.reading import look
from backend.app.api.reading.look import PREPARE, CommonLook, Line, Seen
from tests.background import background
from tests.conftest import configured_as
from tests.plain import Plain
from tests.servers import frozen
from tests.waiting import eventually, turn_of_the_loop

WROTE = "SELECT pg_current_xact_id()::text"  # and so takes a number, and commits
HAS = "SELECT pg_visible_in_snapshot(%s::text::xid8, %s::pg_snapshot)"
LOOKING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'EXECUTE look%'"


@pytest.fixture(autouse=True)
def _configured(configured_database: None) -> None:
    """Looks are at the test's database."""


async def line() -> Line:
    return Line(db.polled("test", 5_000, PREPARE))


def test_who_comes_while_a_look_is_under_way_is_told_what_a_younger_one_saw(plain: Plain) -> None:
    async def scene() -> None:
        open_line = await line()
        earlier = open_line.ask()
        await turn_of_the_loop()
        assert select.select([open_line._connection], [], [], 5)[0], "its answer has come, and nobody has seen it"
        wrote = plain.one(WROTE)
        later = open_line.ask()
        assert not plain.one(HAS, (wrote, (await earlier).snapshot))
        assert plain.one(HAS, (wrote, (await later).snapshot))
        open_line.close()

    asyncio.run(scene())


def test_who_stops_waiting_takes_nothing_from_the_others(plain: Plain) -> None:
    async def scene() -> None:
        open_line = await line()
        first, second = open_line.ask(), open_line.ask()
        await turn_of_the_loop()
        first.cancel()
        async with asyncio.timeout(5):
            assert await second
        assert plain.one(HAS, (plain.one(WROTE), (await open_line.ask()).snapshot))
        open_line.close()

    asyncio.run(scene())


def test_a_session_that_ended_is_followed_by_another(plain: Plain) -> None:
    async def scene() -> None:
        eyes = CommonLook()
        for _ in range(3):
            assert plain.one(HAS, (plain.one(WROTE), (await eyes()).snapshot))
            plain.run(f"SELECT pg_terminate_backend(pid) FROM ({LOOKING}) AS looking")
            await eventually(lambda: not eyes._line.serves(), what="the line has ended")
        eyes.stop()

    asyncio.run(scene())


def test_a_session_that_hangs_holds_up_nobody_and_is_followed_by_another(plain: Plain) -> None:
    async def scene() -> None:
        eyes = CommonLook()
        assert await eyes()
        with frozen(plain.one(LOOKING)):
            async with asyncio.timeout(5):
                assert await eyes() is None, "whoever asks reads instead"
            async with asyncio.timeout(5):
                while await eyes() is None:
                    await turn_of_the_loop()
        eyes.stop()

    asyncio.run(scene())


def test_another_loop_has_a_line_of_its_own(plain: Plain) -> None:
    eyes = CommonLook()

    async def scene() -> None:
        assert plain.one(HAS, (plain.one(WROTE), (await eyes()).snapshot))

    asyncio.run(scene())
    asyncio.run(scene())
    eyes.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_host_of_several_is_passed_by(database: str, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with configured_as(monkeypatch, DATABASE_URL=database.replace("@", f"@{silent},")):

        async def scene() -> Seen | None:
            eyes = CommonLook()
            try:
                async with asyncio.timeout(20):
                    while (seen := await eyes()) is None:
                        await turn_of_the_loop()
            finally:
                eyes.stop()
            return seen

        assert asyncio.run(scene())


def test_its_session_is_asked_for_what_every_session_is_asked_for() -> None:
    shown = "SELECT current_setting('statement_timeout') || current_setting('TimeZone') || current_setting('jit')"
    with closing(db.polled("test", 1_234, f"PREPARE look (text) AS SELECT ({shown}), '1:1:', true, 2")) as connection:

        async def scene() -> str:
            return (await Line(connection).ask()).server

        assert asyncio.run(scene()) == "1234msUTCoff"


@contextmanager
def refusing() -> Iterator[tuple[str, list[Any]]]:
    """A host that ends each connection, and who came to it."""
    came: list[Any] = []

    def refuse(stop: threading.Event) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                client, who = server.accept()
                came.append(who)
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        with background(refuse):
            yield f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/nothing", came


def test_a_database_that_is_away_is_not_asked_for_by_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "PAUSE_SECONDS", 60.0)

    async def scene() -> None:
        eyes = CommonLook()
        assert await eyes() is None
        await eventually(lambda: eyes._opening is not None and eyes._opening.done(), what="the opening has failed")
        first = len(came)
        assert first > 0
        assert [await eyes() for _ in range(20)] == [None] * 20
        assert len(came) == first

    with refusing() as (url, came), configured_as(monkeypatch, DATABASE_URL=url):
        asyncio.run(scene())


def test_a_database_that_has_come_back_is_asked_after_a_pause(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "PAUSE_SECONDS", 0.1)
    eyes = CommonLook()

    async def is_answered() -> bool:
        async with asyncio.timeout(10):
            while await eyes() is None:
                await turn_of_the_loop()
        eyes.stop()
        return True

    with refusing() as (url, _), configured_as(monkeypatch, DATABASE_URL=url):
        assert asyncio.run(eyes()) is None
    with configured_as(monkeypatch, DATABASE_URL=database):
        assert asyncio.run(is_answered())


def test_a_server_that_says_a_little_all_the_time_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "CONNECT_SECONDS", 0.3)

    def drip(stop: threading.Event) -> None:
        with suppress(OSError), server.accept()[0] as client:
            client.sendall(b"E" + (20_000).to_bytes(4, "big"))  # a refusal, of which the rest does not come
            for _ in range(100):
                if stop.wait(0.05):
                    return
                client.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        host, port = server.getsockname()
        wishes = {"host": host, "port": port, "user": "nobody", "sslmode": "disable", "async_": True}
        too_long = pytest.raises(psycopg2.OperationalError, match="timeout expired")
        with background(drip), closing(psycopg2.connect(**wishes)) as connection, too_long:
            db._wait(connection)


def test_a_connection_that_the_driver_gives_up_is_an_error_of_the_driver() -> None:
    class GivenUp:
        def poll(self) -> int:
            return psycopg2.extensions.POLL_ERROR

        def fileno(self) -> int:
            return 0

    lost: Any = GivenUp()
    with pytest.raises(psycopg2.OperationalError, match="cannot go on"):
        db._wait(lost)


def test_a_look_costs_the_same_however_much_was_changed(plain: Plain) -> None:
    """A page or two of the index, also before anybody has counted the table's rows."""
    plain.run("""
        INSERT INTO city_changes (xid, all_ended_below)
        SELECT n::text::xid8, '3' FROM generate_series(3, 100000) AS n""")
    plan = "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE look ('100001:100004:100001,100003')"
    with closing(db.connect("test", 5_000)) as connection, connection.cursor() as cursor:
        cursor.execute(PREPARE)
        cursor.execute(plan)
        cursor.execute(plan)  # what is not in the cache yet is no matter
        found = cursor.fetchone()[0][0]["Plan"]  # type: ignore[index]
    assert "Seq Scan" not in str(found)
    assert found["Shared Hit Blocks"] + found["Shared Read Blocks"] < 20
