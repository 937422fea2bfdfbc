"""Only a message during whose attempts processes died is buried, and no outage, however long, counts as a death."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import amqp
import pytest
from kombu import Connection

from backend.app.caches.patch import LOCK_CLASS
from backend.app.worker import attempts
from backend.app.worker.attempts import Suspect
from backend.app.worker.consumer import SUSPECT_DELIVERIES
from backend.embedded import spawn
from backend.embedded.rabbitmq import RabbitMQ
from events import contract, topology
from tests.faults.plant import QUIET, Plant, plant_on
from tests.plain import Plain
from tests.servers import Databases, Vhosts

NOW = "2026-11-24T10:00:00.000000Z"
SUSPECT = Suspect("a message", {})
IMPATIENT = (
    "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 300)."
)


@pytest.fixture
def plain(database: str, configured_database: None) -> Iterator[Plain]:
    with Plain(database) as plain:
        yield plain


def dies() -> int:
    """A process begins an attempt and never ends it; the deaths that it found."""
    return attempts.begin(SUSPECT, str(uuid4()))


def ends(failure: Exception | None = None) -> None:
    task_id = str(uuid4())
    attempts.begin(SUSPECT, task_id)
    with attempts.ending(SUSPECT, task_id):
        if failure:
            raise failure


def test_deaths_are_counted_by_message(plain: Plain) -> None:
    assert [dies() for _ in range(3)] == [0, 1, 2]
    assert attempts.begin(Suspect("another", {}), str(uuid4())) == 0


def test_an_attempt_that_ended_is_no_death_however_it_ended(plain: Plain) -> None:
    with pytest.raises(ValueError, match="unforeseen"):
        ends(ValueError("unforeseen"))
    waited, interrupted = str(uuid4()), str(uuid4())
    attempts.begin(SUSPECT, waited)
    attempts.wait(waited)
    attempts.begin(SUSPECT, interrupted)

    assert attempts.begin(Suspect("a message", {}, [interrupted]), str(uuid4())) == 0


def test_a_message_that_is_applied_in_the_end_leaves_no_run_that_seems_to_go_on(plain: Plain) -> None:
    dies()
    ends()

    assert plain.all("SELECT state, error FROM task_runs WHERE state = 'STARTED'") == []


def test_deaths_of_long_ago_tell_nothing(plain: Plain) -> None:
    dies()
    plain.run("UPDATE task_runs SET queued_at = queued_at - interval '25 hours'")

    assert dies() == 0


@pytest.fixture(scope="module")
def plant(databases: Databases, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant_on(databases, vhosts, tmp_path_factory.mktemp("plant")) as plant:
        yield plant.started(["relay", "worker"])


@pytest.fixture
def impatient(database: str, own_rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Plant]:
    """On a broker that closes a channel whose messages are not acknowledged within a second."""
    own_rabbitmq.ctl("eval", IMPATIENT)
    with Plant(database, own_rabbitmq.url, tmp_path / "plant", **QUIET) as plant:
        yield plant.started(["relay", "worker"])


@pytest.fixture
def company(plant: Plant) -> Iterator[int]:
    """Of the plant; its event has been applied, its caches are right, and there is no dead letter."""
    with plant.sql() as sql:
        made = sql.one("INSERT INTO companies (name, city_id) SELECT 'c', min(id) FROM cities RETURNING id")
        plant.drain()
        yield made
        sql.run("TRUNCATE dead_letters")


def channels_lost(plant: Plant) -> int:
    return plant.log("worker").count("PRECONDITION_FAILED - delivery acknowledgement")


def test_events_that_are_held_while_their_channel_is_lost_again_and_again_are_applied_in_the_end(
    impatient: Plant,
) -> None:
    with impatient.sql() as sql, impatient.sql() as holder:
        sql.run("INSERT INTO companies (id, name, city_id) SELECT 1, 'c', min(id) FROM cities")
        impatient.drain()
        holder.run("SELECT pg_advisory_lock(%s, n) FROM generate_series(0, 63) AS n", [LOCK_CLASS])  # all products
        sql.run("INSERT INTO products (id, name, company_id) VALUES (1, 'p', 1)")

        often = SUSPECT_DELIVERIES + 2 * attempts.MOST_DEATHS
        impatient.wait_until(lambda: channels_lost(impatient) > often, 150, "the channel is lost often")
        holder.run("SELECT pg_advisory_unlock_all()")
        impatient.drain()

        assert sql.all("SELECT kind, reason FROM dead_letters") == []
    assert impatient.violations() == []


def test_a_message_that_kills_its_process_whenever_it_comes_is_buried_and_others_go_on(
    plant: Plant, company: int
) -> None:
    with plant.sql() as sql:
        sql.run(
            "CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_sleep(60); RETURN NEW; END $$;"
            " CREATE TRIGGER stand_still BEFORE INSERT ON product_city_mapping FOR EACH ROW WHEN (NEW.product_id = 1)"
            " EXECUTE FUNCTION stand_still()"
        )
        sql.run("INSERT INTO products (id, name, company_id) VALUES (1, 'p', %s)", [company])

        def kill_who_applies_it() -> bool:
            applying = """SELECT pid, application_name FROM pg_stat_activity
                           WHERE wait_event = 'PgSleep' AND application_name LIKE '% child %'"""
            for backend, name in sql.all(applying):
                spawn.signal_stranger(int(name.split(" child ")[1].split()[0]), signal.SIGKILL)
                sql.one("SELECT pg_terminate_backend(%s)", [backend])
            return bool(sql.one("SELECT count(*) FROM dead_letters"))

        plant.wait_until(kill_who_applies_it, 120, "the message is buried")
        assert sql.all("SELECT kind, reason FROM dead_letters") == [
            ("undeliverable", "the process that applied it died 5 times")
        ]
        sql.run("INSERT INTO products (id, name, company_id) VALUES (2, 'p', %s)", [company])
        plant.drain()
        assert sql.column("SELECT product_id FROM product_city_mapping") == [2]
        sql.run("DROP FUNCTION stand_still CASCADE")


@pytest.mark.parametrize("reason", ["delivery_limit", "expired", "maxlen"])
def test_what_the_broker_gave_up_on_unseen_is_applied_and_not_buried(plant: Plant, company: int, reason: str) -> None:
    plant.drain()
    with plant.sql() as sql, Connection(plant.broker) as connection:
        sql.run("DELETE FROM company_city_mapping WHERE company_id = %s", [company])
        happened = contract.event(str(uuid4()), "catalog.company.updated", f"company/{company}", NOW, None, "{}", None)
        headers = {"x-death": [{"queue": topology.UPDATER.name, "reason": reason}]}
        lost = amqp.Message(contract.encode([happened]), content_type=contract.BATCH, application_headers=headers)
        connection.channel().basic_publish(lost, exchange=topology.DEAD_LETTER_EXCHANGE.name, routing_key="any")

        mapped = "SELECT count(*) FROM company_city_mapping WHERE company_id = %s"
        plant.wait_until(lambda: bool(sql.one(mapped, [company])), 30, "it is applied")
        assert sql.all("SELECT kind, reason FROM dead_letters") == []
