"""Reads over HTTP that many share: each shows all that was committed before it was asked, and never less."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.app.api.reading import answers
from backend.app.api.reading.look import CommonLook, Seen
from backend.app.api.reading.sessions import Sessions
from backend.embedded.postgres import Postgres
from tests import catalogs
from tests.background import background
from tests.integration.api import V1, Client, Words, asked_of_tables, client, patch_all
from tests.plain import Plain
from tests.servers import frozen, migrate
from tests.system import System
from tests.waiting import until

ACTIVE = "/caches/active-cities/products"
READS = ("/cities?sort=-products_count&limit=5", "/cities/1", "/cities/1/products", "/cities/1/companies", ACTIVE,
         "/cities/tree")  # fmt: skip
SECONDS = 4.0
SET = "UPDATE city_counts SET products_count = %(value)s, updated_at = clock_timestamp() WHERE city_id = 1"


@pytest.fixture
def cached(configured_database: None, plain: Plain) -> Plain:
    """A few cities with what is in them."""
    catalogs.many(plain, 5, 10, 60)
    patch_all(plain)
    return plain


@contextmanager
def processes(database: str, broker: str, place: Path, number: int) -> Iterator[list[Words]]:
    """So many processes of the API on one database."""
    with ExitStack() as stack:
        clients = []
        for one in range(number):
            system = stack.enter_context(System(database, broker, place / str(one), OBSERVER="false"))
            system.start(["api"])
            clients.append(stack.enter_context(Words(base_url=system.api_url, timeout=20)))
        yield clients


class Readers:
    """Each reads again and again what writers move upwards only."""

    def __init__(self) -> None:
        self.committed = 0  # at least
        self.reads = 0
        self.wrong: list[str] = []

    def follow(self, api: Words, end: float, dice: random.Random) -> None:
        before = 0
        while time.monotonic() < end:
            least = self.committed
            path = dice.choice(("/cities/1", "/cities?sort=-products_count&limit=1"))
            found = api.read(path)
            value = found["items"][0]["products_count"] if "items" in found else found["products_count"]
            if value < max(least, before):
                self.wrong.append(f"{path} said {value}, after {least} was committed and {before} was read")
            before = value
            self.reads += 1


def test_every_answer_shows_what_was_committed_before_it_was_asked(
    cached: Plain, database: str, broker: str, tmp_path: Path
) -> None:
    """Beside transactions that end in another order than they began, in two processes."""
    readers, number = Readers(), iter(range(1_000, 10**9))

    def write(stop: threading.Event) -> None:
        with Plain(database) as sql:
            while not stop.wait(random.choice((0, 0, 0.002, 0.05))):
                value = next(number)
                sql.run(SET, {"value": value})
                readers.committed = value

    def stay_open(stop: threading.Event) -> None:
        with Plain(database, autocommit=False) as sql:
            while not stop.is_set():
                sql.run("UPDATE products SET name = name WHERE id = 1")
                stop.wait(random.uniform(0, 0.05))
                sql.commit()

    with processes(database, broker, tmp_path, 2) as clients, background(write), background(stay_open):
        end = time.monotonic() + SECONDS
        with ThreadPoolExecutor(8) as pool:
            for one in [pool.submit(readers.follow, clients[n % 2], end, random.Random(n)) for n in range(8)]:
                one.result()

    assert readers.wrong == []
    assert readers.reads > 200
    assert readers.committed > 1_050


def test_what_a_transaction_wrote_is_seen_though_a_younger_one_ended_first(
    api: Client, cached: Plain, database: str
) -> None:
    with Plain(database, autocommit=False) as older:
        older.run(SET, {"value": 77})
        cached.run("UPDATE products SET name = 'younger' WHERE id = 1")
        assert api.read("/cities/1")["products_count"] != 77
        older.commit()
    assert api.read("/cities/1")["products_count"] == 77


def test_a_commit_that_is_in_the_log_and_waits_to_be_seen_is_seen_afterwards(
    configured_own: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby is waited for, so that nothing is written between the read before it and the read after it."""
    monkeypatch.setenv("OBSERVER", "false")
    with Plain(configured_own.url) as sql, client() as api:
        catalogs.many(sql, 2, 2, 6)
        patch_all(sql)
        sql.run("ALTER SYSTEM SET autovacuum = off")
        sql.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        sql.run("SELECT pg_reload_conf()")
        until(lambda: sql.one("SHOW synchronous_standby_names") == "nobody")

        def write(stop: threading.Event) -> None:
            with Plain(configured_own.url) as own:
                own.run(SET, {"value": 77})

        with background(write):
            until(lambda: sql.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 1)
            assert api.read("/cities/1")["products_count"] != 77
            sql.run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        assert api.read("/cities/1")["products_count"] == 77


