"""The uvicorn that serves this application, found from within: so `uvicorn backend.app.main:app` is all that it takes.

uvicorn's signal handlers are in place when the application starts, and it makes a protocol for each connection later.
So the application finds its server by them, and gives it our protocol and handlers.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.logging import DefaultFormatter

from backend.app.api.edge.protocol import BoundedProtocol
from backend.app.settings import settings
from backend.app.telemetry import logs

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_serving: list[uvicorn.Server] = []


def take_log() -> None:
    """Where uvicorn has set up a log of its own, set up ours instead, before its first line."""
    handlers = logging.getLogger("uvicorn").handlers
    if any(isinstance(handler.formatter, DefaultFormatter) for handler in handlers):
        logs.configure(settings().log_format, settings().log_level)


def take_over() -> None:
    """Have the server of this process use our protocol, and end with 0 when it is asked to end; harmless where another
    server serves, and when called again."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(server, uvicorn.Server):
        return
    _serving[:] = [server]
    server.config.http_protocol_class = BoundedProtocol
    for number in SIGNALS:
        signal.signal(number, _end)


def ends() -> bool:
    """Whether the server has been told to end: it waits for open answers, and a stream is one that never ends."""
    return any(server.should_exit for server in _serving)


def _end(number: int, frame: FrameType | None) -> None:
    """uvicorn's own handler remembers the signal and dies by it in the end, though it has ended well."""
    for server in _serving:
        server.force_exit = server.should_exit and number == signal.SIGINT
        server.should_exit = True
