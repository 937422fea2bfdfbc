"""Random histories: writes by every means, their events delivered in any order, and rebuilds at any moment.

A history is a list of steps; a `World` plays it on a real database. The transport is played too: outbox rows become
the bytes of real messages, which come back shuffled, doubled and cut into batches as a broker under stress does it.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import psycopg2
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from backend.app import db
from backend.app.caches import apply, rebuilds
from backend.app.caches.keys import Cause
from backend.app.catalog.models import City, Company, Product
from backend.app.worker import consumer
from backend.app.worker.batch import Batch, apply_apart, apply_batch
from events import contract
from events.contract import Hint
from events.outbox import SQL as OUTBOX_SQL
from events.packing import messages
from tests import oracle
from tests.outbox import waiting
from tests.plain import Plain

CITIES, COMPANIES, PRODUCTS = 4, 4, 8  # the highest ids: few, so that ids come back and companies grow wide
CAUSE: Final = Cause("test")
RESET: Final = """
    SET session_replication_role = replica;
    DELETE FROM products; DELETE FROM companies; DELETE FROM cities; DELETE FROM event_outbox;
    DELETE FROM product_city_mapping; DELETE FROM company_city_mapping; DELETE FROM city_counts;
    DELETE FROM wide_patch_of_everything; DELETE FROM wide_patches;
    DELETE FROM removed_keys; DELETE FROM patches; DELETE FROM task_runs;
    DELETE FROM dead_letters; DELETE FROM active_cities_cache;
    INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'empty');
    INSERT INTO companies (id, name, city_id) VALUES (1, 'large', 1), (2, 'small', 2), (3, 'online', NULL);
    INSERT INTO products (id, company_id, name, kind) VALUES (1, 1, 'p', 'product'), (2, 1, 'p', 'product'),
        (3, 1, 'p', 'service'), (4, 1, 'p', 'product'), (5, 2, 'p', 'service'), (6, 3, 'p', 'product');
    INSERT INTO company_city_mapping (company_id, city_id) VALUES (1, 1), (2, 2);
    INSERT INTO product_city_mapping (product_id, city_id, company_id, kind) VALUES (1, 1, 1, 'product'),
        (2, 1, 1, 'product'), (3, 1, 1, 'service'), (4, 1, 1, 'product'), (5, 2, 2, 'service');
    INSERT INTO city_counts VALUES (1, 3, 1, 1), (2, 0, 1, 1), (3, 0, 0, 0);
    INSERT INTO active_cities_cache VALUES ('companies', '{1,2}', 2, 2, 5), ('products', '{1,2}', 2, 2, 5);
    SET session_replication_role = DEFAULT"""

# Writes. %(a)s, %(b)s, %(c)s and %(d)s are a product, a company, a city and any number.
PLAIN_WRITES: Final = {
    "insert city": "INSERT INTO cities (id, name) VALUES (%(c)s, 'c') ON CONFLICT DO NOTHING",
    "insert company": """INSERT INTO companies (id, name, city_id)
        VALUES (%(b)s, 'c', (SELECT id FROM cities WHERE id = %(c)s)) ON CONFLICT DO NOTHING""",
    "insert product": """INSERT INTO products (id, company_id, name, kind)
        SELECT %(a)s, id, 'p', CASE %(d)s %% 2 WHEN 0 THEN 'product' ELSE 'service' END FROM companies WHERE id = %(b)s
        ON CONFLICT DO NOTHING""",
    "upsert company": """INSERT INTO companies (id, name, city_id, is_active)
        VALUES (%(b)s, 'c', (SELECT id FROM cities WHERE id = %(c)s), %(d)s %% 3 <> 0)
        ON CONFLICT (id) DO UPDATE SET city_id = excluded.city_id, is_active = excluded.is_active""",
    "upsert product": """INSERT INTO products (id, company_id, name, kind, is_active)
        SELECT %(a)s, id, 'p', CASE %(d)s %% 2 WHEN 0 THEN 'product' ELSE 'service' END, %(d)s %% 3 <> 0
          FROM companies WHERE id = %(b)s
        ON CONFLICT (id) DO UPDATE
           SET company_id = excluded.company_id, kind = excluded.kind, is_active = excluded.is_active""",
    "merge products": """MERGE INTO products USING (SELECT id, %(a)s AS p FROM companies WHERE id = %(b)s) AS c
           ON products.id = c.p
         WHEN MATCHED AND products.company_id = c.id THEN DELETE
         WHEN MATCHED THEN UPDATE SET company_id = c.id
         WHEN NOT MATCHED THEN INSERT (id, company_id, name) VALUES (c.p, c.id, 'merged')""",
    "many products": """INSERT INTO products (id, company_id, name)
        SELECT n, companies.id, 'p' FROM companies, generate_series(1, %(a)s) AS n WHERE companies.id = %(b)s
        ON CONFLICT DO NOTHING""",
    "move product": """UPDATE products SET company_id = (SELECT id FROM companies WHERE id = %(b)s)
        WHERE id = %(a)s AND EXISTS (SELECT FROM companies WHERE id = %(b)s)""",
    "move company": "UPDATE companies SET city_id = (SELECT id FROM cities WHERE id = %(c)s) WHERE id = %(b)s",
    "company goes online": "UPDATE companies SET city_id = NULL WHERE id = %(b)s",
    "switch product": "UPDATE products SET is_active = NOT is_active WHERE id = %(a)s",
    "switch company": "UPDATE companies SET is_active = NOT is_active WHERE id = %(b)s",
    "switch all": "UPDATE products SET is_active = (id %% 2 = %(d)s %% 2)",
    "goods become services": """UPDATE products
        SET kind = CASE kind WHEN 'product' THEN 'service' ELSE 'product' END WHERE company_id = %(b)s""",
    "rename": "UPDATE products SET name = 'n' || %(d)s; UPDATE cities SET name = 'n' || %(d)s WHERE id = %(c)s",
    "change nothing": "UPDATE products SET name = name; UPDATE companies SET city_id = city_id",
    "delete product": "DELETE FROM products WHERE id = %(a)s",
    "delete products of company": "DELETE FROM products WHERE company_id = %(b)s",
    "delete company": "DELETE FROM companies WHERE id = %(b)s",
    "delete city": "DELETE FROM cities WHERE id = %(c)s",
    "change product key": """UPDATE products SET id = %(d)s + 1
        WHERE id = %(a)s AND NOT EXISTS (SELECT FROM products WHERE id = %(d)s + 1)""",
    "delete and make again": """DELETE FROM companies WHERE id = %(b)s;
        INSERT INTO companies (id, name, city_id) VALUES (%(b)s, 'again', (SELECT id FROM cities WHERE id = %(c)s));
        INSERT INTO products (id, company_id, name) VALUES (%(a)s, %(b)s, 'again') ON CONFLICT DO NOTHING""",
}
RARE_WRITES: Final = {  # they lock out every reader, so they are committed at once
    "truncate products": "TRUNCATE products",
    "truncate companies": "TRUNCATE companies CASCADE",
    "truncate cities": "TRUNCATE cities CASCADE",
}
TAMPERINGS: Final = (
    "DELETE FROM product_city_mapping WHERE product_id %% 2 = %(d)s %% 2",
    "DELETE FROM company_city_mapping WHERE company_id = %(b)s",
    "INSERT INTO product_city_mapping VALUES (%(d)s + 50, %(c)s, %(b)s, 'service') ON CONFLICT DO NOTHING",
    "INSERT INTO company_city_mapping VALUES (%(d)s + 50, %(c)s + 2) ON CONFLICT DO NOTHING",
    "UPDATE product_city_mapping SET city_id = %(c)s, kind = 'product'",
    "UPDATE company_city_mapping SET city_id = %(c)s",
    "UPDATE city_counts SET products_count = %(d)s, companies_count = 0 WHERE city_id = %(c)s",
    "UPDATE city_counts SET services_count = -%(d)s",
    "DELETE FROM city_counts WHERE city_id = %(c)s",
    "INSERT INTO city_counts (city_id, services_count) VALUES (%(d)s + 50, 3) ON CONFLICT DO NOTHING",
    "UPDATE active_cities_cache SET active_city_ids = '{7,3}', total_cities = 9",
    "UPDATE active_cities_cache SET total_products = %(d)s WHERE cache_type = 'companies'",
    "DELETE FROM active_cities_cache WHERE cache_type = 'products'",
    "DELETE FROM active_cities_cache",
)


@dataclass(frozen=True)
class Write:
    """One statement by one of two writers; the writer's transaction may stay open."""

    how: str
    a: int  # a product
    b: int  # a company
    c: int  # a city
    d: int  # anything
    writer: int = 0
    stays_open: bool = False


