"""Mistakes that are put into the product, each with the meeting in which it must be caught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection

from backend.app import db
from backend.app.caches import apply, patch, under_way
from backend.app.ledger import ledger
from backend.app.tasks.events import WidePatches
from events import outbox, relay
from events.floor import Floor, Horizon
from events.outbox import Outbox, Row
from events.relay import Deliverer, Relayed
from events.sql_files import statements
from tests.plain import Plain

SQL: Final = statements(Path(__file__).with_suffix(".sql"))
Make = Callable[[pytest.MonkeyPatch, Plain], None]


@dataclass(frozen=True)
class Mistake:
    """One way of being wrong."""

    meeting: str
    make: Make
    says: str  # part of what is found wrong
    meaning: str


def _repeatable_read(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    @contextmanager
    def transaction() -> Iterator[Connection]:
        with db.translated(), db.engine().connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    patches.setattr(db, "transaction", transaction)
    _edit(patches, patch.SQL, "lock_lanes", "current_setting('transaction_isolation')", "'read committed'")


def _read_before_lock(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    patches.setitem(patch.SQL, "lock_lanes", SQL["read_before_lock"])
    _edit(patches, patch.SQL, "patch_products", "FROM product_city_truth", "FROM early_truth")
    _edit(patches, patch.SQL, "patch_products", "FROM product_city_mapping WHERE", "FROM early_mapping WHERE")


def _fan_out_in_the_trigger(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    plain.run(SQL["fan_out_in_the_trigger"])
    patches.setitem(apply.SQL, "products_of", SQL["no_products_of"])


def _delete_before_confirm(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    def run_once(outbox: Outbox, deliverer: Deliverer, rows: int) -> Relayed:
        claimed = outbox.claim(rows)
        outbox.remove([row.id for row in claimed])
        return Relayed(len(claimed), len(deliverer.deliver(claimed)))

    patches.setattr(relay, "run_once", run_once)


def _floor_by_last_seen(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    right = Outbox.claim

    def claim(self: Outbox, rows: int) -> list[Row]:
        claimed = right(self, rows)
        self.floor.id = max([self.floor.id, *(row.id for row in claimed)])
        return claimed

    patches.setattr(Floor, "_raise", lambda floor: None)
    patches.setattr(Outbox, "claim", claim)


def _number_before_id(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    def raise_floor(self: Floor) -> None:
        if self._horizon:
            self._settle(self._horizon)
        else:
            transaction = self._ask("next_transaction")[0][0]
            self._horizon = Horizon(self._ask("last_id")[0][0], transaction)

    patches.setattr(Floor, "_raise", raise_floor)


def _floor_by_xmax(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    _number_before_id(patches, plain)
    patches.setitem(outbox.SQL, "next_transaction", SQL["last_transaction_that_ended"])


def _no_look_after_end(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    patches.setattr(WidePatches, "ended", lambda run, state: None)


def _look_before_end(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    look = WidePatches.ended

    def finish(run: WidePatches, state: str, began: float, result: Any = None, error: str | None = None) -> None:
        look(run, state)
        ledger.finish(run.task_id, state, result, error)

    patches.setattr(WidePatches, "_finish", finish)


def _one_takes_lanes_descending(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    def lock_lanes(connection: Connection, lanes: Sequence[int]) -> int:
        descends = threading.current_thread().name == "second"
        ordered = sorted(lanes, reverse=descends)
        return int(patch._all(connection, "lock_lanes", lock_class=patch.LOCK_CLASS, lanes=ordered)[0][1])

    patches.setattr(patch, "_lock_lanes", lock_lanes)


def _no_lanes_passed(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    patches.setattr(under_way, "pass_lanes", lambda connection, what: None)


def _tells_what_it_changes(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    keys, changed = "unnest(%(products)s::bigint[]) AS key (id)", "(SELECT product_id FROM changed) AS key (id)"
    _edit(patches, patch.SQL, "patch_products", keys, changed)


def _stands_once(patches: pytest.MonkeyPatch, plain: Plain) -> None:
    patches.setattr(under_way, "TIMES", 1)


def _statement(where: dict[str, str], name: str, wrong: str) -> Make:
    return lambda patches, plain: patches.setitem(where, name, SQL[wrong])


def _lanes_without(which: str) -> Make:
    return lambda patches, plain: _edit(
        patches, patch.SQL, "lock_lanes", "AS lane", f"AS lane WHERE NOT ({which}) OR lane IS NULL"
    )


def _edit(patches: pytest.MonkeyPatch, where: Any, name: str, right: str, wrong: str) -> None:
    assert right in where[name], f"{name} has changed: {right!r} is not in it"
    patches.setitem(where, name, where[name].replace(right, wrong))


MISTAKES: Final = {
    "REPEATABLE_READ": Mistake(
        "a change and its undoing", _repeatable_read, "product_city_mapping", "patches at REPEATABLE READ"
    ),
    "READ_BEFORE_LOCK": Mistake(
        "a change and its undoing",
        _read_before_lock,
        "product_city_mapping",
        "what is compared is read before the lanes",
    ),
    "FANOUT_IN_THE_TRIGGER": Mistake(
        "a company moves, a product joins it, its own events are late",
        _fan_out_in_the_trigger,
        "product_city_mapping",
        "capture names a company's products",
    ),
    "DELETE_BEFORE_CONFIRM": Mistake(
        "a writer and a relay that dies", _delete_before_confirm, "not published", "rows are deleted, then published"
    ),
    "RECOUNT_TWICE": Mistake(
        "two recounts", _lanes_without("true"), "counts", "two recounts at once, each adds the difference"
    ),
    "RECOUNT_BESIDE_CLEARING": Mistake(
        "a recount and a clearing", _lanes_without("lane = -1"), "counts", "recounts and clearings share no lane"
    ),
    "ROW_DECIDED_OUTSIDE_OF_ITS_LANE": Mistake(
        "a city goes beside a recount", _lanes_without("lane >= 128"), "city_counts", "cities have no lanes"
    ),
    "FLOOR_BY_LAST_SEEN": Mistake(
        "two writers and a relay", _floor_by_last_seen, "not published", "last id that was seen"
    ),
    "FLOOR_BY_XMAX": Mistake(
        "a writer and a relay", _floor_by_xmax, "not published", "pg_snapshot_xmax, before the sequence is read"
    ),
    "NUMBER_BEFORE_ID": Mistake(
        "a writer and a relay", _number_before_id, "not published", "the number is drawn before the sequence is read"
    ),
    "LANES_DESCENDING": Mistake(
        "three patches with two lanes", _one_takes_lanes_descending, "deadlock", "one patch takes lanes descending"
    ),
    "COUNTS_BY_A_PLAIN_INSERT": Mistake(
        "two patches bring a city its first row",
        _statement(patch.SQL, "move_counts", "counts_by_a_plain_insert"),
        "counts",
        "a CTE decides between UPDATE and a plain INSERT",
    ),
    "REQUEST_KEEPS_THE_PLACE": Mistake(
        "a wide patch is asked for again while it is under way",
        _statement(apply.SQL, "request_wide", "request_keeps_the_place"),
        "product_city_mapping",
        "a new request does not begin anew",
    ),
    "ADVANCE_WITHOUT_GENERATION": Mistake(
        "a wide patch is asked for again while it is under way",
        _statement(apply.SQL, "advance_wide", "advance_without_generation"),
        "product_city_mapping",
        "a chunk moves the place of a later request",
    ),
    "FINISH_WITHOUT_GENERATION": Mistake(
        "a wide patch is asked for again while it is under way",
        _statement(apply.SQL, "finish_wide", "finish_without_generation"),
        "product_city_mapping",
        "the end takes a later request along",
    ),
    "LOOK_BEFORE_END": Mistake(
        "wide patches are asked for while a run for them ends",
        _look_before_end,
        "without a run",
        "a run looks for more before the ledger says that it has ended",
    ),
    "NO_LOOK_AFTER_END": Mistake(
        "wide patches are asked for while a run for them ends",
        _no_look_after_end,
        "without a run",
        "a run looks no more when it has ended",
    ),
    "JUDGED_BESIDE_EARLIER_PATCHES": Mistake(
        "a judgement and a late product",
        _no_lanes_passed,
        "called wrong",
        "keys are judged beside patches that had begun before",
    ),
    "TELLS_ONLY_WHAT_IT_CHANGES": Mistake(
        "a judgement and a product that changes there and back",
        _tells_what_it_changes,
        "called wrong",
        "a patch tells what it changes, not what it looks at",
    ),
    "WRONG_AT_ONCE": Mistake(
        "a judgement and a product that leaves its company",
        _stands_once,
        "called wrong",
        "what has stood once is wrong",
    ),
}
