"""Each row of the table of tasks is what Celery, beat, the API and the console do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from msgspec import inspect

from backend import test_celery
from backend.app.catalog.feed import recorded
from backend.app.celery_app import app, beat_schedule
from backend.app.console import page
from backend.app.ledger import ledger
from backend.app.settings import settings
from backend.app.tasks.roster import BY_NAME, TASKS, TaskKind
from backend.app.tasks.single_flight import FLIGHTS, flight
from backend.app.worker import task_messages
from tests.integration.api import V1, Client, client
from tests.plain import Plain
from tests.servers import ROOT

ROLES = ("read", "operate", "admin")  # each may do what those before it may
CITY = -(2**63)  # what runs are about that are about one
KEYS = {role: f"a-key-of-the-tests-that-may-{role}" for role in ROLES}
IN_FLIGHT = [kind for kind in TASKS if kind.flight]


def each(kinds: list[TaskKind] | tuple[TaskKind, ...] = TASKS) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    app.loader.import_default_modules()


def test_every_task_stands_in_the_table() -> None:
    assert {name for name in app.tasks if not name.startswith("celery.")} == set(BY_NAME)
    assert len(BY_NAME) == len(TASKS)


@each()
def test_goes_to_its_queue(kind: TaskKind) -> None:
    assert app.amqp.router.route({}, kind.name)["queue"].name == kind.queue


@each()
def test_bounds_what_a_message_may_give_it(kind: TaskKind) -> None:
    """So that the ledger can keep it."""
    arguments = inspect.type_info(task_messages.signature(app.tasks[kind.name].run))
    assert isinstance(arguments, inspect.StructType)
    assert {field.name: found for field in arguments.fields if (found := list(boundless(field.type)))} == {}


def boundless(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Texts of any length or with a NUL, and numbers beyond all bounds."""
    match kind:
        case inspect.StrType(max_length=None) | inspect.StrType(pattern=None) | inspect.IntType(ge=None):
            yield kind
        case inspect.IntType(le=None) | inspect.FloatType(ge=None):
            yield kind
        case inspect.UnionType(types=kinds) | inspect.TupleType(item_types=kinds):
            for one in kinds:
                yield from boundless(one)
        case inspect.ListType(item_type=one):
            yield from boundless(one)


@each()
def test_is_due_when_the_table_says(kind: TaskKind) -> None:
    due = [
        (sorted(entry["schedule"].minute), len(entry["schedule"].hour), entry["options"]["expires"])
        for entry in beat_schedule.values()
        if entry["task"] == kind.name
    ]
    assert due == ([(list(range(0, 60, kind.every)), 24, kind.expires)] if kind.every else [])


@each()
def test_has_its_limit(kind: TaskKind) -> None:
    task = app.tasks[kind.name]
    assert task.soft_time_limit == kind.limit
    assert (task.time_limit is None) if kind.limit is None else (task.time_limit > kind.limit)


def test_every_flight_is_of_one_task_or_of_imports() -> None:
    assert sorted([*(kind.flight or "" for kind in IN_FLIGHT), "import"]) == sorted(FLIGHTS)


def run_in_this_process(kind: TaskKind, of: int = CITY) -> ledger.Run:
    task_id = str(uuid4())
    app.tasks[kind.name].apply(task_id=task_id, kwargs={kind.of: of} if kind.of else {})
    found = ledger.run(UUID(task_id))
    assert found is not None
    return found


@each(IN_FLIGHT)
def test_is_skipped_while_another_run_of_it_is_under_way(configured_database: None, kind: TaskKind) -> None:
    with flight(kind.flight or "", of=CITY if kind.of else None):
        assert run_in_this_process(kind).state == "SKIPPED"
        if kind.of:
            assert run_in_this_process(kind, of=CITY + 1).state == "SUCCESS"


@each(IN_FLIGHT)
def test_ends_as_a_failure_at_its_limit(
    configured_database: None, monkeypatch: pytest.MonkeyPatch, kind: TaskKind
) -> None:
    def lasts_too_long(*arguments: Any, **keywords: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(app.tasks[kind.name], "run", lasts_too_long)
    ended = run_in_this_process(kind)

    assert (ended.state, ended.error) == ("FAILURE", "SoftTimeLimitExceeded: SoftTimeLimitExceeded()")
    with flight(kind.flight or "", of=CITY if kind.of else None):  # and holds nothing any more
        pass


@pytest.fixture
def api(configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("OBSERVER", "false")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://nobody:nothing@127.0.0.1:9//")
    monkeypatch.setenv("API_KEYS", ",".join(f"{role}:{role}:{key}" for role, key in KEYS.items()))
    settings.cache_clear()
    with client() as open_client:
        yield open_client
    settings.cache_clear()


def test_is_started_by_its_role_and_those_above_it_only(api: Client, plain: Plain) -> None:
    """There is no broker here: whoever may start a task is told so, whoever may not hears nothing of it."""
    plain.run("INSERT INTO cities (id, name) VALUES (%s, 'a')", [CITY])
    for kind in TASKS:
        path = f"{V1}/celery/tasks/{kind.name.replace('_', '-')}" + (f"/{CITY}" if kind.of else "")
        answers = [api.post(path, headers={"X-API-Key": KEYS[role]}).status_code for role in ROLES]
        may = ROLES.index(kind.role) if kind.role else len(ROLES)
        refused = 403 if kind.role else 405
        assert answers == [503 if number >= may else refused for number in range(len(ROLES))], kind.name


def test_the_command_for_operators_starts_what_a_person_may_start_and_needs_no_id() -> None:
    assert set(test_celery.TASKS) == {kind.name for kind in TASKS if kind.role and not kind.of}


def script(name: str) -> str:
    return Path(page.__file__).with_name("static").joinpath(name).read_text(encoding="utf-8")


def listed(name: str, text: str) -> set[str]:
    found = re.search(rf"const {name} = \[(.*?)\]", text, re.DOTALL)
    assert found is not None
    return set(re.findall(r'"(\w+)"', found.group(1)))


def test_the_page_has_a_button_for_what_is_scheduled_and_words_for_all() -> None:
    runs, words = script("runs.js"), script("words.js")

    assert listed("REFRESHES", runs) == {kind.name for kind in TASKS if kind.every}
    filters = re.search(r"const FILTERS = \{ task: \[\.\.\.REFRESHES, (.*?)\]", runs)
    assert filters is not None
    assert {*re.findall(r'"(\w+)"', filters.group(1)), *listed("REFRESHES", runs)} == {*BY_NAME, recorded.TASK}
    assert listed("BY_EVENTS", runs) == {kind.name for kind in TASKS if kind.role is None}
    assert set(re.findall(r'"task\.(\w+)":', words)) == {*BY_NAME, recorded.TASK}
    assert set(re.findall(r'"action\.(\w+_\w+)":', words)) == listed("REFRESHES", runs)


def test_statements_name_no_other_task() -> None:
    files = (ROOT / "backend" / "app").rglob("*.sql")
    named = {name for file in files for name in re.findall(r"\btask = '(\w+)'", file.read_text(encoding="utf-8"))}
    assert named
    assert named <= set(BY_NAME)