@dataclass(frozen=True)
class End:
    """A writer ends its transaction, if one is open."""

    writer: int
    commits: bool


@dataclass(frozen=True)
class Deliver:
    """What the outbox holds is taken; a part of all that is under way is delivered, and some of it again."""

    seed: int
    share: int  # percent of what is under way
    batches: int
    again: int  # events of earlier that come a second time


@dataclass(frozen=True)
class Rebuild:
    """One of the scheduled tasks."""

    what: str  # products, companies, counts, all


@dataclass(frozen=True)
class Drain:
    """Wide patches are worked off."""


@dataclass(frozen=True)
class Clear:
    """The caches are emptied."""


@dataclass(frozen=True)
class Tamper:
    """Somebody writes a cache by hand."""

    which: int
    b: int
    c: int
    d: int


Step = Write | End | Deliver | Rebuild | Drain | Clear | Tamper

_product, _company, _city = st.integers(1, PRODUCTS), st.integers(1, COMPANIES), st.integers(1, CITIES)
_any, _writer = st.integers(0, 12), st.integers(0, 1)
_numbers = {"a": _product, "b": _company, "c": _city, "d": _any, "writer": _writer}
_writes = st.builds(
    Write,
    how=st.sampled_from([*PLAIN_WRITES, "copy products", "orm"]),
    stays_open=st.sampled_from([False, False, False, False, True]),
    **_numbers,
)
_deliveries = st.builds(
    Deliver,
    seed=st.integers(0, 2**16),
    share=st.sampled_from([30, 60, 100]),
    batches=st.integers(1, 4),
    again=st.integers(0, 6),
)
_truncations = st.builds(Write, how=st.sampled_from([*RARE_WRITES]), **_numbers)
_damage = st.one_of(
    st.builds(Clear),
    st.builds(Tamper, which=st.integers(0, len(TAMPERINGS) - 1), b=_company, c=_city, d=_any),
)
_ends = st.builds(End, writer=_writer, commits=st.sampled_from([True, True, False]))
_rebuilds = st.builds(Rebuild, what=st.sampled_from(["products", "companies", "counts", "all"]))
_ordinary = ((9, _writes), (4, _deliveries), (2, _ends), (1, st.builds(Drain)), (1, _rebuilds))


