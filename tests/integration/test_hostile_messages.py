"""Whatever comes from the broker: neighbours go through, the worker lives on, and somebody is told what was wrong."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection

from backend.app.health import inspector
from backend.app.worker import questions
from events import topology
from events.stream import StreamLog
from tests.background import background
from tests.faults.plant import Plant, plant_on
from tests.hostile.messages import COMMANDS, CONTROL, JSON, QUEUES, Message, answers, is_wrong, messages, publish
from tests.plain import Plain
from tests.servers import Databases, Vhosts

SEED = 20261125
BURIED = [queue for queue in QUEUES if queue not in (CONTROL, topology.LOG_NAME)]
MORE_BYTES = 150 * 2**20  # that the worker may have taken at most; a bomb has 256 MiB
GOOD_SECONDS = 10  # for a good event behind all of them; idle it takes milliseconds


@pytest.fixture(scope="module")
def plant(databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant")) as plant:
        yield plant.started(["relay", "worker"])


@pytest.fixture
def sql(plant: Plant) -> Iterator[Plain]:
    """Connected; without letters at the end."""
    with plant.sql() as plain:
        yield plain
        plain.run("DELETE FROM dead_letters")


def of(queue: str) -> list[Message]:
    return [message for message in messages(random.Random(SEED)) if message.queue == queue]


def memory(pid: int) -> int:
    """Bytes that a process has had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def apply_one(plant: Plant, sql: Plain) -> None:
    """A good event goes all the way through."""
    company = sql.one("INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities RETURNING id")
    cached = "SELECT EXISTS (SELECT FROM company_city_mapping WHERE company_id = %s)"
    plant.wait_until(lambda: sql.one(cached, [company]), GOOD_SECONDS, "a good event is applied")


def send(plant: Plant, sql: Plain, hostile: Sequence[Message]) -> list[Message]:
    """Send all of them; the same worker goes on, in about the same memory."""
    pids, before = [plant.pid("worker"), *plant.children("worker")], memory(plant.pid("worker"))
    taken = publish(plant.broker, hostile)
    apply_one(plant, sql)
    assert [plant.pid("worker"), *plant.children("worker")] == pids
    assert memory(plant.pid("worker")) < before + MORE_BYTES
    return taken


@pytest.mark.parametrize("queue", BURIED)
def test_each_wrong_message_is_a_letter_that_says_why(plant: Plant, sql: Plain, queue: str):
    taken = send(plant, sql, of(queue))
    wrong = [message.kind for message in taken if is_wrong(message)]
    assert len(wrong) > 0.9 * len(of(queue)), "the broker takes nearly all of them"
    count = "SELECT count(*) FROM dead_letters"
    with suppress(AssertionError):
        plant.wait_until(lambda: sql.one(count) >= len(wrong), 30)
    found = sql.all("SELECT headers ->> 'kind', reason FROM dead_letters ORDER BY id")
    assert len(found) == len(wrong), set(wrong) - {kind for kind, _ in found}
    assert {kind for kind, _ in found} <= {None, *wrong}
    assert [reason for _, reason in found if not 10 < len(reason) < 600 or "Traceback" in reason] == []
    assert "Traceback" not in plant.log("worker"), "each is told by its reason"
    plant.drain()
    assert plant.violations() == []


def test_no_message_of_the_log_stops_its_reader(plant: Plant, sql: Plain):
    taken = send(plant, sql, of(topology.LOG_NAME))
    with closing(StreamLog(plant.broker)) as log:
        read = list(log.read("first", log.new_marker(), mark=True))
    offsets = [logged.offset for logged in read]
    assert len(read) > len(taken)
    assert offsets == sorted(set(offsets))
    assert sql.one("SELECT count(*) FROM dead_letters") == 0


def test_control_messages_stop_nobody_and_are_told_in_the_log(plant: Plant, sql: Plain):
    send(plant, sql, of(CONTROL))
    for command in COMMANDS:
        assert f"the control command '{command}' is refused" in plant.log("worker")
    assert sql.one("SELECT count(*) FROM dead_letters") == 0


@pytest.mark.parametrize("question", sorted(questions.QUESTIONS))
def test_questions_are_answered(plant: Plant, question: str):
    app = Celery(broker=plant.broker, set_as_current=False)
    (answer,) = app.control.broadcast(question, reply=True, timeout=10, limit=1)
    (said,) = answer.values()
    assert "error" not in said
    assert len(json.dumps(said)) < 20_000
    app.close()


@contextmanager
def answering(broker: str, tell: Callable[[Any, dict[str, str], str, threading.Event], None]) -> Iterator[None]:
    """Somebody who hears all questions, and has `tell` answer them: by a channel, to whom, with which ticket, until."""
    ends = threading.Event()
    with Connection(broker) as connection, connection.channel() as channel:

        def hear(message: Any) -> None:
            question = json.loads(message.body)
            if question.get("reply_to"):
                tell(channel, question["reply_to"], question["ticket"], ends)

        def listen(stop: threading.Event) -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

        queue = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(queue, CONTROL)
        channel.basic_consume(queue, no_ack=True, callback=hear)
        with background(listen):
            yield
            ends.set()


def tell_odd_things(channel: Any, to: dict[str, str], ticket: str, ends: threading.Event) -> None:
    for properties, headers, body in answers(random.Random(SEED), ticket):
        made = amqp.Message(body, application_headers=headers, **properties)
        channel.basic_publish(made, to["exchange"], to["routing_key"])


def tell_without_end(channel: Any, to: dict[str, str], ticket: str, ends: threading.Event) -> None:
    while not ends.wait(0.1):
        made = amqp.Message(b"{}", application_headers={"ticket": ticket}, **JSON)
        channel.basic_publish(made, to["exchange"], to["routing_key"])


@pytest.mark.parametrize("tell", [tell_odd_things, tell_without_end])
def test_whoever_answers_in_the_place_of_workers_is_told_from_them(plant: Plant, tell: Any):
    plant.drain()
    with answering(plant.broker, tell):
        begin = time.monotonic()
        found = inspector.waiting(plant.broker, reply_seconds=5)
        assert time.monotonic() - begin < 8

    assert (found.messages, found.silent, found.is_known, found.because) == (0, 0, True, [])


def test_a_run_asked_for_in_celery_s_own_way_is_done(plant: Plant, sql: Plain):
    app = Celery(broker=plant.broker, set_as_current=False)
    routed = {"exchange": topology.MAINTENANCE, "routing_key": topology.MAINTENANCE, "expires": 60}
    for protocol in (1, 2):
        app.conf.task_protocol = protocol
        run = app.send_task("update_cities_product_count", **routed)
        done = "SELECT EXISTS (SELECT FROM task_runs WHERE task_id = %s::uuid AND state = 'SUCCESS')"
        plant.wait_until(partial(sql.one, done, [run.id]), 20, f"protocol {protocol}")
    app.close()
