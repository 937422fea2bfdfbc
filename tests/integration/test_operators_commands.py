"""What an operator asks where no `up` runs, as in a container: how all is, and which release meets which schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from backend import __version__
from backend.app import cli
from backend.app.adopting.doctor import of_version
from backend.app.commands.data_dir import OPTION, TAKING_IT
from backend.app.database import schema
from backend.app.settings import settings
from backend.embedded.errors import NotRunning
from backend.embedded.state_file import owned, write_state
from tests.conftest import configured_as
from tests.plain import Plain
from tests.servers import ROOT
from tests.system import SCRIPTS

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which nothing of ours runs, as /app in the image."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nowhere(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment names a database that is away."""
    with configured_as(monkeypatch, DATABASE_URL=NOWHERE, CELERY_BROKER_URL=broker):
        yield


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli.group, arguments)


def parts(answer: dict[str, Any]) -> dict[str, str]:
    return {part["name"]: part["state"] for part in answer["health"]["parts"]}


def test_status_asks_the_servers_that_the_environment_names_where_no_up_runs(
    configured: None, database: str, broker: str
) -> None:
    # Given a change that nobody has published
    with Plain(database) as plain:
        plain.run("INSERT INTO cities (name) VALUES ('Here')")

    # When one asks
    answer = json.loads(ask("status", "--json").stdout)

    # Then servers, lag and the parts of health are told, and what nobody knows is unknown
    assert (answer["database_url"], answer["broker_url"]) == (database, broker)
    assert (answer["api_url"], answer["processes"]) == (None, None)
    assert answer["lag"]["outbox_rows"] == 1
    assert parts(answer)["database"] == "well"
    assert parts(answer)["caches"] == "unknown"  # nobody has looked at them


def test_status_says_that_a_server_is_away_and_shows_no_number_of_it(nowhere: None) -> None:
    answer, shown = json.loads(ask("status", "--json").stdout), ask("status").stdout

    assert parts(answer)["database"] == "bad"
    assert answer["lag"]["outbox_rows"] is None
    assert re.match(r"\d+ things? needs? you: database", shown)
    assert "database: " in shown
    assert re.search(r"processes\W+unknown", shown)


def test_status_of_a_folder_asks_nobody_else(configured_database: None, place: Path) -> None:
    assert isinstance(ask("status", "--data-dir", str(place)).exception, NotRunning)


