"""The kinds of faults: what each does to the world, and how long it lasts."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from kombu import Connection

from backend.embedded import spawn
from events import topology
from events.connection import LOST
from tests.faults.proxy import Proxy
from tests.faults.world import World

PROCESSES: Final = ("relay", "worker", "beat", "api")
SERVERS: Final = ("postgres", "rabbitmq")
Action = Callable[[World, random.Random], object]


@dataclass(frozen=True)
class Fault:
    """One kind."""

    name: str
    inject: Action
    seconds: tuple[float, float] = (0.0, 0.0)  # how long until it is healed; at once when there is nothing to heal
    weight: int = 1  # how often it comes, beside others


def _signal(name: str, what: signal.Signals) -> Action:
    return lambda world, dice: world.signal(name, what)


def _signal_child(what: signal.Signals) -> Action:
    def act(world: World, dice: random.Random) -> None:
        if children := world.children():
            spawn.signal_stranger(dice.choice(children), what)

    return act


def _take_down(name: str) -> Action:
    def act(world: World, dice: random.Random) -> None:
        world.down.add(name)
        world.signal(name, signal.SIGKILL)

    return act


def _proxy(name: str, act: Callable[[Proxy], object]) -> Action:
    return lambda world, dice: act(world.database_proxy if name == "database" else world.broker_proxy)


def _repeat_messages(world: World, dice: random.Random) -> None:
    """Publish messages of the log again, shuffled: the newest ones and some old ones."""
    with Connection(world.rabbitmq.url) as connection, closing(connection.channel()) as channel:
        messages = _read_log(connection, channel, dice.choice(["first", "last"]))
        dice.shuffle(messages)
        for message in messages:
            channel.basic_publish(
                message, exchange=topology.EVENTS.name, routing_key=message.delivery_info["routing_key"]
            )


def _read_log(connection: Any, channel: Any, start: str) -> list[Any]:
    received: list[Any] = []
    channel.basic_qos(0, 100, False)
    channel.basic_consume(topology.LOG_NAME, "again", callback=received.append, arguments={"x-stream-offset": start})
    try:
        while len(received) < 50:
            connection.drain_events(timeout=0.3)
    except TimeoutError:
        pass
    channel.basic_cancel("again")
    return [message for message in received if str(message.delivery_info["routing_key"]).startswith("catalog.")]


def _withhold_messages(world: World, dice: random.Random) -> None:
    """Take messages out of the queue before the worker, and give them back later, the newest first."""
    with Connection(world.rabbitmq.url) as connection, closing(connection.channel()) as channel:
        taken = []
        for _ in range(200):
            if message := channel.basic_get(topology.UPDATER.name):
                taken.append(message.delivery_tag)
            world.pause(0.005)
        world.pause(dice.uniform(0, 2))
        for tag in reversed(taken):
            channel.basic_reject(tag, requeue=True)


def _unless_away(action: Action) -> Action:
    """For what needs the broker itself: another fault may have taken it away."""

    def act(world: World, dice: random.Random) -> None:
        try:
            action(world, dice)
        except LOST:
            return

    return act


KINDS: Final = (
    *(Fault(f"kill {name}", _signal(name, signal.SIGKILL), weight=3) for name in PROCESSES),
    *(Fault(f"kill {name}", _signal(name, signal.SIGKILL), weight=2) for name in SERVERS),
    Fault("kill child", _signal_child(signal.SIGKILL), weight=3),
    *(Fault(f"stop {name}", _signal(name, signal.SIGTERM)) for name in (*PROCESSES, "rabbitmq")),
    Fault("stop postgres", _signal("postgres", signal.SIGINT)),
    *(Fault(f"suspend {name}", _signal(name, signal.SIGSTOP), (0.5, 12)) for name in (*PROCESSES, *SERVERS)),
    Fault("suspend child", _signal_child(signal.SIGSTOP), (0.5, 12)),
    *(Fault(f"outage of {name}", _take_down(name), (2, 15)) for name in SERVERS),
    *(Fault(f"reset {name}", _proxy(name, Proxy.reset), weight=2) for name in ("database", "broker")),
    *(Fault(f"hold {name}", _proxy(name, Proxy.hold), (0.5, 12)) for name in ("database", "broker")),
    *(Fault(f"half-open {name}", _proxy(name, Proxy.half_open), (2, 20)) for name in ("database", "broker")),
    *(Fault(f"slow {name}", _proxy(name, lambda proxy: proxy.delay(0.05)), (2, 6)) for name in ("database", "broker")),
    Fault("repeated messages", _unless_away(_repeat_messages), weight=2),
    Fault("withheld messages", _unless_away(_withhold_messages), weight=2),
)


def chosen(words: str) -> list[Fault]:
    """Kinds whose name begins with one of these words, which commas separate; all for an empty text."""
    starts = tuple(word.strip() for word in words.split(",") if word.strip()) or ("",)
    return [fault for fault in KINDS if fault.name.startswith(starts)]