@pytest.mark.parametrize("path", READS)
def test_an_answer_that_is_remembered_is_the_same_in_everything(api: Client, cached: Plain, path: str) -> None:
    first, *others = (api.get(V1 + path) for _ in range(3))
    for other in others:
        assert (other.status_code, other.content, other.headers) == (200, first.content, first.headers)
    unchanged = [api.get(V1 + path, headers={"If-None-Match": first.headers["etag"]}) for _ in range(2)]
    assert [(one.status_code, one.content) for one in unchanged] == [(304, b"")] * 2
    head = api.head(V1 + path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", first.headers["etag"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of reads that were put to the database."""
    return asked_of_tables(monkeypatch)


def test_for_an_answer_whose_time_is_over_nobody_asks_whether_it_holds(
    api: Client, cached: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    put = CommonLook.__call__

    async def counted(look: CommonLook) -> Seen | None:
        looks.append(look)
        return await put(look)

    monkeypatch.setattr(CommonLook, "__call__", counted)
    with monkeypatch.context() as changed:
        changed.setattr(answers, "MOST_SECONDS", 0.0)
        for _ in range(5):
            api.read("/cities/1")
    assert len(looks) == 5, "one before each statement, and none for what was kept"
    looks.clear()
    for _ in range(5):
        api.read("/cities/2")
    assert len(looks) == 5, "one before the statement, and one for each time that it is given again"


CITIES_ALONE = tuple(path for path in READS if path not in ("/cities/1/products", "/cities/1/companies"))


CHANGES = (
    "UPDATE cities SET name = 'renamed' WHERE id = 1",
    "INSERT INTO cities (id, name) VALUES (99, 'new')",
    "DELETE FROM city_counts WHERE city_id = 1",
    "TRUNCATE city_counts",
    "UPDATE city_counts SET companies_count = 77 WHERE city_id = 1",
    "UPDATE active_cities_cache SET total_products = 77",
    "TRUNCATE active_cities_cache",
    "SET session_replication_role = replica; UPDATE cities SET latitude = 7; RESET session_replication_role",
    "BEGIN; SAVEPOINT a; UPDATE cities SET name = 'a'; ROLLBACK TO a; UPDATE cities SET name = 'b'; COMMIT",
    "COPY cities (id, name) FROM PROGRAM 'echo 98,copied' (FORMAT csv)",
    "INSERT INTO city_counts (city_id) VALUES (1) ON CONFLICT (city_id) DO UPDATE SET products_count = 78",
)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_cities_or_counts_is_shown_at_once(api: Client, cached: Plain, change: str) -> None:
    """As a process shows it that has kept nothing, whoever has written it in whatever way."""
    before = {path: api.told(path) for path in CITIES_ALONE}
    assert {path: api.told(path) for path in CITIES_ALONE} == before
    cached.run(change)
    after = {path: api.told(path) for path in CITIES_ALONE}
    with client() as other:
        assert after == {path: other.told(path) for path in CITIES_ALONE}
    assert after != before


@pytest.mark.calm
class TestCalm:
    @pytest.mark.parametrize("path", READS)
    def test_what_is_remembered_asks_no_table(self, api: Client, cached: Plain, path: str, asked: list[str]) -> None:
        cached.run("VACUUM")  # so that nothing of it begins now
        api.get(V1 + path)
        asked.clear()
        for _ in range(20):
            assert api.get(V1 + path).status_code == 200
        assert len(asked) <= 2, "every two seconds, and when anything was written at all"

    @pytest.mark.parametrize("path", CITIES_ALONE)
    def test_beside_writes_that_move_no_count_no_table_is_asked(
        self, api: Client, cached: Plain, path: str, asked: list[str]
    ) -> None:
        api.get(V1 + path)
        asked.clear()
        for _ in range(40):
            cached.run("UPDATE products SET name = name || 'x' WHERE id = 1")
            assert api.get(V1 + path).status_code == 200
        assert len(asked) <= 2, "every two seconds"

    def test_soon_after_the_last_write_no_table_is_asked_any_more(
        self, api: Client, cached: Plain, asked: list[str]
    ) -> None:
        cached.run("VACUUM")
        for value in range(100, 120):
            cached.run(SET, {"value": value})
            assert api.read("/cities/1")["products_count"] == value
        for _ in range(40):
            api.read("/cities/1")
        asked.clear()
        for _ in range(20):
            assert api.read("/cities/1")["products_count"] == 119
        assert len(asked) <= 2


def test_a_city_that_went_away_is_not_remembered(api: Client, cached: Plain) -> None:
    assert [api.get(f"{V1}/cities/3/products").status_code for _ in range(2)] == [200, 200]
    cached.run("UPDATE companies SET city_id = NULL WHERE city_id = 3; DELETE FROM cities WHERE id = 3")
    for path in ("/cities/3", "/cities/3/products", "/cities/3/companies"):
        assert api.get(V1 + path).status_code == 404
    cached.run("INSERT INTO cities (id, name) VALUES (3, 'again')")
    patch_all(cached)
    assert api.read("/cities/3")["name"] == "again"
    assert api.read("/cities/3/products")["items"] == []


def test_sessions_that_were_ended_are_made_anew(api: Client, cached: Plain) -> None:
    for _ in range(3):
        assert {api.get(V1 + path).status_code for path in READS} == {200}
        cached.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'citycache api'")


def test_a_slow_statement_holds_up_no_other(database: str, broker: str, cached: Plain, tmp_path: Path) -> None:
    """Not even of the same caller, who asks for it many times over."""
    with processes(database, broker, tmp_path, 1) as (api,), Plain(database, autocommit=False) as lock:
        assert api.get(V1 + "/cities/1").status_code == 200
        lock.run("LOCK TABLE active_cities_cache IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(20) as pool:
            held = [pool.submit(api.get, V1 + ACTIVE, params={"n": n % 2}) for n in range(20)]
            until(lambda: lock.one("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 5)
            assert api.get(V1 + "/cities/1").status_code == 200
            assert api.get(V1 + "/cities/2/products").status_code == 200
            assert not any(one.done() for one in held)
            lock.rollback()
            assert {one.result().status_code for one in held} <= {200, 503}
        assert api.get(V1 + ACTIVE).status_code == 200


def test_answers_that_nobody_asks_for_again_are_forgotten(api: Client, cached: Plain) -> None:
    app: Any = api.app
    app.state.answers = answers.Answers(most=10)
    for number in range(30):
        api.read("/cities", limit=number + 1)
    assert len(app.state.answers._memory) == 10
    app.state.answers.stop()


def test_a_read_that_waits_for_a_write_is_not_answered_from_memory(api: Client, cached: Plain) -> None:
    for query in ("?fresh=city/1", "?fresh=product/1&wait=0", "?f%72esh=city/1"):
        answered = [api.get(f"{V1}/cities/1{query}").headers["citycache-fresh"] for _ in range(2)]
        assert answered == ["yes", "yes"]
    api.read("/cities/1")
    assert api.get(f"{V1}/cities/1", headers={"Citycache-Fresh": "city/1"}).headers["citycache-fresh"] == "yes"


def test_a_fault_of_the_short_way_is_logged_and_the_long_one_answers(
    api: Client, cached: Plain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api.read("/cities/1")
    app: Any = api.app
    right, faults = app.state.answers.kept, [RuntimeError("a fault")]

    async def faulty_once(*asked: Any) -> Any:
        if faults:
            raise faults.pop()
        return await right(*asked)

    monkeypatch.setattr(app.state.answers, "kept", faulty_once)
    assert api.get(f"{V1}/cities/1").status_code == 200
    assert ("goes the long one" in caplog.text, "a fault" in caplog.text, faults) == (True, True, [])


def test_names_change_at_once_though_no_cache_did(api: Client, cached: Plain) -> None:
    for number in range(10):
        cached.run("UPDATE cities SET name = %s WHERE id = 1", (f"name {number}",))
        assert json.loads(api.get(f"{V1}/cities/1").content)["name"] == f"name {number}"


def test_columns_that_have_other_types_now_are_read_all_the_same(configured_database: None, plain: Plain) -> None:
    """A statement that is planned once remembers the types of its columns."""
    plain.run("CREATE TABLE shown (value int); INSERT INTO shown VALUES (7)")

    async def scene() -> list[Any]:
        sessions, found = Sessions(1), []
        for kind in ("int", "text", "numeric"):
            plain.run(f"ALTER TABLE shown ALTER value TYPE {kind} USING value::{kind}")
            read = {"statement": "SELECT value, 5 %% 3 AS rest FROM shown WHERE %(a)s::int < %(b)s", "a": 1, "b": 2}
            found += await sessions.run(lambda session: session.rows(read["statement"], read))  # noqa: B023
        sessions.stop()
        return found

    assert asyncio.run(scene()) == [{"value": value, "rest": 2} for value in (7, "7", 7)]


def test_a_server_that_answers_nothing_does_not_keep_the_process_alive(
    own_postgres: Postgres, broker: str, tmp_path: Path
) -> None:
    migrate(own_postgres.url)
    with System(own_postgres.url, broker, tmp_path, OBSERVER="false") as system:
        system.start(["api"])
        with Words(base_url=system.api_url, timeout=20) as api:
            assert api.get(V1 + "/cities").status_code == 200
            with frozen(own_postgres.pid):
                assert api.get(V1 + "/cities").status_code == 503
                os.kill(system.pid("api"), signal.SIGTERM)
                until(lambda: not system.runs("api"), 8, "it ends")
