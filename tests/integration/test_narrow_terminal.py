"""Whoever reads 80 columns reads all of it: names, addresses and sentences are broken, never cut."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from backend.app import cli
from backend.app.commands import status
from backend.app.commands.terminal import print_table
from tests.catalogs import small
from tests.plain import Plain

CUT = ("…", "...")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def said(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(cli.group, arguments)
    assert ended.exit_code == code, ended.output
    assert not any(mark in ended.output.replace("[ARGS]...", "") for mark in CUT), ended.output
    return ended.output


def one_line(text: str) -> str:
    return "".join(text.split())


def test_help_says_whole_sentences_of_all_commands():
    output = one_line(said("--help"))
    context = click.Context(cli.group)
    for name in cli.group.list_commands(context):
        command = cli.group.get_command(context, name)
        assert command is not None
        assert one_line(command.get_short_help_str(10_000)) in output


def test_verify_names_every_table_and_the_first_keys(configured_database: None, plain: Plain):
    small(plain)

    output = said("verify", code=1)

    for table in ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache"):
        assert f"{table} " in output
    assert "First keys of product_city_mapping: " in output


def test_status_shows_an_address_in_one_line(capsys: pytest.CaptureFixture[str]):
    address = f"postgresql://somebody@{'a-long-name.' * 8}example:5432/{'d' * 60}"
    found = {
        "health": None, "api_url": "http://127.0.0.1:8000", "database_url": address, "broker_url": "memory://",
        "processes": {"api": 1}, "log": None,
        "lag": {"outbox_rows": None, "queue_messages": 0, "oldest_event_seconds": 0.5},
    }  # fmt: skip
    status.show(found, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert f"database_url          {address}" in lines
    assert "outbox_rows           unknown" in lines


def test_dead_letters_show_what_others_wrote_and_obey_none_of_it(configured_database: None, plain: Plain):
    reasons = ["[/bold] and [red]", "a" * 150, "\x1b[2J\x07 gone", "строка\nи ещё"]
    plain.run("INSERT INTO dead_letters (kind, reason) SELECT 'failed', unnest(%s::text[])", (reasons,))
    for command in ("list", "reasons"):
        output = said("dead-letters", command)
        assert not set("\x1b\x07") & set(output)
        assert "[/bold]" in output
        assert output.count("a") >= 150


def test_a_cell_that_is_too_long_goes_on_in_the_next_line(capsys: pytest.CaptureFixture[str]):
    print_table(("name", "value"), [("short", "x" * 300)])
    assert capsys.readouterr().out.count("x") == 300