def _of(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Step]]:
    """Histories of steps with these weights; `one_of` would take each kind alike."""
    chances = [steps for weight, steps in weighted for _ in range(weight)]
    step = st.sampled_from(range(len(chances))).flatmap(chances.__getitem__)
    return st.lists(step, min_size=8, max_size=32)


_orderly = _of(*_ordinary)
_with_truncations = _of(*_ordinary, (1, _truncations))
_with_damage = _of(*_ordinary, (1, _damage), (1, _rebuilds))  # a rebuild hides what patches did wrong: not in all
histories = st.sampled_from([_orderly, _orderly, _with_truncations, _with_damage]).flatmap(lambda kind: kind)


class World:
    """A catalog with caches, two writers and a transport, on one database."""

    def __init__(self, url: str, engine: Engine) -> None:
        self._engine = engine
        self._plain = Plain(url, name="world")
        self._writers = [Plain(url, name=f"writer {number}") for number in range(2)]
        for writer in self._writers:
            writer.run("SET lock_timeout = '15ms'")  # of two writers that meet, one fails, as in life

    def reset(self) -> None:
        """The small catalog of RESET and right caches, without events."""
        for writer in self._writers:
            self._end(writer, commits=False)
        self._plain.run(RESET)
        self._under_way: list[Hint] = []
        self._log: list[Hint] = []
        self.is_whole = True  # False from a clearing or tampering until everything has been rebuilt

    def close(self) -> None:
        """Close all connections."""
        for plain in (self._plain, *self._writers):
            plain.close()

    def play(self, history: list[Step], seed: int) -> None:
        """Play the steps; then all that was committed is delivered, and the caches must be right."""
        for step in history:
            self._step(step)
            if self.is_whole and not isinstance(step, Write | End):
                assert oracle.snapshot_violations(self._plain) == [], step
        for number in range(2):
            self._step(End(number, commits=True))
        dice = random.Random(seed)
        rebuild_first = dice.random() < 0.5
        if not self.is_whole and rebuild_first:
            self._step(Rebuild("all"))
        self._step(Deliver(seed, share=100, batches=dice.randint(1, 4), again=dice.randint(0, 20)))
        self._step(Drain())
        if not self.is_whole:
            self._step(Rebuild("all"))
        assert self._plain.one("SELECT count(*) FROM event_outbox") == 0
        assert self._plain.column("SELECT reason FROM dead_letters") == []

    def violations(self) -> list[str]:
        """What the oracle says."""
        return oracle.violations(self._plain) + oracle.snapshot_violations(self._plain)

    def replay(self, seed: int) -> None:
        """All events that ever were, once more and in any order."""
        log = list(self._log)
        random.Random(seed).shuffle(log)
        self._apply(log)
        self._drain()

    def rebuild(self, what: str) -> Any:
        """One rebuild; its result."""
        if what == "counts":
            return rebuilds.rebuild_counts()
        if what == "all":
            return [self.rebuild(part) for part in ("products", "companies", "counts")]
        return rebuilds.rebuild("products" if what == "products" else "companies", CAUSE)

    def _step(self, step: Step) -> None:
        match step:
            case Write():
                self._write(step)
            case End():
                self._end(self._writers[step.writer], step.commits)
            case Deliver():
                self._deliver(step)
            case Rebuild():
                self.rebuild(step.what)
                self.is_whole = self.is_whole or step.what == "all"
            case Drain():
                self._drain()
            case Clear():
                rebuilds.empty()
                self.is_whole = False
            case Tamper():
                self._plain.run(TAMPERINGS[step.which], vars(step))
                self.is_whole = False

    def _write(self, step: Write) -> None:
        writer = self._writers[step.writer]
        try:
            if step.how in RARE_WRITES:
                self._end(writer, commits=True)
                writer.run(RARE_WRITES[step.how])
            elif step.how == "orm":
                self._by_orm(step)
            else:
                if step.stays_open and writer.connection.autocommit:
                    writer.connection.autocommit = False
                self._run(writer, step)
        except (psycopg2.OperationalError, psycopg2.IntegrityError):  # the other writer holds what this one wants
            self._end(writer, commits=False)

    def _run(self, writer: Plain, step: Write) -> None:
        if step.how == "copy products":
            known = set(writer.column("SELECT id FROM products"))
            if writer.column("SELECT id FROM companies WHERE id = %s", (step.b,)):
                fresh = [number for number in (step.a, step.d) if number not in known]
                writer.copy("products (id, company_id, name)", [f"{n}\t{step.b}\tcopied" for n in dict.fromkeys(fresh)])
        else:
            writer.run(PLAIN_WRITES[step.how], vars(step))

    def _by_orm(self, step: Write) -> None:
        with suppress(DBAPIError), Session(self._engine) as session:  # it may meet a writer whose transaction is open
            session.connection().exec_driver_sql("SET LOCAL lock_timeout = '15ms'")
            _by_session(session, step)
            session.commit()

    def _end(self, writer: Plain, commits: bool) -> None:
        if not writer.connection.autocommit:
            (writer.commit if commits else writer.rollback)()
            writer.connection.autocommit = True

    def _deliver(self, step: Deliver) -> None:
        dice = random.Random(step.seed)
        self._under_way += self._taken()
        dice.shuffle(self._under_way)
        cut = -(-len(self._under_way) * step.share // 100)
        now, self._under_way = self._under_way[:cut], self._under_way[cut:]
        self._log += now
        now += dice.choices(self._log, k=step.again) if self._log else []
        dice.shuffle(now)
        size = max(1, -(-len(now) // step.batches))
        for start in range(0, len(now), size):
            self._apply(now[start : start + size])

    def _taken(self) -> list[Hint]:
        """The outbox as the relay takes it, through the bytes of its messages to the consumer's hints."""
        rows = waiting(self._plain)
        self._plain.run(OUTBOX_SQL["delete"], {"ids": [row.id for row in rows]})
        hints: list[Hint] = []
        for message in messages(rows):
            read, letters = consumer.read(Arrived(message.body))
            assert not letters
            hints += read
        return hints

    def _apply(self, hints: list[Hint]) -> None:
        if hints:
            apply_batch(Batch(hints), str(uuid4()))

    def _drain(self) -> None:
        task_id = str(uuid4())
        hooks = apply.WideHooks(
            everything=lambda: self.rebuild("all"),
            apart=lambda products: apply_apart([Hint("product", n, "", "", None) for n in products], task_id),
        )
        apply.drain_wide("test", task_id, hooks)


@dataclass(frozen=True)
class Arrived:
    """A message as the consumer sees it."""

    body: bytes
    content_type: str = contract.BATCH
    headers: Any = None


def _by_session(session: Session, step: Write) -> None:
    """The unit of work of an application: make what is missing, move what is there."""
    city = session.get(City, step.c) or City(id=step.c, name="orm")
    session.add(city)
    session.flush()
    company = session.get(Company, step.b) or Company(id=step.b, name="orm")
    company.city_id = city.id
    session.add(company)
    session.flush()
    product = session.get(Product, step.a)
    if product is None:
        session.add(Product(id=step.a, company_id=company.id, name="orm", kind="service"))
    elif step.d % 2:
        session.delete(product)
    else:
        product.company_id, product.kind = company.id, "product"


def world(url: str) -> World:
    """A world on a migrated database that this process's settings name."""
    return World(url, db.engine())
