"""`citycache up`: everything on this machine, from an empty folder to a page in the browser, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from backend.app.health import watchdog
from backend.app.settings import settings
from backend.embedded import spawn
from backend.embedded.erlang import find_server
from backend.embedded.errors import AlreadyRunning, EmbeddedError, StartFailed
from backend.embedded.forks import forks
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import RabbitMQ
from backend.embedded.state_file import leftovers, owned, write_state
from backend.embedded.supervisor import Child, StopRequested, Supervisor, program, stop_signals
from events.topology import POLICIES

HOST = "127.0.0.1"
IN_PROCESS = "memory://"
API_PATIENCE = 60.0  # seconds
MIGRATION_PATIENCE = 900.0
LEFTOVER_PATIENCE = 12.0
DEMO_MARK = "demo"  # a file beside the data
DEMO_FEED = Path(__file__).with_name("demo") / "changes.jsonl.gz"
DEMO_RATE = 20  # changes a second: slow enough to follow by eye
QUICK_START = ("--without-gossip", "--without-mingle")  # a lone worker has nobody to wait for: 1 s less
INSTALLERS = {  # how each system's package manager gets RabbitMQ
    "apt-get": "sudo apt-get install rabbitmq-server",
    "dnf": "sudo dnf install rabbitmq-server",
    "zypper": "sudo zypper install rabbitmq-server",
    "pacman": "sudo pacman -S rabbitmq",
    "apk": "sudo apk add rabbitmq-server",
    "brew": "brew install rabbitmq",
}


@dataclass(frozen=True)
class Wishes:
    """What the caller asked for."""

    port: int  # of the API; 0 takes a free one
    data_dir: Path
    database_url: str | None  # None: embedded
    broker_url: str | None  # None: embedded where a rabbitmq-server is found, else in one process
    demo: bool  # play the real feed


def up(
    port: int = 8000,
    data_dir: Path = Path(".citycache"),
    database_url: str | None = None,
    broker_url: str | None = None,
    demo: bool = False,
) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP. The exit code: 0 stopped, 1 failed, 2 wrong use.

    Without URLs, the environment's DATABASE_URL and CELERY_BROKER_URL count; else servers are embedded.
    """
    wishes = Wishes(
        port=port,
        data_dir=data_dir.absolute(),
        database_url=database_url or os.environ.get("DATABASE_URL") or None,
        broker_url=broker_url or os.environ.get("CELERY_BROKER_URL") or None,
        demo=demo,
    )
    with stop_signals() as hurry:
        try:
            wishes.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with owned(wishes.data_dir):
                Up(wishes).run(hurry)
        except StopRequested:
            return 0
        except (AlreadyRunning, PortTaken, WrongServer) as failure:
            return _complain(failure, 2)
        except (EmbeddedError, OSError) as failure:
            return _complain(failure, 1)
    return 0


class WrongServer(EmbeddedError):
    """A server that a URL names cannot be used."""


class PortTaken(EmbeddedError):
    """The API's port is taken by another process."""


