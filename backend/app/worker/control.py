"""Celery's remote control, for who asks workers and for workers that answer.

Apart from the rest of a worker: `citycache status` asks too, and needs nothing else of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any
from uuid import uuid4

import kombu
from celery.app.control import Control
from kombu.pidbox import Mailbox

from backend.app.worker import questions
from events import foreign
from events.contract import shown
from events.errors import Malformed

log = logging.getLogger(__name__)


class FreshMailbox(Mailbox):
    """Questions to workers and their answers, in queues whose names nobody had before.

    They are exclusive to a connection. The broker may not have noticed that it is gone; and where its node is down,
    RabbitMQ 4.2 keeps them until that node is back. A queue of the same name would be refused for as long.
    """

    node_cls = questions.QuestionNode

    @cached_property
    def oid(self) -> str:
        """Names the queue of one question's answers."""
        return str(uuid4())

    def _collect(
        self,
        ticket: str,
        limit: int | None = None,
        timeout: float = 1.0,
        callback: Callable[..., Any] | None = None,
        channel: Any = None,
        accept: Any = None,
    ) -> list[Any]:
        """So many answers to one question, or those that come in time, however many others come. Kombu would begin its
        deadline anew with each of them, and trust what they say."""
        foreign.tolerate()
        replies: list[dict[str, Any]] = []

        def take(message: Any) -> None:
            try:
                reply = questions.reply_of(message, ticket)
            except Malformed as failure:
                return drop(message, failure)
            if reply:
                replies.append(reply)
                if callback:
                    callback(reply)

        def drop(message: Any, failure: Exception) -> None:
            log.warning("an answer to a question is dropped: %s", shown(str(failure)))

        connection: Any = self.connection
        end = time.monotonic() + timeout
        with kombu.Consumer(connection, [self.reply_queue], on_message=take, on_decode_error=drop, no_ack=True):
            while (limit is None or len(replies) < limit) and (left := end - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=left)
        return replies

    def get_queue(self, hostname: str) -> Any:
        """A worker's, for one connection."""
        queue: Any = super().get_queue(f"{hostname}.{uuid4().hex[:8]}")
        queue.max_length = questions.MOST_WAITING
        return queue


class FreshControl(Control):
    """Celery's remote control."""

    Mailbox = FreshMailbox
