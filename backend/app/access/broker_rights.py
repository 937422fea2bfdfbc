"""Users of the broker with least rights, one a process; `deploy/broker_policies.py` makes them where passwords are set.

RabbitMQ knows three rights on names: to configure (declare), to write (publish; also the queue of a binding), and to
read (consume; also the exchange of a binding). Whoever declares the topology needs the first on all of it. To ask how
much waits in a queue takes any of them since RabbitMQ 4.3: the second, which lets nobody take or delete a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from events import topology

EVENTS, DEAD_LETTER_EXCHANGE = topology.EVENTS.name, topology.DEAD_LETTER_EXCHANGE.name
QUEUES: Final = (topology.LOG.name, topology.UPDATER.name, topology.DEAD_LETTERS.name)
TASKS: Final = (topology.PATCHES, topology.MAINTENANCE)  # queues and exchanges of Celery
CONTROL: Final = r"(.+\.)?(reply\.)?celery\.pidbox"  # Celery's questions to workers, and their answers
GOSSIP: Final = r"celeryev(\..+)?"
DIRECT: Final = r"amq\.default"  # the exchange that reaches every queue by its name


@dataclass(frozen=True)
class Rights:
    """Regular expressions of names, as RabbitMQ takes them."""

    configure: str
    write: str
    read: str


def _names(*names: str, patterns: tuple[str, ...] = ()) -> str:
    return f"^({'|'.join([*map(re.escape, names), *patterns])})$"


RIGHTS: Final = {
    # starts tasks, requeues dead letters, asks queues and workers; takes no events and makes none
    "api": Rights(
        configure=_names(*TASKS, patterns=(CONTROL,)),
        write=_names(topology.UPDATER.name, topology.DEAD_LETTERS.name, *TASKS, patterns=(CONTROL, DIRECT)),
        read=_names(*TASKS, patterns=(CONTROL,)),
    ),
    # publishes events; reads no queue
    "relay": Rights(
        configure=_names(EVENTS, DEAD_LETTER_EXCHANGE, *QUEUES),
        write=_names(EVENTS, *QUEUES),
        read=_names(EVENTS, DEAD_LETTER_EXCHANGE),
    ),
    # takes events and tasks, reads the log; publishes no events
    "worker": Rights(
        configure=_names(EVENTS, DEAD_LETTER_EXCHANGE, *QUEUES, *TASKS, patterns=(CONTROL, GOSSIP)),
        write=_names(*QUEUES, *TASKS, patterns=(CONTROL, GOSSIP, DIRECT)),
        read=_names(EVENTS, DEAD_LETTER_EXCHANGE, *QUEUES, *TASKS, patterns=(CONTROL, GOSSIP)),
    ),
    # starts scheduled tasks
    "beat": Rights(configure=_names(*TASKS), write=_names(*TASKS), read=_names(*TASKS)),
    # asks the updater's queue and workers how far they are; reads the log: where it begins, what it says of rows
    "observer": Rights(
        configure=_names(patterns=(CONTROL,)),
        write=_names(topology.UPDATER.name, patterns=(CONTROL,)),
        read=_names(topology.LOG.name, patterns=(CONTROL,)),
    ),
}
