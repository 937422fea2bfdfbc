"""Sessions whose orders are all tried: what may meet in this system, in pairs and in threes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from backend.app.caches import rebuilds
from backend.app.caches.patch import clear, recount
from events import relay
from tests.model.interleavings import Scenario
from tests.model.naming import name_of
from tests.model.sessions import Session
from tests.model.world import (
    CAUSE,
    DELIVERED,
    Publishing,
    World,
    applied,
    applied_once,
    arrived,
    ask_for_wide,
    drain,
    followed,
    judge,
    led_outbox,
    patched,
    rebuild,
    relay_all,
    wide_run,
    write,
)

ALWAYS: Final = frozenset({"record", "instant", "lock_totals", name_of(DELIVERED)})  # nothing for others changes
WIDE_READS: Final = frozenset({"next_wide", "next_products", "next_wide_watch"})
COUNTS: Final = frozenset(
    {"move_counts", "drop_counts", "move_active", "move_totals"}
)  # go with the mappings' statement
FLOOR: Final = frozenset({"last_id", "next_transaction", "settled"})
JUDGING: Final = frozenset({"what_waits", "products_waiting", "end_judgement"})  # one snapshot; nobody asks afterwards
PATCHING: Final = COUNTS | {"products_of", "patch_companies"}
MOVE_COMPANY: Final = "UPDATE companies SET city_id = 2 WHERE id = 10"
MOVE_PRODUCT: Final = "UPDATE products SET company_id = 10 WHERE id = 200"


@dataclass(frozen=True)
class Part:
    """What one session does, one after the other."""

    name: str
    work: Sequence[Callable[[], Any]]
    may_die: bool = False
    passes: frozenset[str] = frozenset()

    def session(self, passes: frozenset[str]) -> Session:
        """A new run of it."""
        return Session(self.name, self._run, ALWAYS | passes | self.passes, self.may_die)

    def _run(self) -> None:
        for work in self.work:
            work()


@dataclass(frozen=True)
class Meeting:
    """Parts that meet; what stood before is changed by `before` (SQL), whose events are applied by some part."""

    parts: Sequence[Part]
    long_before: str = ""  # SQL that the caches have followed
    before: str = ""
    passes: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    is_short: bool = True  # belongs to the tests
    relays: bool = False  # the question is what is published, not what is cached
    relay_dies: bool = False
    rebuilds: bool = False  # right only after a rebuild, like after a clearing
    runs: bool = False  # nothing works off wide patches but runs that were queued
    judges: Sequence[int] = ()  # products beside the parts; what nobody has made wrong by hand is never called wrong

    def prepare(self, world: World) -> None:
        """Make the rows that it begins with."""
        if self.long_before:
            world.plain.run(self.long_before)
            rebuild()
        if self.before or self.long_before:
            world.plain.run(f"{self.before}; DELETE FROM event_outbox")
            world.keep()

    def scenario(self, world: World) -> Scenario:
        """All orders of it, on this database."""
        if self.relays:
            return _relayed(self, world)
        if self.runs:
            return _with_runs(self, world)
        if self.judges:
            return _judged(self, world)
        quiet = _rebuilt(world) if self.rebuilds else world.quiet
        agreement = (lambda: list[str]()) if world.agreement() else world.agreement  # some begin with a wrong row
        return Scenario(lambda: [part.session(self.passes) for part in self.parts], world.reset, agreement, quiet)


def _rebuilt(world: World) -> Callable[[], list[str]]:
    def quiet() -> list[str]:
        wrong = world.agreement()
        rebuild()
        return wrong or world.quiet()

    return quiet


def _with_runs(meeting: Meeting, world: World) -> Scenario:
    """A run beside the parts; afterwards those that they have queued. Nothing may wait then."""

    def sessions() -> Sequence[Session]:
        QUEUED.clear()
        return [part.session(meeting.passes) for part in meeting.parts]

    def quiet() -> list[str]:
        while QUEUED:
            wide_run(QUEUED.pop())
        waiting = world.plain.one("SELECT count(*) FROM wide_requests")
        return [f"wide patches that wait without a run: {waiting}"] if waiting else world.violations()

    return Scenario(sessions, world.reset, world.agreement, quiet)


def _judged(meeting: Meeting, world: World) -> Scenario:
    """A judgement beside the parts, of products that are right or late, and of one that is wrong."""
    called_wrong: list[int] = []
    wrong_by_hand = set(world.plain.column(WRONG))

    def judging() -> None:
        called_wrong[:] = judge(*meeting.judges)

    def sessions() -> Sequence[Session]:
        called_wrong.clear()
        return [Part("judge", [judging]).session(JUDGING), *(part.session(meeting.passes) for part in meeting.parts)]

    def quiet() -> list[str]:
        rebuild()
        return [f"called wrong: {key}" for key in called_wrong if key not in wrong_by_hand] or world.quiet()

    return Scenario(sessions, world.reset, list, quiet)


def _relayed(meeting: Meeting, world: World) -> Scenario:
    """A relay beside the parts; afterwards another one publishes what is left. All that was committed must be out."""
    published = Publishing()

    def relaying() -> None:
        outbox = led_outbox()
        try:
            for _ in range(ROUNDS):
                relay.run_once(outbox, published, 100)
            outboxes.append(outbox)
        except BaseException:
            outbox.close()
            raise

    outboxes: list[Any] = []

    def sessions() -> Sequence[Session]:
        published.published.clear()
        relays = Part("relay", [relaying], may_die=meeting.relay_dies, passes=meeting.passes)
        writers = [part.session(meeting.passes) for part in meeting.parts]
        return [*writers, relays.session(meeting.passes)]

    def quiet() -> list[str]:
        committed = {f"product/{row}" for row in world.plain.column("SELECT id FROM products WHERE kind = 'service'")}
        outbox = outboxes.pop() if outboxes else led_outbox()  # with the floor that it has proven
        try:
            for _ in range(ROUNDS):
                relay.run_once(outbox, published, 100)
        finally:
            outbox.close()
        lost = committed - set(published.published)
        return [f"committed and not published: {sorted(lost)}"] if lost else []

    return Scenario(sessions, world.reset, list, quiet)


QUEUED: Final[list[str]] = []  # runs for wide patches whose message the broker has
WRONG: Final = """
    SELECT product_id FROM (SELECT product_id, city_id, company_id, kind FROM product_city_mapping
                            EXCEPT SELECT product_id, city_id, company_id, kind FROM product_city_truth) AS wrong"""
RUN: Final = "00000000-0000-0000-0000-000000000001"
ROUNDS: Final = 2  # of the relay: one to draw a horizon, one to prove a floor
COMPANY: Final = Part("company", [lambda: followed(MOVE_COMPANY, companies=[10])])  # a write, and what its event does
PRODUCT: Final = Part("product", [lambda: followed(MOVE_PRODUCT, products=[200])])
RECOUNT: Final = Part("recount", [lambda: patched(recount)])
SERVICE: Final = "UPDATE products SET kind = 'service' WHERE id = {}"

MEETINGS: Final[Mapping[str, Meeting]] = {
    "a change and its undoing": Meeting(
        (
            Part("first", [lambda: applied(products=[100])]),
            Part(
                "second",
                [lambda: followed("UPDATE products SET kind = 'product' WHERE id = 100", products=[100])],
            ),
        ),
        before="UPDATE products SET kind = 'service' WHERE id = 100",
    ),
    "a company moves, a product joins it": Meeting((COMPANY, PRODUCT), passes=COUNTS, is_short=False),
    "a company moves, a product joins it, its own events are late": Meeting(
        (
            Part("company", [lambda: write(MOVE_COMPANY)]),
            Part("product", [lambda: write(MOVE_PRODUCT), relay_all]),
        ),
        passes=COUNTS | FLOOR,
    ),
    "a change that is rolled back": Meeting(
        (Part("company", [lambda: write(MOVE_COMPANY, commits=False), lambda: applied(companies=[10])]), PRODUCT),
        passes=COUNTS,
        is_short=False,
    ),
    "two patches bring a city its first row": Meeting(
        (Part("first", [lambda: applied(products=[100])]), Part("second", [lambda: applied(products=[200])])),
        before="""INSERT INTO cities (id, name) VALUES (3, 'c'); UPDATE companies SET city_id = 3;
                  DELETE FROM company_city_mapping; DELETE FROM product_city_mapping; DELETE FROM city_counts;
                  UPDATE active_cities_cache SET active_city_ids = '{}', total_cities = 0, total_products = 0,
                         total_companies = 0""",
        rebuilds=True,
        passes=frozenset({"move_active", "move_totals"}),
    ),
    "two recounts": Meeting(
        (RECOUNT, replace(RECOUNT, name="recount-2")),
        before="UPDATE city_counts SET products_count = products_count + 5 WHERE city_id = 1",
        rebuilds=True,
    ),
    "a recount and a patch": Meeting(
        (RECOUNT, Part("patch", [lambda: applied(products=[100])])),
        before="""UPDATE city_counts SET products_count = products_count + 5 WHERE city_id = 1;
                  UPDATE products SET kind = 'service' WHERE id = 100""",
        rebuilds=True,
        is_short=False,
    ),
    "a recount and a clearing": Meeting(
        (RECOUNT, Part("clearing", [lambda: patched(clear)])),
        before="UPDATE city_counts SET companies_count = companies_count + 5 WHERE city_id = 1",
        rebuilds=True,
    ),
    "a clearing and a patch": Meeting(
        (Part("clearing", [lambda: patched(clear)]), Part("patch", [lambda: applied(products=[100], companies=[10])])),
        before="UPDATE companies SET city_id = 2 WHERE id = 10",
        rebuilds=True,
        is_short=False,
    ),
    "a city goes beside a recount": Meeting(
        (
            Part("city", [lambda: followed("DELETE FROM cities WHERE id = 3", cities=[3])]),
            RECOUNT,
        ),
        before="INSERT INTO cities (id, name) VALUES (3, 'c')",
    ),
    "a city's last product leaves while the city comes back": Meeting(
        (
            Part("city", [lambda: followed("INSERT INTO cities (id, name) VALUES (3, 'c')", cities=[3])]),
            Part("company", [lambda: applied(companies=[20])]),
        ),
        long_before="INSERT INTO cities (id, name) VALUES (3, 'c'); UPDATE companies SET city_id = 3 WHERE id = 20",
        before="DELETE FROM cities WHERE id = 3",
        passes=frozenset({"products_of", "move_active", "move_totals"}),
        is_short=False,
    ),
    "a wide patch is asked for again while it is under way": Meeting(
        (
            Part("drain", [drain], passes=WIDE_READS | {"commit"}, may_die=True),
            COMPANY,
        ),
        before="""INSERT INTO products (id, company_id, name) VALUES (101, 10, 'r');
                  INSERT INTO wide_patches (company_id, of_company) VALUES (10, true);
                  INSERT INTO product_city_mapping (product_id, city_id, company_id, kind)
                         VALUES (101, 1, 10, 'product');
                  UPDATE city_counts SET products_count = products_count + 1 WHERE city_id = 1;
                  UPDATE active_cities_cache SET total_products = total_products + 1""",
        passes=COUNTS | {"lock_lanes", "products_of", "patch_companies"},
        settings={"WIDE_PATCH_KEYS": "1"},
        is_short=False,
    ),
    "wide patches are asked for while a run for them ends": Meeting(
        (
            Part("run", [lambda: wide_run(RUN)], passes=frozenset({"begin"}) | WIDE_READS),
            Part("batch", [lambda: ask_for_wide(10)]),
        ),
        before=f"""INSERT INTO task_runs (task_id, task, trigger, state)
                   VALUES ('{RUN}', 'apply_wide_patches', 'event', 'PENDING')""",
        passes=COUNTS | {"lock_lanes", "products_of", "patch_companies", "patch_products", "advance_wide"},
        runs=True,
        is_short=False,
    ),
    "three patches with two lanes": Meeting(
        (
            Part("holder", [lambda: applied_once(products=[200])]),
            Part("first", [lambda: applied_once(products=[100, 200])]),
            Part("second", [lambda: applied_once(products=[100, 200])]),
        ),
        passes=COUNTS | {"patch_products"},
        before="UPDATE products SET kind = 'service'",
    ),
    "a rebuild and a product's change": Meeting(
        (Part("rebuild", [lambda: rebuilds.rebuild("products", CAUSE, finish=False)]), PRODUCT),
        before=MOVE_COMPANY,
        passes=COUNTS | JUDGING | {"estimate", "begin_judgement", "pass_lanes", "looked_at"},  # all is settled at once
        rebuilds=True,
        is_short=False,
    ),
    "a writer and a relay": Meeting(
        (Part("writer", [lambda: write(SERVICE.format(100))]),), passes=frozenset({"publish", "delete"}), relays=True
    ),
    "two writers and a relay": Meeting(
        (Part("one", [lambda: write(SERVICE.format(100))]), Part("two", [lambda: write(SERVICE.format(200))])),
        passes=FLOOR | {"publish", "delete"},
        relays=True,
        is_short=False,
    ),
    "a writer and a relay that dies": Meeting(
        (Part("writer", [lambda: write(SERVICE.format(100))]),), passes=FLOOR, relays=True, relay_dies=True
    ),
    "two writers and a patch": Meeting(
        (
            Part("company", [lambda: write(MOVE_COMPANY)]),
            PRODUCT,
            Part("patch", [lambda: applied(companies=[10])], passes=frozenset({"patch_companies", "patch_products"})),
        ),
        passes=COUNTS | {"lock_lanes"},
        is_short=False,
    ),
    "a judgement and a late product": Meeting(
        (Part("product", [lambda: write(SERVICE.format(100)), lambda: arrived("product/100", products=[100])]),),
        passes=PATCHING,
        judges=(100, 200),
        before="UPDATE product_city_mapping SET city_id = 1 WHERE product_id = 200",
        is_short=False,
    ),
    "a judgement and a product that changes there and back": Meeting(
        (
            Part(
                "product",
                [
                    lambda: write(SERVICE.format(100)),
                    lambda: write("UPDATE products SET kind = 'product' WHERE id = 100"),
                    lambda: arrived("product/100", products=[100]),
                ],
            ),
        ),
        passes=PATCHING,
        judges=(100,),
        is_short=False,
    ),
    "a judgement and a product that leaves its company": Meeting(
        (
            Part(
                "product",
                [
                    lambda: write("UPDATE companies SET is_active = true WHERE id = 10"),
                    lambda: write("UPDATE products SET company_id = 20 WHERE id = 100"),
                    lambda: arrived("company/10", companies=[10]),
                    lambda: arrived("product/100", products=[100]),
                ],
            ),
        ),
        long_before="UPDATE companies SET is_active = false WHERE id = 10",
        passes=PATCHING | {"lock_lanes"},
        judges=(100,),
        is_short=False,
    ),
}
