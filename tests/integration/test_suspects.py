"""Whatever is under way is never called wrong, and what is wrong always is: random histories of one key."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import diff, under_way
from backend.app.caches.apply import SQL as APPLY
from backend.app.caches.apply import Plan, plan, products_after, request_wide
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import lock, pass_lanes, patch
from backend.app.database.statement import run_named
from backend.app.observing import auditor as auditing
from backend.app.observing.auditor import Auditor
from tests import catalogs
from tests.background import background
from tests.plain import Plain
from tests.waiting import until

KEY: Final = 100
HISTORIES: Final = 20
WRITES: Final = (  # each with an event of the key
    "DELETE FROM products WHERE id = 100",
    "INSERT INTO products (id, company_id, name) VALUES (100, 10, 'again') ON CONFLICT DO NOTHING",
    "INSERT INTO products (id, company_id, name) VALUES (100, 20, 'there') ON CONFLICT DO NOTHING",
    "UPDATE products SET kind = CASE kind WHEN 'product' THEN 'service' ELSE 'product' END WHERE id = 100",
    "UPDATE products SET company_id = 30 - company_id WHERE id = 100",
)
WRITES_OF_COMPANIES: Final = (
    ("UPDATE companies SET city_id = 3 - city_id WHERE id = 10", 10),
    ("UPDATE companies SET is_active = NOT is_active WHERE id = 10", 10),
    ("UPDATE companies SET is_active = NOT is_active WHERE id = 20", 20),
)


@pytest.fixture
def plain(configured_database: None, plain: Plain) -> Plain:
    catalogs.small(plain)
    with db.transaction() as connection:
        patch(connection, Keys([KEY], [10, 20]), Cause("test"))
    return plain


@dataclass(eq=False)
class Event:
    """Of the key itself, or of a company, whose products are looked up by whoever applies it."""

    company: int | None = None


class History:
    """Writes, their events, patches of these one after another and wide ones beside them, while a key is judged."""

    def __init__(self, plain: Plain, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(under_way, "pass_lanes", self._pass)
        self._plain = plain
        self._dice = random.Random(seed)
        self._events: list[Event] = []  # not yet with a patch
        self._patch: tuple[Connection, Any, list[Event]] | None = None  # in its transaction, with its events
        self._wide: tuple[int, int] | None = None  # company and generation of what is about to end
        self.settled = 0  # times

    def judge(self, judged: Judged) -> None:
        """Something happens, and then the key is judged while more does."""
        for _ in range(self._dice.randint(1, 12)):
            self._step()
        assert judged(self._settle) == []

    def end(self) -> None:
        """Nothing is left open."""
        if self._patch:
            self._patch[1].rollback()
            self._patch[0].close()

    def _settle(self, instant: datetime) -> bool:
        """What was committed so far is applied, and more may be written meanwhile."""
        self.settled += 1
        before = list(self._events)
        while any(event in self._events for event in before):
            self._step()
        for _ in range(self._dice.randint(0, 3)):
            self._step()
        return True

    def _pass(self, connection: Connection, what: str) -> None:
        """All patches end that have begun, and others begin."""
        self._end()
        pass_lanes(connection, what)
        for _ in range(self._dice.randint(0, 3)):
            self._step()

    def _step(self) -> None:
        steps = [self._write, self._write_company, self._begin, self._begin, self._end, self._end]
        self._dice.choice([*steps, self._reach, self._finish])()

    def _write(self) -> None:
        self._plain.run(self._dice.choice(WRITES))
        self._events.append(Event())

    def _write_company(self) -> None:
        statement, company = self._dice.choice(WRITES_OF_COMPANIES)
        self._plain.run(statement)
        self._events.append(Event(company))

    def _begin(self) -> None:
        """Some of the events, in any order, as redelivery has it; of a company at once, or as a wide patch."""
        if self._patch is None and self._events:
            taken = [event for event in self._events if self._dice.random() < 0.7]
            companies = sorted({event.company for event in taken if event.company is not None})
            is_wide = self._dice.random() < 0.5
            keys = Keys([KEY] if any(event.company is None for event in taken) else [], companies)
            if not is_wide:
                keys = plan(keys).parts[0]
            connection = db.engine().connect()
            transaction = connection.begin()
            request_wide(connection, Plan([keys], companies if is_wide else ()), Cause("test"))
            patch(connection, keys, Cause("test"))
            self._patch = connection, transaction, taken

    def _end(self) -> None:
        if self._patch is not None:
            connection, transaction, taken = self._patch
            transaction.commit()
            connection.close()
            self._events = [event for event in self._events if event not in taken]
            self._patch = None

    def _reach(self) -> None:
        """A wide patch patches all that it has to, unless another one is at it."""
        if self._patch is None and self._wide is None:
            with db.transaction() as connection:
                found = run_named(APPLY, connection, "next_wide")
                if found:
                    company, generation, *_ = found[0]
                    patch(connection, Keys(products_after(connection, company, None, 10)), Cause("test"))
                    self._wide = company, generation

    def _finish(self) -> None:
        if self._patch is None and self._wide is not None:
            with db.transaction() as connection:
                run_named(APPLY, connection, "finish_wide", company=self._wide[0], generation=self._wide[1])
            self._wide = None


Judged = Callable[[Callable[[datetime], bool]], list[str]]


def judged_by_a_rebuild(settle: Callable[[datetime], bool]) -> list[str]:
    """Keys that it calls wrong."""
    wrong = judged([KEY], settle)
    assert wrong is not None, "the pipeline passes"
    return [str(key) for key in wrong]


def judged_by_the_auditor(settle: Callable[[datetime], bool]) -> list[str]:
    """Keys that it calls wrong, once it has had the time to judge them."""
    auditor = Auditor(settle)
    with db.snapshot() as connection:
        auditor._take("products", 1, diff.among(connection, "products", [KEY]).keys)
    for _ in range(2):
        for suspect in auditor.suspects.values():
            suspect.due = 0.0
        auditor._look_again()
    with db.transaction() as connection:
        return list(connection.exec_driver_sql("SELECT key FROM audit_findings WHERE cache = 'products'").scalars())


def judged(keys: Sequence[int], settle: Callable[[datetime], bool], what: str = "products") -> list[int] | None:
    """As a rebuild does it, where these keys are all that it compares."""
    with under_way.judging(what) as judgement:
        with db.snapshot() as connection:
            differing = diff.among(connection, what, sorted(keys)).keys
            found = under_way.Differing(under_way.instant(connection), differing)
        wrong = under_way.wrong(judgement, found, settle)
        return None if wrong is None else list(wrong)


WHO: Final = pytest.mark.parametrize("who", [judged_by_a_rebuild, judged_by_the_auditor])


@WHO
@pytest.mark.parametrize("seed", range(8))
def test_what_is_under_way_is_never_called_wrong(
    plain: Plain, seed: int, monkeypatch: pytest.MonkeyPatch, who: Judged
) -> None:
    settled = 0
    for number in range(HISTORIES):
        history = History(plain, 1000 * seed + number, monkeypatch)
        try:
            for _ in range(10):
                history.judge(who)
        finally:
            history.end()
        settled += history.settled
        plain.run("DELETE FROM wide_patches")
        with db.transaction() as connection:
            patch(connection, Keys([KEY], [10, 20]), Cause("test"))
    assert settled > HISTORIES


@WHO
def test_what_leaves_its_company_before_the_companys_event_is_applied_is_not_called_wrong(
    plain: Plain, who: Judged
) -> None:
    # Given a product that is not cached, for its company is not active
    plain.run("UPDATE companies SET is_active = false WHERE id = 20")
    plain.run("UPDATE products SET company_id = 20 WHERE id = 100")
    with db.transaction() as connection:
        patch(connection, Keys([KEY], [20]), Cause("test"))

    # When the company comes back, and the product leaves it before that is applied, and its own event is the last
    plain.run("UPDATE companies SET is_active = true WHERE id = 20")

    def of_the_company() -> None:
        plain.run("UPDATE products SET company_id = 10 WHERE id = 100")
        with db.transaction() as connection:
            found = plan(Keys((), [20]))
            for part in found.parts:
                patch(connection, part, Cause("test"))
        assert KEY not in found.parts[0].products

    def of_the_product() -> None:
        with db.transaction() as connection:
            patch(connection, Keys([KEY]), Cause("test"))

    happens = [of_the_company, of_the_product]

    def settle(instant: datetime) -> bool:
        if plain.one("SELECT EXISTS (SELECT FROM judgements)"):
            happens.pop(0)()
        return True

    # Then it was late, and nobody calls it wrong
    assert who(settle) == []
    assert not happens


@WHO
@pytest.mark.parametrize(
    "by_hand",
    [
        "UPDATE product_city_mapping SET city_id = 2 WHERE product_id = 100",
        "DELETE FROM product_city_mapping WHERE product_id = 100",
    ],
)
def test_what_stands_is_called_wrong_whatever_is_written_since(plain: Plain, by_hand: str, who: Judged) -> None:
    plain.run(by_hand)
    writes = iter(WRITES[2:])

    def settle(_: datetime) -> bool:
        plain.run(next(writes, "SELECT"))
        return True

    assert who(settle) == [str(KEY)]


def test_of_many_keys_those_are_wrong_that_would_be_alone(plain: Plain) -> None:
    """In whatever order they are given, and however many of them turn out to be late."""
    plain.run("UPDATE product_city_mapping SET city_id = 3")
    late = iter(([102], [200, 300]))

    def settle(_: datetime) -> bool:
        with db.transaction() as connection:
            patch(connection, Keys(next(late)), Cause("test"))
        return True

    assert judged([200, 102, 100, 101], settle) == [100, 101]


def told(plain: Plain) -> list[tuple[Any, ...]]:
    """What patches have told, and judgements that are not over."""
    return plain.all(
        "SELECT 'look', id FROM looks UNION ALL SELECT 'judgement of ' || noun, 0 FROM judgements ORDER BY 1, 2"
    )


@pytest.mark.parametrize(("what", "looks"), [("products", [100, 102]), ("companies", [20, 30]), ("counts", [1, 7])])
def test_patches_tell_what_they_look_at_while_somebody_judges(plain: Plain, what: str, looks: list[int]) -> None:
    seen: list[list[tuple[Any, ...]]] = []
    keys = Keys([100, 102], [20, 30], [1, 7])
    with db.transaction() as connection:
        patch(connection, keys, Cause("test"))
    assert told(plain) == [], "nobody asks"

    with under_way.judging(what) as judgement:
        assert judgement is not None
        for _ in range(2):
            with db.transaction() as connection:
                patch(connection, keys, Cause("test"))
            seen.append(told(plain))
        asked = [*looks, 5]
        standing = judgement.standing(asked)
        assert standing is not None
        assert list(standing.keys) == [5]

    begun = (f"judgement of {under_way.NOUNS[what]}", 0)
    assert seen == [[begun, *(("look", key) for key in sorted(looks * times))] for times in (1, 2)]
    assert told(plain) == [], "and then no more"


@WHO
@pytest.mark.parametrize("gone", ["TRUNCATE judgements, looks", "UPDATE judgements SET ends_at = now()"])
def test_nobody_can_tell_when_patches_tell_no_more(plain: Plain, gone: str, who: Judged) -> None:
    """As after a crash of the server, or when it took too long."""
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 100")

    def settle(_: datetime) -> bool:
        plain.run(gone)
        return True

    if who is judged_by_a_rebuild:
        assert judged([KEY], settle) is None
    else:
        assert who(settle) == []


def test_nobody_can_tell_when_it_takes_too_long_to_ask(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 100")
    monkeypatch.setattr(under_way, "ASKING_MS", 100)
    monkeypatch.setitem(under_way.SQL, "looked_at", "SELECT '{}'::bigint[] FROM pg_sleep(5) WHERE %(judgement)s <> ''")

    assert judged([KEY], lambda _: True) is None
    assert told(plain) == []


def test_a_patch_that_tells_nothing_is_waited_for_before_keys_are_compared(plain: Plain) -> None:
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 100")
    with db.engine().connect() as begun_before:
        patch(begun_before, Keys([KEY]), Cause("test"))

        def end(_: threading.Event) -> None:
            until(lambda: plain.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 10)
            begun_before.commit()

        with background(end):
            assert judged([KEY], lambda _: True) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for lanes gives up soon."""
    for module in (under_way, auditing):
        monkeypatch.setattr(module, "PASSING_MS", 300)


