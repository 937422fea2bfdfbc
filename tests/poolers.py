"""PgBouncer in front of a test's database, as an operator would put it there."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from backend.app.database import address
from backend.embedded import spawn
from tests.waiting import until


@contextmanager
def pgbouncer(url: str, pool_mode: str, **options: str) -> Iterator[str]:
    """The URL of a database through a pooler of its own; `options` go into its configuration."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.fail("pgbouncer is missing: `make test` installs it", pytrace=False)
    found, port = address.parameters(url), spawn.free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        place = Path(name)
        place.chmod(0o755)  # it gives up root
        (place / "pgbouncer.ini").write_text(_configuration(found, port, pool_mode, options))
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = spawn.spawn([binary, *user, str(place / "pgbouncer.ini")], log=place / "log")
        through = f"postgresql://{found['user']}:{found['password']}@127.0.0.1:{port}/{found['dbname']}"
        try:
            until(lambda: _answers(through), 20, "pgbouncer answers")
            yield through
        finally:
            spawn.end(process, signal.SIGTERM, 5)


def _configuration(server: dict[str, str], port: int, pool_mode: str, options: dict[str, str]) -> str:
    where = " ".join(f"{name}={server[name]}" for name in ("host", "port", "dbname", "user", "password"))
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": pool_mode,
        "default_pool_size": 60,
        "max_client_conn": 500,
        **options,
    }
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    return f"[databases]\n{server['dbname']} = {where}\n[pgbouncer]\n{lines}\n"


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True