@pytest.mark.parametrize("before", ["", "amqp://127.0.0.1:1//;"])
def test_doctor_knows_the_version_of_the_broker_that_answers(
    configured: None, broker: str, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", before + broker)
    settings.cache_clear()

    done = ask("doctor", "--json")

    found = next(one for one in json.loads(done.stdout)["findings"] if one["name"] == "broker")
    assert re.fullmatch(r"RabbitMQ \d+\.\d+\.\d+ has streams and quorum queues", found["found"])
    assert (found["is_well"], found["advice"], done.exit_code) == (True, None, 0)


@pytest.mark.parametrize(
    ("version", "is_well"),
    [("3.8.35", False), ("3.9.0", True), ("4.2.1+rc.1", True), ("unreleased", None), (None, None)],
)
def test_doctor_calls_a_broker_too_old_only_if_it_knows(version: str | None, is_well: bool | None) -> None:
    found = of_version(version)

    assert found.is_well is is_well
    assert bool(found.advice) is not is_well


@pytest.mark.parametrize("given", [(), ("--data-dir", "elsewhere"), ("--data-dir=elsewhere",)])
def test_commands_use_the_servers_of_an_up_that_runs(
    database: str, broker: str, place: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    folder = place / (given[-1].removeprefix("--data-dir=") if given else ".citycache")
    folder.mkdir()
    known: list[str] = []  # when the command is loaded, which may keep the broker's URL
    load = cli.Commands.get_command

    def loaded(group: cli.Commands, context: click.Context, name: str) -> click.Command | None:
        known.append(settings().celery_broker_url)
        return load(group, context, name)

    monkeypatch.setattr(cli.Commands, "get_command", loaded)
    with configured_as(monkeypatch, DATABASE_URL="", CELERY_BROKER_URL="amqp://h//"), owned(folder):
        write_state(folder, {"api_url": "", "database_url": database, "broker_url": broker, "processes": {}})
        done = ask("version", *given, "--json")
        assert json.loads(done.stdout)["database"]["schema_revision"] == schema.needed().revision
        assert known == [broker]


def test_each_command_that_offers_a_folder_takes_it() -> None:
    def offers(command: click.Command) -> bool:
        below = command.commands.values() if isinstance(command, click.Group) else ()
        named = any(OPTION in parameter.opts and not parameter.expose_value for parameter in command.params)
        return named or any(map(offers, below))

    context = click.Context(cli.group)
    commands = {name: cli.group.get_command(context, name) for name in cli.group.list_commands(context)}
    assert tuple(name for name, command in commands.items() if command and offers(command)) == tuple(sorted(TAKING_IT))


def test_a_folder_on_which_nothing_runs_is_not_passed_over(configured_database: None, place: Path) -> None:
    assert isinstance(ask("verify", "--data-dir", str(place)).exception, NotRunning)


def test_version_tells_release_and_schema_also_where_no_database_answers(nowhere: None) -> None:
    done = ask("version", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "release": __version__,
        "schema_revision": schema.needed().revision,
        "database": None,
    }
    assert "the database is away" in done.stderr


def test_a_database_knows_which_release_has_migrated_it(configured_database: None) -> None:
    done = ask("version", "--json")

    found = {"schema_revision": schema.needed().revision, "release": __version__, "advice": None}
    assert done.exit_code == 0
    assert json.loads(done.stdout)["database"] == found


@pytest.mark.parametrize(("revision", "sentence"), [("0001", "run citycache migrate"), ("from_the_future", "newer")])
def test_a_schema_too_old_or_newer_is_named_with_what_to_do(
    configured_database: None, database: str, revision: str, sentence: str
) -> None:
    with Plain(database) as plain:
        plain.run("UPDATE alembic_version SET version_num = %s", (revision,))

    told = ask("version").stdout

    assert f"database: schema {revision}" in told
    assert sentence in told


def test_an_empty_database_has_no_schema(configured_empty: str) -> None:
    assert "schema none" in ask("version").stdout


@pytest.mark.parametrize(
    "command", [["import", os.devnull], ["verify"], ["dead-letters", "list"], ["replay", "--from-offset", "0"]]
)
def test_a_command_says_that_the_database_is_to_be_migrated(
    configured_empty: str, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command)

    assert ended.value.code == 1
    assert "run citycache migrate" in capsys.readouterr().err


NO_NUMBERS = ("nan", "inf", "-1", "1e400", "soon")
WRONG_NUMBERS = [  # a wait of 1e-300 is no time at all, which is what it says
    *((("import", "-", "--rate"), number) for number in (*NO_NUMBERS, "1e-300")),
    *((("verify", "--wait"), number) for number in NO_NUMBERS),
]


@pytest.mark.parametrize(("command", "number"), WRONG_NUMBERS)
def test_a_number_that_means_nothing_is_refused_by_the_name_of_its_option(
    nowhere: None, command: tuple[str, ...], number: str
) -> None:
    done = ask(*command, number)

    assert done.exit_code == 2
    assert f"Invalid value for '{command[-1]}'" in done.output


OUT_OF_RANGE = "not in the range"
LINES = [
    ("import - <&-", 2, "standard input is closed"), ("preview - <&-", 2, "standard input is closed"),
    ("verify >/dev/full", 1, "No space left"), ("verify --json >/dev/full", 1, "No space left"),
    ("verify >&-", 0, ""), ("verify 2>&-", 0, "agree"), ("verify --json | true", 1, ""),
    (f"dead-letters requeue {2**63}", 2, OUT_OF_RANGE), (f"replay --from-offset {2**63}", 2, OUT_OF_RANGE),
    ("up --port 65536", 2, OUT_OF_RANGE), (r"preview $'SELECT \xff'", 2, "not UTF-8"),
    ("up --port 0 --data-dir up --broker-url x", 2, "CELERY_BROKER_URL: must be amqp://"),
]  # fmt: skip


def test_a_file_that_cannot_be_used_is_named() -> None:
    code = "from backend.app import cli; cli.group = lambda *given, **named: open('/nowhere/x'); cli.main(['version'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "citycache: /nowhere/x: No such file or directory\n")


@pytest.mark.parametrize(("line", "code", "sentence"), LINES)
def test_however_a_command_is_called_it_ends_in_a_sentence(
    configured_database: None, place: Path, line: str, code: int, sentence: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SCRIPTS / 'citycache'} {line}; exit ${{PIPESTATUS[0]}}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr

    assert (done.returncode, "Traceback" in told, "Exception ignored" in told) == (code, False, False), told
    assert sentence in told


def test_one_place_says_which_release_this_is() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

    assert compose["services"]["backend"]["image"].endswith(f"{{CITYCACHE_TAG:-{__version__}}}")
    newest, *released = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == (__version__, "unreleased")
    assert released
    assert all(date.fromisoformat(day) for _, day in released)