@pytest.mark.parametrize(
    ("what", "held", "free"),
    [
        ("products", Keys([7]), "companies"),
        ("companies", Keys((), [7]), "counts"),
        ("counts", Keys((), (), [7]), "products"),
    ],
)
def test_nobody_judges_while_a_patch_that_tells_nothing_does_not_end(
    plain: Plain, impatient: None, what: str, held: Keys, free: str
) -> None:
    found = under_way.Differing(datetime.now(), [KEY])
    with db.transaction() as slow:
        lock(slow, held)
        with under_way.judging(what) as judgement:
            assert judgement is None
            assert under_way.wrong(judgement, found, lambda _: True) is None
            assert under_way.wrong(judgement, replace(found, keys=[]), lambda _: True) == [], "nothing differs"
        with under_way.judging(free) as judgement:
            assert judgement is not None, "lanes of others"
    assert told(plain) == []


def test_what_the_auditor_cannot_judge_stays_suspect(plain: Plain, impatient: None) -> None:
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 100")
    auditor = Auditor(lambda _: True)
    auditor._take("products", 1, [KEY])
    for is_held in (True, False):
        auditor.suspects["products", KEY].due = 0.0
        with db.transaction() as slow:
            lock(slow, Keys([7] if is_held else []))
            auditor._look_again()
        assert (("products", KEY) in auditor.suspects) is is_held
    assert plain.column("SELECT key FROM audit_findings WHERE cache = 'products'") == ["100"]


