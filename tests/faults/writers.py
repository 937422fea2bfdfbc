"""Writers whose transactions stay open: with savepoints, prepared or not, ended in any order, many at a time."""

from __future__ import annotations

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg2

from tests.plain import Plain

COMPANY: Final = "INSERT INTO companies (id, name) VALUES (-1, 'open for long') ON CONFLICT DO NOTHING"
PRODUCTS: Final = """
    INSERT INTO products (id, company_id, name) SELECT n, -1, 'ready' FROM generate_series(%s, %s) AS n
    ON CONFLICT DO NOTHING"""
VERBS: Final = {
    "insert": "INSERT INTO products (id, company_id, name) SELECT -n, -1, 'new' FROM generate_series(%s, %s) AS n",
    "update": "UPDATE products SET kind = 'service' WHERE id BETWEEN %s AND %s",
    "delete": "DELETE FROM products WHERE id BETWEEN %s AND %s",
}
ENDS: Final = {"commit": 12, "roll back": 3, "commit prepared": 4, "roll back prepared": 1}  # with their weights
BULK: Final = 200  # rows of a large statement


@dataclass
class Outcome:
    """What became of all that was written, by the subjects of the events."""

    committed: dict[str, float] = field(default_factory=dict)  # when, monotonic
    undone: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, subjects: list[str], is_committed: bool) -> None:
        """These are committed by now, or never."""
        now = time.monotonic()
        with self.lock:
            if is_committed:
                self.committed.update(dict.fromkeys(subjects, now))
            else:
                self.undone.update(subjects)


class Writers:
    """Transactions on a database, drawn by a seed."""

    def __init__(
        self, database: str, seed: int, longest: float, stop: threading.Event | None = None, above: int = 0
    ) -> None:
        """Each is open for up to `longest` seconds; `stop` ends all of them early; their products' ids are `above`."""
        self.outcome = Outcome()
        self._database, self._seed, self._longest = database, seed, longest
        self._stop = stop or threading.Event()
        self._above, self._taken, self._lock = above, above, threading.Lock()
        self._dice, self._numbers = random.Random(seed), itertools.count(1)

    def prepare(self, rows: int) -> None:
        """Make the rows that they change; nobody hears of that."""
        self.make(rows)
        with Plain(self._database) as plain:
            plain.run("DELETE FROM event_outbox")

    def make(self, rows: int) -> None:
        """Make the rows that they change."""
        with Plain(self._database) as plain:
            plain.run(COMPANY)
            plain.run(PRODUCTS, (self._above + 1, self._above + rows))

    def run_crowd(self, transactions: int, at_once: int) -> None:
        """Play so many, as one ends the next one begins; returns when all have ended."""
        self._run([self._dice.uniform(0, self._longest) for _ in range(transactions)], at_once)

    def run_waves(self, waves: int) -> None:
        """A few transactions and nobody else, all of them open for long; then the next few."""
        for _ in range(waves):
            size = self._dice.choice([1, 1, 1, 2, 5])
            self._run([self._dice.uniform(0.7, 1.0) * self._longest for _ in range(size)], size)

    def _run(self, open_seconds: list[float], at_once: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(self._play, seconds, next(self._numbers)) for seconds in open_seconds]:
                done.result()

    def run_short(self, stop: threading.Event) -> None:
        """Beside them: a statement that commits at once, again and again."""
        with Plain(self._database) as plain:
            while not stop.wait(0.01):
                self.outcome.note(self._write(plain, random.Random(0), 1, "update"), True)

    def _play(self, seconds: float, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")
        *pauses, last_pause = _parts(dice, seconds)
        with Plain(self._database, autocommit=False, name=f"open {number}") as plain:
            written = self._step(plain, dice)
            for pause in pauses:
                self._stop.wait(pause)
                written += self._step(plain, dice)
            self._end(plain, dice.choices(list(ENDS), list(ENDS.values()))[0], f"open {number}", written, last_pause)

    def _step(self, plain: Plain, dice: random.Random) -> list[str]:
        """A write, perhaps below savepoints of which some are rolled back; the subjects that count."""
        depth = dice.choice([0, 0, 1, 1, 2, 3])
        for level in range(depth):
            plain.run(f"SAVEPOINT level_{level}")
        subjects = self._write(plain, dice, BULK if dice.random() < 0.1 else dice.randint(1, 3))
        for level in reversed(range(depth)):
            if dice.random() < 0.3:
                plain.run(f"ROLLBACK TO SAVEPOINT level_{level}")
                self.outcome.note(subjects, False)
                subjects = []
            else:
                plain.run(f"RELEASE SAVEPOINT level_{level}")
        return subjects

    def _write(self, plain: Plain, dice: random.Random, rows: int, verb: str | None = None) -> list[str]:
        verb = verb or dice.choice(list(VERBS))
        first = self._take(rows)
        plain.run(VERBS[verb], (first, first + rows - 1))
        sign = "-" if verb == "insert" else ""
        return [f"product/{sign}{row_id}" for row_id in range(first, first + rows)]

    def _take(self, rows: int) -> int:
        """The first of so many ids that nobody else writes."""
        with self._lock:
            self._taken += rows
            return self._taken - rows + 1

    def _end(self, plain: Plain, end: str, name: str, written: list[str], pause: float) -> None:
        if "prepared" in end:
            plain.run("PREPARE TRANSACTION %s", (name,))
            plain.commit()
            self._stop.wait(pause)
            plain.connection.autocommit = True
            plain.run(("COMMIT" if end == "commit prepared" else "ROLLBACK") + " PREPARED %s", (name,))
        else:
            self._stop.wait(pause)
            (plain.commit if end == "commit" else plain.rollback)()
        self.outcome.note(written, end.startswith("commit"))


def _parts(dice: random.Random, whole: float) -> list[float]:
    """A time in one to five parts."""
    cuts = sorted(dice.uniform(0, whole) for _ in range(dice.choice([0, 0, 1, 2, 4])))
    return [after - before for before, after in itertools.pairwise([0.0, *cuts, whole])]


def end_prepared(database: str, dice: random.Random) -> None:
    """Whatever a crash has left prepared is committed or rolled back."""
    with Plain(database) as plain:
        for name in plain.column("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            with suppress(psycopg2.errors.UndefinedObject):  # its writer lives and has ended it
                plain.run(dice.choice(["COMMIT", "ROLLBACK"]) + " PREPARED %s", (name,))