@dataclass
class Up:
    """One run, from the leftovers of the last one to the end of all processes."""

    wishes: Wishes
    _urls: dict[str, str] = field(default_factory=dict, init=False)

    def run(self, hurry: Callable[[], bool]) -> None:
        """Start all parts in order, tell the person, look after them; leaving stops them in reverse order."""
        begun = time.monotonic()
        if self.wishes.demo:
            begin_demo(self.wishes.data_dir)
        self._end_leftovers()
        self._urls["api_url"] = f"http://{HOST}:{self._free_api_port()}"
        with ExitStack() as stack:
            supervisor = Supervisor(lambda: self._write(supervisor), _say, _still_seconds())
            broker = self._begin_broker(stack, supervisor)
            self._start_database(stack, supervisor)
            self._migrate()
            if broker is not None:
                broker.await_ready()
            self._urls.setdefault("broker_url", broker.url if broker else IN_PROCESS)
            stack.callback(lambda: supervisor.stop(hurry))
            for child in self._children():
                supervisor.start(child)
            self._await_api(supervisor)
            _say(self._screen(time.monotonic() - begun))
            if self.wishes.demo:
                supervisor.start(self._child("demo", "citycache", "import", str(DEMO_FEED), "--rate", str(DEMO_RATE)))
            try:
                supervisor.run()
            except StopRequested:
                _say("Stopping ...")
                raise

    # Servers

    def _begin_broker(self, stack: ExitStack, supervisor: Supervisor) -> RabbitMQ | None:
        """A node takes seconds to start: it does so while the database is made ready."""
        if self.wishes.broker_url is not None:
            self._urls["broker_url"] = self.wishes.broker_url
            return None
        if find_server() is None:
            _say(_without_rabbitmq())
            return None
        node = RabbitMQ(self.wishes.data_dir / "rabbitmq", policies=POLICIES)
        stack.callback(node.stop)
        node.begin()
        supervisor.adopt(node)
        return node

    def _start_database(self, stack: ExitStack, supervisor: Supervisor) -> None:
        if self.wishes.database_url is not None:
            self._urls["database_url"] = self.wishes.database_url
            return
        server = Postgres(self.wishes.data_dir / "postgres")
        stack.callback(server.stop)
        server.start()
        supervisor.adopt(server)
        self._urls["database_url"] = server.url

    def _migrate(self) -> None:
        log = self._log("migrate")
        migration = spawn.spawn([program("citycache"), "migrate"], log=log, env=self._environment())
        if (code := migration.wait(MIGRATION_PATIENCE)) == 2:
            raise WrongServer(spawn.tail(log, 1).removeprefix("citycache: "))
        if code != 0:
            raise StartFailed(f"the database could not be migrated; {log} ends with:\n{spawn.tail(log)}")

    # Our own processes

    def _children(self) -> list[Child]:
        port = self._urls["api_url"].rpartition(":")[2]
        if self._urls["broker_url"].startswith(IN_PROCESS):
            return [self._child("citycache", "python", "-m", "backend.embedded.inprocess", HOST, port)]
        celery = ("celery", "-A", "backend.app.celery_app")
        node = f"up-{secrets.token_hex(4)}@localhost"
        worker = (*celery, "worker", *QUICK_START, "--loglevel", "INFO", "--hostname", node)
        schedule = str(self.wishes.data_dir / "celerybeat-schedule")
        uvicorn = ("uvicorn", "backend.app.main:app", "--host", HOST, "--port", port)
        return [
            self._child("api", *uvicorn, "--timeout-graceful-shutdown", "5"),
            self._child("relay", "citycache", "relay"),
            self._child("worker", *worker, **_next_port("METRICS_PORT")),
            self._child("beat", *celery, "beat", "--loglevel", "INFO", "--schedule", schedule, "--pidfile="),
        ]

    def _child(self, name: str, command: str, *arguments: str, **variables: str) -> Child:
        mark = self.wishes.data_dir / "marks" / name
        mark.parent.mkdir(exist_ok=True)
        return Child(
            name=name,
            argv=[program(command), *arguments],
            log=self._log(name),
            env={**self._environment(), watchdog.VARIABLE: str(mark), **variables},
            restarts=name != "demo",
            mark=mark,
        )

    def _environment(self) -> Mapping[str, str]:
        demo = {"DEMO": "true"} if is_demo(self.wishes.data_dir) else {}
        urls = {"DATABASE_URL": self._urls["database_url"], "CELERY_BROKER_URL": self._urls.get("broker_url")}
        return {**os.environ, "PYTHONUNBUFFERED": "1", **demo, **{name: url for name, url in urls.items() if url}}

    def _await_api(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + API_PATIENCE
        while not _answers(f"{self._urls['api_url']}/health/live"):
            supervisor.run_once()
            if time.monotonic() > deadline:
                log = self._log("api")
                raise StartFailed(f"the API does not answer; {log} ends with:\n{spawn.tail(log)}")
            time.sleep(0.1)

    # What the last run left, and what this one tells

    def _end_leftovers(self) -> None:
        pids = leftovers(self.wishes.data_dir)
        for pid in pids:
            spawn.signal_stranger(pid, signal.SIGTERM)
        if not spawn.wait_until_gone(pids, LEFTOVER_PATIENCE):
            spawn.kill_all(pids)

    def _free_api_port(self) -> int:
        port = self.wishes.port or spawn.free_port()
        if not spawn.is_free(port):
            raise PortTaken(f"port {port} is taken by another process; name another one: --port {port + 1}")
        return port

    def _write(self, supervisor: Supervisor) -> None:
        processes = supervisor.pids()
        if "citycache" in processes:
            pid = processes.pop("citycache")
            processes |= dict.fromkeys(("api", "relay", "worker", "beat"), pid)
        if forks.pid is not None:
            processes["forkserver"] = forks.pid
        write_state(self.wishes.data_dir, {**self._urls, "processes": processes})

    def _screen(self, seconds: float) -> str:
        page = self._urls["api_url"].replace(HOST, "localhost")
        database = "the server that the URL names" if self.wishes.database_url else "PostgreSQL, embedded"
        if self._urls["broker_url"].startswith(IN_PROCESS):
            broker = "none: one process, nobody else hears the events"
        else:
            broker = "the broker that the URL names" if self.wishes.broker_url else "RabbitMQ, a private node"
        return f"""
citycache is up, after {seconds:.1f} s

  Dashboard   {page}
  API         {page}/docs
  Database    {database}
  Broker      {broker}
  Data, logs  {self.wishes.data_dir}

  Ctrl-C stops all of it. URLs and process ids: citycache status --data-dir {self.wishes.data_dir}
"""

    def _log(self, name: str) -> Path:
        return self.wishes.data_dir / "logs" / f"{name}.log"


def begin_demo(data_dir: Path) -> None:
    """From now on the data of this folder are a demo's, also in later runs."""
    (data_dir / DEMO_MARK).touch()


def is_demo(data_dir: Path) -> bool:
    """Whether a demo has begun in this folder."""
    return (data_dir / DEMO_MARK).exists()


def _still_seconds() -> float:
    """A child ends itself first, and says why; one that is suspended cannot."""
    seconds = settings().watchdog_seconds
    return 1.25 * seconds + 1 if seconds else 0.0


def _next_port(variable: str) -> dict[str, str]:
    """A second process cannot listen on the port that the environment names: it takes the one above."""
    port = os.environ.get(variable, "")
    return {variable: str(int(port) + 1)} if port.isdigit() and int(port) else {}


def _without_rabbitmq() -> str:
    install = next((how for tool, how in INSTALLERS.items() if shutil.which(tool)), "see https://www.rabbitmq.com")
    alone = "all runs in one process, and nobody else can hear the events"
    return f"No rabbitmq-server found: {alone}. RabbitMQ brings it: {install}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(failure: Exception, code: int) -> int:
    print(f"citycache up: {failure}", file=sys.stderr, flush=True)
    return code
