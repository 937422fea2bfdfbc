"""Pooled connections: one that has ended is replaced before anybody notices, and to know costs nothing."""

from __future__ import annotations

from backend.app import db
from tests.plain import Plain

OURS = "SELECT pid, query FROM pg_stat_activity WHERE application_name = 'citycache task'"


def test_a_connection_that_the_server_has_ended_is_replaced(configured_database: None, plain: Plain) -> None:
    for _ in range(5):
        with db.transaction() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        plain.run("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    with db.transaction() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != pid


def test_a_connection_that_is_there_is_taken_without_a_statement(configured_database: None, plain: Plain) -> None:
    with db.snapshot() as connection:
        connection.exec_driver_sql("SELECT")
    before = plain.all(OURS)
    with db.engine().connect():
        assert plain.all(OURS) == before


def test_a_connection_that_was_told_something_meanwhile_is_kept(configured_database: None, plain: Plain) -> None:
    with db.transaction() as connection:
        connection.exec_driver_sql("LISTEN something")
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    plain.run("NOTIFY something")

    with db.transaction() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid
