"""Connections to the broker, with deadlines on everything, to the first address that answers."""

from __future__ import annotations

from typing import Any, Final

from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from events import foreign, tls
from events.errors import BrokerGone

CONNECT_SECONDS: Final = 3  # for one address
HEARTBEAT_SECONDS: Final = 20
LOST: Final = (AMQPError, OSError, EOFError)  # what a lost or closed connection looks like


def connect(url: str, name: str, **options: Any) -> Connection:
    """An open connection with deadlines on connecting, reading and writing, to the first address that answers.

    Raises BrokerGone when none does.
    """
    foreign.tolerate()
    plain, encryption = tls.split(url)
    connection = Connection(
        plain,
        ssl=encryption,
        heartbeat=HEARTBEAT_SECONDS,
        connect_timeout=CONNECT_SECONDS,
        transport_options={
            "read_timeout": 15,
            "write_timeout": 15,
            "client_properties": {"connection_name": f"citycache {name}"},
            **options,
        },
    )
    _open(connection)
    return connection


def move_on(connection: Connection) -> None:
    """Connect to the next address that answers, which is the same where there is only one; raises BrokerGone."""
    connection.maybe_switch_next()
    _open(connection)


def rabbitmq_version(connection: Connection) -> str | None:
    """What an open connection's broker says of its version, as '3.13.7'; None where it is no RabbitMQ, or says none."""
    said = connection.connection.server_properties
    return str(said["version"]) if said.get("product") == "RabbitMQ" and said.get("version") else None


def _open(connection: Connection) -> None:
    attempts = max(2, len(connection.alt))
    try:
        connection.ensure_connection(max_retries=attempts - 1, interval_start=0, timeout=CONNECT_SECONDS * attempts)
    except (*LOST, KombuError) as failure:
        connection.close()
        raise BrokerGone(f"the broker at {connection.as_uri()} does not answer: {failure}") from failure
