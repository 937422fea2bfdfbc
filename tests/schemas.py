"""Dumps of databases that earlier revisions have made, each table with rows. `python -m tests.schemas` adds today's.

To be run before a migration is added, so that the new one has what it meets in the field to be tried on.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from backend.embedded.postgres import Postgres, find_binaries
from tests.plain import Plain
from tests.servers import ROOT, migrate

ARCHIVE: Final = ROOT / "tests" / "data" / "schemas.zip"
CATALOG: Final = """
    INSERT INTO cities (id, name, latitude, longitude) VALUES
        (1, 'A', 1, 2), (2, 'B', NULL, NULL), (-3, 'C', NULL, NULL);
    INSERT INTO companies (id, name, city_id, is_active) VALUES
        (1, 'one', 1, true), (2, 'two', 2, false), (3, 'three', NULL, true), (4, 'four', 2, true);
    INSERT INTO products (id, company_id, name, kind, is_active) VALUES
        (1, 1, 'a', 'product', true), (2, 1, 'b', 'service', true), (3, 2, 'c', 'product', true),
        (4, 4, 'd', 'product', false)"""
EMPTY: Final = """
    SELECT relname::text FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
       AND relname NOT IN ('cities', 'companies', 'products', 'event_outbox', 'event_log_source')
     ORDER BY relname = 'replay_keys', relname"""  # the last one has a foreign key
WANTED: Final = """
    SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND attnotnull AND NOT atthasdef AND attidentity = ''"""
SPECIAL: Final = {  # what a constraint wants
    ("task_runs", "trigger"): "'api'",
    ("task_runs", "state"): "'SUCCESS'",
    ("dead_letters", "kind"): "'unreadable'",
    ("replay_keys", "task_id"): "(SELECT task_id FROM replays LIMIT 1)",
}
VALUES: Final = {
    "bigint": "7", "integer": "7", "smallint": "1", "double precision": "0.5", "boolean": "false", "text": "'x'",
    "uuid": "gen_random_uuid()", "timestamp with time zone": "'2026-11-01Z'", "json": "'{}'", "jsonb": "'{}'",
    "bigint[]": "'{}'", "text[]": "'{}'", "xid8": "'7'",
}  # fmt: skip
NOISE: Final = ("--", "SET ", "\\", "SELECT pg_catalog.set_config")


def revisions() -> list[str]:
    """Of which there is a dump, in order."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return sorted(Path(name).stem for name in archive.namelist())


def dump(revision: str) -> str:
    """The SQL that makes the database anew."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read(f"{revision}.sql").decode()


def fill(plain: Plain) -> None:
    """Put a row at least into each table of an empty database."""
    plain.run(CATALOG)
    for table in plain.column(EMPTY):
        if not plain.one(f"SELECT count(*) FROM {table}"):
            columns = plain.all(WANTED, (table,))
            names = ", ".join(name for name, _ in columns)
            values = ", ".join(SPECIAL.get((table, name)) or VALUES[kind] for name, kind in columns)
            plain.run(f"INSERT INTO {table} " + (f"({names}) VALUES ({values})" if columns else "DEFAULT VALUES"))


def dumped(url: str) -> str:
    """A database as SQL, without owners, comments and what pg_dump says of its session."""
    tool = [find_binaries() / "pg_dump", "--no-owner", "--no-privileges", "--inserts"]
    done = subprocess.run([*tool, url.replace("+psycopg2", "")], capture_output=True, text=True, check=True, timeout=60)
    kept = [line for line in done.stdout.splitlines() if not line.startswith(NOISE)]
    return "SET check_function_bodies = off;\n" + re.sub(r"\n{2,}", "\n", "\n".join(kept)).strip() + "\n"


def main() -> None:
    """Add today's revision to the archive."""
    with tempfile.TemporaryDirectory(prefix="schemas-") as place:
        server = Postgres(Path(place) / "postgres")
        server.start()
        try:
            migrate(server.url)
            with Plain(server.url) as plain:
                fill(plain)
                revision = plain.one("SELECT version_num FROM alembic_version")
            if revision in revisions():
                raise SystemExit(f"there is a dump of {revision} already")
            with zipfile.ZipFile(ARCHIVE, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(zipfile.ZipInfo(f"{revision}.sql"), dumped(server.url), zipfile.ZIP_DEFLATED)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
