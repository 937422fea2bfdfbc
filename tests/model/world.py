"""The rows that all orders of a scenario begin with, the steps that its sessions are made of, and what must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from tenacity import retry, retry_if_exception, stop_after_attempt

from backend.app import db
from backend.app.caches import apply, diff, rebuilds, under_way
from backend.app.caches.keys import Cause, Keys
from backend.app.caches.patch import CACHE_TYPES
from backend.app.tasks.events import apply_wide_patches, begin_wide_patches
from backend.app.tasks.settle import OUTBOX
from events import relay
from events.outbox import Outbox, Row
from tests import oracle
from tests.model.sessions import LedCursor, step
from tests.plain import Plain

CAUSE: Final = Cause("test")
TABLES: Final = (
    *("products", "companies", "cities", "event_outbox", "wide_patches", "removed_keys"),
    *("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache"),
    "task_runs",
    *("judgements", "looks"),
)
CATALOG: Final = """
    INSERT INTO cities (id, name) VALUES (1, 'a'), (2, 'b');
    INSERT INTO companies (id, name, city_id) VALUES (10, 'x', 1), (20, 'y', 2);
    INSERT INTO products (id, company_id, name) VALUES (100, 10, 'p'), (200, 20, 'q')"""

DELIVERED: Final = "DELETE FROM event_outbox WHERE xmin = pg_current_xact_id()::xid"  # what this transaction captured
ARRIVED: Final = "DELETE FROM event_outbox WHERE subject = %s"


def _any_difference(pairs: Iterable[tuple[str, str]]) -> str:
    """The oracle's comparisons as one question, since it is asked thousands of times."""
    sides = (f"(({held}) EXCEPT ALL ({wanted})) UNION ALL (({wanted}) EXCEPT ALL ({held}))" for held, wanted in pairs)
    return "SELECT " + " OR ".join(f"EXISTS ({side})" for side in sides)


DIFFER: Final = _any_difference(oracle.CACHES.values())
DISAGREE: Final = _any_difference(oracle.AGREEMENTS.values())
again_after_rollback = retry(retry=retry_if_exception(db.is_rollback), stop=stop_after_attempt(9), reraise=True)


class World:
    """One database; `plain` looks at it from outside."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain
        plain.run(CATALOG)
        rebuild()
        plain.run("DELETE FROM event_outbox; DELETE FROM patches")
        self.keep()

    def keep(self) -> None:
        """The rows as they are now are those that `reset` brings back."""
        for table in TABLES:
            self.plain.run(f"DROP TABLE IF EXISTS kept_{table}; CREATE TABLE kept_{table} AS TABLE {table}")
        back = "".join(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept_{table};" for table in reversed(TABLES))
        away = "".join(f"DELETE FROM {table};" for table in TABLES)
        self._reset = f"SET session_replication_role = replica; {away} {back} SET session_replication_role = origin"

    def reset(self) -> None:
        """All rows as they were kept; no event comes of it."""
        self.plain.run(self._reset)

    def agreement(self) -> list[str]:
        """Where the caches contradict each other now."""
        return oracle.snapshot_violations(self.plain) if self.plain.one(DISAGREE) else []

    def violations(self) -> list[str]:
        """Where they differ from the catalog or contradict each other."""
        return [*(oracle.violations(self.plain) if self.plain.one(DIFFER) else []), *self.agreement()]

    def quiet(self) -> list[str]:
        """Let all that waits arrive, one after the other; what is wrong then."""
        while self.plain.one("SELECT EXISTS (SELECT FROM event_outbox) OR EXISTS (SELECT FROM wide_patches)"):
            relay_all()
            drain()
        return self.violations()


class Applying:
    """Delivers as where all runs in one process: what is claimed is applied before it is deleted."""

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Apply; all of them are done then."""
        for noun, field in (("product", "products"), ("company", "companies"), ("city", "cities")):
            if ids := sorted({int(row.subject.partition("/")[2]) for row in rows if row.subject.startswith(noun)}):
                applied(**{field: ids})
        return [row.id for row in rows]

    def heartbeat(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Nothing to close."""


def write(sql: str, commits: bool = True) -> None:
    """A writer's transaction of one statement."""
    with db.engine().connect() as connection:
        connection.exec_driver_sql(sql)
        if commits:
            connection.commit()
        else:
            connection.rollback()


def followed(sql: str, **keys: Sequence[int]) -> None:
    """A writer's transaction, and then the only patch that its event leads to."""
    with db.engine().begin() as connection:
        connection.exec_driver_sql(sql)
        connection.exec_driver_sql(DELIVERED)
    applied(**keys)


def arrived(subject: str, **keys: Sequence[int]) -> None:
    """The patch that its events lead to; they are under way until it has ended."""
    applied(**keys)
    with db.engine().begin() as connection:
        connection.exec_driver_sql(ARRIVED, (subject,))


def judge(*keys: int) -> list[int]:
    """Products that are called wrong, as a rebuild does it, where these are all that it compares."""
    with under_way.judging("products") as judgement:
        with db.snapshot() as connection:
            differing = diff.among(connection, "products", keys).keys
            found = under_way.Differing(under_way.instant(connection), differing)
        return list(under_way.wrong(judgement, found, _has_passed) or ())


def _has_passed(instant: datetime) -> bool:
    """Nothing of before that instant is under way; all others stand still meanwhile, so to wait would be in vain."""
    with db.transaction() as connection:
        return not connection.exec_driver_sql(OUTBOX, {"instant": instant}).scalar_one()


def applied_once(**keys: Sequence[int]) -> None:
    """A batch of events of these keys."""
    apply.apply(Keys(**keys), CAUSE)


@again_after_rollback
def applied(**keys: Sequence[int]) -> None:
    """The same; rolled back for another's sake it is tried again, as the worker does."""
    applied_once(**keys)


def ask_for_wide(company: int) -> None:
    """As a batch does: the request in its transaction, then a run, unless one is there."""
    write(f"INSERT INTO wide_patches (company_id, of_company) VALUES ({company}, true)")
    begin_wide_patches("event")


def wide_run(task_id: str) -> None:
    """The whole run, from the ledger to the ledger and its last look."""
    apply_wide_patches.apply(task_id=task_id)


def patched(work: Callable[[Any], Any]) -> None:
    """One transaction of a function that writes the caches."""
    with db.transaction() as connection:
        work(connection)


def drain() -> None:
    """Work off wide patches."""
    apply.drain_wide("test", "", apply.WideHooks(everything=rebuild, apart=_never))


def rebuild() -> None:
    """Reconcile everything."""
    for cache_type in CACHE_TYPES:
        rebuilds.rebuild(cache_type, CAUSE)


def led_outbox() -> Outbox:
    """The outbox on a connection of its own, each statement of it a step."""
    connection = db.direct("relay")
    connection.cursor_factory = LedCursor
    return Outbox(connection)


def relay_all() -> None:
    """A relay that begins anew and goes on until nothing is left."""
    outbox = led_outbox()
    try:
        while relay.run_once(outbox, Applying(), 100).claimed:
            continue
    finally:
        outbox.close()


class Publishing:
    """Delivers to a broker that keeps what it gets; a step of its own."""

    def __init__(self) -> None:
        self.published: list[str] = []

    def deliver(self, rows: Sequence[Row]) -> list[int]:
        """Publish and wait for the confirms."""
        step("publish")
        self.published += [row.subject for row in rows]
        return [row.id for row in rows]

    def heartbeat(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Nothing to close."""


def _never(products: Sequence[int]) -> None:
    raise AssertionError(f"the chunk {products} failed")
