"""`citycache migrate` and what a command says that lacks rights."""

from __future__ import annotations

import os
import subprocess

from tests import commands
from tests.plain import Plain
from tests.system import SCRIPTS


def command(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run `citycache …` to its end."""
    return commands.run([SCRIPTS / "citycache", *arguments], {**os.environ, "DATABASE_URL": url})


def test_a_schema_of_a_newer_release_is_left_as_it_is_so_that_an_older_one_starts(database: str) -> None:
    with Plain(database) as plain:
        plain.run("UPDATE alembic_version SET version_num = 'from_the_future'")
        plain.run("COMMENT ON TABLE alembic_version IS 'citycache 9.8.7'")

        done = command("migrate", url=database)

        assert done.returncode == 0, done.stderr
        assert "The database is newer" in done.stdout
        assert "from_the_future, migrated by release 9.8.7" in done.stdout
        assert plain.one("SELECT version_num FROM alembic_version") == "from_the_future"


def test_a_command_that_lacks_rights_says_so_in_one_sentence(database: str) -> None:
    with Plain(database) as plain:
        plain.run("DROP ROLE IF EXISTS bystander")
        plain.run("CREATE ROLE bystander LOGIN PASSWORD 'bystander'")
    user = database.partition("//")[2].partition("@")[0]

    done = command("verify", url=database.replace(user, "bystander:bystander", 1))

    assert done.returncode == 1, done.stderr
    assert "permission denied" in done.stderr
    assert "other duties" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
