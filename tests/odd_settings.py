"""Odd defaults of a database or a role, and how to set them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg2 import sql as names

from tests import oracle
from tests.faults.plant import Plant
from tests.plain import Plain

ODD: Final = {
    "default_transaction_isolation": ("repeatable read", "serializable", "read uncommitted"),
    "default_transaction_read_only": ("on",),
    "default_transaction_deferrable": ("on",),
    "session_replication_role": ("replica", "local"),
    "search_path": ("pg_catalog", "nowhere", '"$user"'),
    "TimeZone": ("Asia/Kathmandu", "America/St_Johns"),
    "DateStyle": ("German, DMY", "SQL, DMY", "Postgres, YMD"),
    "IntervalStyle": ("sql_standard", "iso_8601", "postgres_verbose"),
    "standard_conforming_strings": ("off",),
    "escape_string_warning": ("off",),
    "backslash_quote": ("off", "on"),
    "client_encoding": ("LATIN1", "SQL_ASCII"),
    "row_security": ("on",),
    "bytea_output": ("escape",),
    "extra_float_digits": ("-15", "3"),
    "xmloption": ("document",),
    "xmlbinary": ("hex",),
    "transform_null_equals": ("on",),
    "array_nulls": ("off",),
    "quote_all_identifiers": ("on",),
    "statement_timeout": ("50ms",),
    "lock_timeout": ("1ms",),
    "idle_in_transaction_session_timeout": ("1ms",),
    "idle_session_timeout": ("500ms",),
    "transaction_timeout": ("500ms",),
    "exit_on_error": ("on",),
    "restrict_nonsystem_relation_kind": ("view",),
    "plan_cache_mode": ("force_generic_plan",),
    "jit": ("on",),
    "synchronous_commit": ("off", "local"),
}
LEVELS: Final = ("database", "role")
KEPT_FROM_WRITERS: Final = (  # nobody could write with these
    "default_transaction_read_only", "session_replication_role", "search_path", "statement_timeout", "lock_timeout",
    "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout", "exit_on_error",
    "client_encoding", "restrict_nonsystem_relation_kind",
)  # fmt: skip


@contextmanager
def altered(server: Plain, level: str, settings: dict[str, str]) -> Iterator[None]:
    """These settings are the defaults of the test's database, or of its role in any database."""
    kind, name = ("DATABASE", "current_database()") if level == "database" else ("ROLE", "current_user")
    place = names.SQL(f"ALTER {kind} {{}}").format(names.Identifier(server.one(f"SELECT {name}")))
    try:
        for setting, value in settings.items():
            # A list of schemas is no string: '"$user"' alone would be one name.
            written = names.SQL(value) if setting == "search_path" else names.Literal(value)
            server.run(place + names.SQL(" SET {} = {}").format(names.Identifier(setting), written))
        yield
    finally:
        server.run(place + names.SQL(" RESET ALL"))


def known(server: Plain) -> dict[str, tuple[str, ...]]:
    """Odd values of the settings that this server has."""
    found = set(server.column("SELECT lower(name) FROM pg_settings"))
    return {setting: values for setting, values in ODD.items() if setting.lower() in found}


class Unaltered(Plant):
    """A system whose tests look at it as ever, whatever defaults its processes meet."""

    def sql(self) -> Plain:
        """A connection that can write; how it writes values is odd all the same."""
        plain = super().sql()
        for setting in KEPT_FROM_WRITERS:
            plain.run(f"SELECT set_config(name, boot_val, false) FROM pg_catalog.pg_settings WHERE name = '{setting}'")
        return plain

    def violations(self) -> list[str]:
        """By such a connection."""
        with self.sql() as plain:
            return oracle.violations(plain)