def test_what_comes_right_is_acquitted_although_the_pipeline_never_passes(plain: Plain) -> None:
    auditor = Auditor(lambda _: False)
    plain.run("DELETE FROM product_city_mapping WHERE product_id IN (100, 101)")
    auditor._take("products", 2, [100, 101])
    with db.transaction() as connection:
        patch(connection, Keys([100]), Cause("test"))
    for suspect in auditor.suspects.values():
        suspect.due = 0.0
    auditor._look_again()
    assert list(auditor.suspects) == [("products", 101)]


def test_no_patch_has_to_tell_anything_of_what_comes_right_in_time(plain: Plain) -> None:
    auditor = Auditor(lambda _: True)
    plain.run("UPDATE products SET kind = 'service' WHERE id = 100")
    auditor._take("products", 1, [KEY])
    with db.transaction() as connection:
        patch(connection, Keys([KEY]), Cause("test"))
    auditor.suspects["products", KEY].due = 0.0
    plain.run("ALTER TABLE judgements RENAME TO asked_for_by_nobody")
    try:
        auditor._look_again()
    finally:
        plain.run("ALTER TABLE asked_for_by_nobody RENAME TO judgements")
    assert not auditor.suspects


@pytest.mark.parametrize("reaches", ["before it is asked", "never"])
def test_what_a_wide_patch_waits_for_or_reaches_is_not_called_wrong(plain: Plain, reaches: str) -> None:
    plain.run("UPDATE companies SET is_active = false WHERE id = 10")
    plain.run("INSERT INTO wide_patches (company_id, of_company) VALUES (10, true)")

    def settle(_: datetime) -> bool:
        if reaches != "never":
            with db.transaction() as connection:
                patch(connection, Keys([KEY]), Cause("test"))
            plain.run("DELETE FROM wide_patches")
        return True

    assert judged([KEY], settle) == []
