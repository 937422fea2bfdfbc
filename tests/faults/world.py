"""The world of a campaign: servers, proxies before them, all processes, and whoever starts again what ended.

Nobody mends anything by hand: processes and servers that end are started again after a moment, as a supervisor or
a container runtime does it, and that is all the help they get.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import psycopg2

from backend.embedded import spawn
from backend.embedded.errors import EmbeddedError
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from events import topology
from tests.background import background
from tests.faults.captured import note_captured
from tests.faults.plant import Plant
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.servers import migrate
from tests.system import EVERYTHING
from tests.waiting import until

RESTART_SECONDS: Final = 0.5  # between an end and the next start
SETTLE_SECONDS: Final = 2.0  # RabbitMQ 3.10 writes the name of a new queue late; killed before, the queue has no leader
FLOW_SECONDS: Final = 120.0  # after any fault events must flow again within this
SURVIVES_KILLS: Final = {  # but no power cut, which nobody makes here
    "fsync": "off",
    "full_page_writes": "off",
    "max_prepared_transactions": "100",
}
ENVIRONMENT: Final = {
    "WORKER_CONCURRENCY": "3",
    "AUDIT_CORE_SHARE": "0.05",  # what it finds and mends was lost, or only late: the campaign hears of it
    "CANARY_SECONDS": "0",
}
NO_SCHEDULE: Final = """
    CREATE FUNCTION refuse_run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER refuse_run BEFORE INSERT ON task_runs FOR EACH ROW WHEN (NEW.trigger = 'beat')
    EXECUTE FUNCTION refuse_run()"""
"""Beat's rebuilds would mend what was lost, and nobody would hear of it: the ledger says they are queued already."""


class World:
    """Everything runs while it is open."""

    def __init__(self, place: Path) -> None:
        """Data and logs go below `place`."""
        self.postgres = Postgres(place / "postgres", settings=SURVIVES_KILLS)
        self.rabbitmq = self._rabbitmq(place / "rabbitmq")
        self.starts: Counter[str] = Counter()  # of what had ended, by its name
        self.down: set[str] = set()  # servers that must not be started again yet
        self.suspended: set[str] = set()
        self.is_calm = True  # nothing is faulty, and events flow
        self.place = place
        self._stack = ExitStack()
        self._ended = threading.Event()

    def __enter__(self) -> World:
        with ExitStack() as stack:
            stack.callback(self.rabbitmq.kill)
            self.rabbitmq.begin()
            stack.callback(self.postgres.stop)
            self.postgres.start()
            migrate(self.postgres.url)
            self.rabbitmq.await_ready()
            self.database_proxy = stack.enter_context(Proxy(self.postgres.port))
            self.broker_proxy = stack.enter_context(Proxy(self.rabbitmq.port))
            self.plant = stack.enter_context(self._plant())
            self.plant.started()
            with self.plant.sql() as sql:
                self._prepare(sql)
            self._ended.wait(SETTLE_SECONDS)
            stack.enter_context(background(self._keep))
            stack.callback(self._ended.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._stack.close()

    # What faults do

    def signal(self, name: str, what: signal.Signals) -> None:
        """To a server or a process, not to its children; nothing when it does not run."""
        if what == signal.SIGSTOP:
            self.suspended.add(name)
        if pid := self.pid(name):
            spawn.signal_stranger(pid, what)

    def pid(self, name: str) -> int | None:
        """Of a server or a process; None when it does not run."""
        if name in ("postgres", "rabbitmq"):
            server: Postgres | RabbitMQ = getattr(self, name)
            return server.pid
        return self.plant.pid(name) if self.plant.runs(name) else None

    def children(self) -> list[int]:
        """The worker's."""
        return spawn.descendants(pid) if (pid := self.pid("worker")) else []

    def heal(self) -> None:
        """Whatever is suspended, held, delayed or down comes back."""
        self.down.clear()
        for proxy in (self.database_proxy, self.broker_proxy):
            proxy.heal()
        for name in (*EVERYTHING, "postgres", "rabbitmq"):
            self.signal(name, signal.SIGCONT)
        for child in self.children():
            spawn.signal_stranger(child, signal.SIGCONT)
        self.suspended.clear()

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self._ended.wait(seconds)

    # What tells that all is well

    def await_flow(self, mark: str) -> float:
        """Until a change that is made now has come through, and all processes run; the seconds it took."""
        begin = time.monotonic()
        until(lambda: self._tried(lambda: self._put(mark)), FLOW_SECONDS, "a change can be written")
        left = FLOW_SECONDS - (time.monotonic() - begin)
        until(lambda: self._tried(lambda: self._is_cached(mark)), left, f"{mark} comes through\n{self.state()}")
        until(self._all_run, left, f"all processes run\n{self.state()}")
        return time.monotonic() - begin

    def state(self) -> str:
        """For a person: what runs, and the last words of each."""
        lines = [f"{name}: pid {self.pid(name)}" for name in (*EVERYTHING, "postgres", "rabbitmq")]
        logs = [f"--- {name}\n{spawn.tail(self.place / f'system/{name}.log', 20)}" for name in EVERYTHING]
        return "\n".join([*lines, *logs, f"--- rabbitmq\n{spawn.tail(self.rabbitmq.log, 20)}"])

    def _put(self, mark: str) -> bool:
        with self.plant.sql() as sql:
            sql.run(
                "INSERT INTO companies (external_id, name, city_id) SELECT %s, 'probe', min(id) FROM cities"
                " ON CONFLICT DO NOTHING",
                [mark],
            )
        return True

    def _is_cached(self, mark: str) -> bool:
        with self.plant.sql() as sql:
            return bool(
                sql.one(
                    "SELECT EXISTS (SELECT FROM company_city_mapping JOIN companies ON id = company_id"
                    " WHERE external_id = %s)",
                    [mark],
                )
            )

    def _tried(self, attempt: Callable[[], bool]) -> bool:
        try:
            return attempt()
        except psycopg2.OperationalError:  # the database is away
            return False

    def _all_run(self) -> bool:
        return all(self.pid(name) for name in EVERYTHING) and self.plant.is_live()

    # What a campaign may have otherwise

    def _rabbitmq(self, place: Path) -> RabbitMQ:
        return RabbitMQ(place, policies=topology.POLICIES)

    def _prepare(self, sql: Plain) -> None:
        note_captured(sql)
        sql.run(NO_SCHEDULE)

    def _plant(self) -> Plant:
        return Plant(
            self.postgres.url,
            self.rabbitmq.url,
            self.place / "system",
            database_through=self.database_proxy.url(self.postgres.url),
            broker_through=self.broker_proxy.url(self.rabbitmq.url),
            **ENVIRONMENT,
        )

    # The supervisor

    def _keep(self, stop: threading.Event) -> None:
        since: dict[str, float] = {}
        while not stop.wait(0.05):
            for name in ("postgres", "rabbitmq", *EVERYTHING):
                if self.pid(name) or name in self.down:
                    since.pop(name, None)
                elif time.monotonic() - since.setdefault(name, time.monotonic()) >= RESTART_SECONDS:
                    self._begin(name)

    def _begin(self, name: str) -> None:
        self.starts[name] += 1
        if name == "postgres":
            self.postgres.begin()
        elif name == "rabbitmq":
            with suppress(EmbeddedError, OSError):  # its port may still be taken: the next round tries again
                self.rabbitmq.begin()
        else:
            with suppress(ProcessLookupError):
                os.killpg(self.plant.pid(name), signal.SIGKILL)
            self.plant.begin(name)
