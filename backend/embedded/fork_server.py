"""A fork server: one small process with one thread, of which `spawn` asks every other one.

A program is executed in the fork. A command of our own is called in it instead: what it needs is loaded once, when the
first of them is asked for, and its pages are shared by all. The server ends when its owner's end of the socket closes,
and what it forked gets its death signal then.

Each request comes with a line (one end of a socket pair) and a file for output. On the line the request is one JSON
document up to a newline; what comes back are ANSWERs: first the process id with RUNS, last its exit code. For a request
that the server cannot fulfil it is NOBODY, and why is in the output: one that fails ends no other process.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from backend import launch

ANSWER: Final = struct.Struct("=ii")  # process id, exit code (negative: the signal that ended it)
RUNS: Final = 1 << 16  # in place of an exit code
NOBODY: Final = (0, 0)  # in place of a process
COMMANDS: Final = {  # those of this Python, or modules after its -m, that are called in a fork, and what they call
    "alembic": ("alembic.config", "main"),
    "citycache": ("backend.app.cli", "main"),
    "celery": ("celery.__main__", "main"),
    "uvicorn": ("uvicorn.main", "main"),
    "backend.embedded.inprocess": ("backend.embedded.inprocess", "main"),
}
PRELOADED: Final = (  # what most of our processes need; nothing of it reads our settings while it is imported
    "alembic.command",
    "backend.app.caches.rebuilds",
    "backend.app.caches.tables",
    "backend.app.cli",
    "backend.app.commands.migrate",
    "backend.app.console.page",
    "backend.app.dead_letters.letters",
    "backend.app.health.lag",
    "backend.app.health.tables",
    "backend.app.ledger.lifeline",
    "backend.app.ledger.tables",
    "backend.app.observing.process",
    "backend.app.observing.tables",
    "backend.app.tasks.single_flight",
    "backend.app.worker.attempts",
    "backend.app.worker.pulse",
    "backend.app.worker.questions",
    "backend.app.worker.starting",
    "backend.app.worker.task_messages",
    "celery.__main__",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.prefork",
    "celery.fixups.django",
    "celery.worker.consumer",
    "events.publisher",
    "events.relay",
    "fastapi.openapi.utils",
    "fastapi_offline",
    "kombu.transport.pyamqp",
    "prometheus_client.multiprocess",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.orm",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
)
EXECUTED_FOR: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "OTEL_PYTHON_", "PROMETHEUS_")  # begins of variables that
# only a new program obeys; where they differ from the server's, a command is executed as well
PR_SET_NAME: Final = 15
ROOM: Final = 2000  # bytes for the command line of a fork, as ps shows it


@dataclass(frozen=True)
class Request:
    """A process that is to be."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    death_signal: int
    user_namespace: bool  # in one of its own: not root by name, still the owner of root's files
    user: str | None  # as this system user
    errors: str | None = None  # a file for what it says on standard error, when that is not for its output

    def as_line(self) -> bytes:
        """What `of_line` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: socket.socket) -> Request:
        """Read it; EOFError when whoever asked is gone."""
        with line.makefile("rb") as file:
            text = file.readline()
        if not text.endswith(b"\n"):
            raise EOFError
        return cls(**json.loads(text))

    @property
    def command(self) -> str | None:
        """Which of COMMANDS it is."""
        program = Path(self.argv[0])
        name = self.own_argv[0] if self.is_module else program.name
        return name if name in COMMANDS and program.parent == Path(sys.executable).parent else None

    @property
    def is_module(self) -> bool:
        """Whether it is a module that a Python is to run."""
        return Path(self.argv[0]).name.startswith("python") and self.argv[1:2] == ["-m"] and len(self.argv) > 2

    @property
    def own_argv(self) -> list[str]:
        """What the program finds in sys.argv, once it is called."""
        return self.argv[2:] if self.is_module else self.argv

    def is_called(self, server: Mapping[str, str]) -> bool:
        """Whether it is one of COMMANDS, and nothing in its environment is for a new program only."""
        return self.command is not None and _of_start(self.env) == _of_start(server)


def _of_start(env: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in env.items() if name.startswith(EXECUTED_FOR)}
    return ours | {"PYTHONUNBUFFERED": "1"}  # it is so for all


def main() -> NoReturn:
    """Serve the socket whose number is the first argument; in a fork, be what was asked for."""
    ending, server = Ending(), dict(os.environ)
    title, control = Title(), socket.socket(fileno=int(sys.argv[1]))
    title.show(["citycache", "fork server"])
    request = Server(control, server).run()
    if request.command and request.is_called(server):
        title.show([sys.executable, *request.argv])
        call(request, ending, *COMMANDS[request.command])
    else:
        execute(request)


class Server:
    """Forks, and tells how its forks ended."""

    def __init__(self, control: socket.socket, environment: Mapping[str, str]) -> None:
        self._control, self._environment = control, environment
        self._lines: dict[int, socket.socket] = {}  # by process id
        self._ended, self._end = os.pipe()  # a byte for each SIGCHLD
        os.set_blocking(self._end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        self._owner_pid = os.getpid()

    def run(self) -> Request:
        """Serve for ever. Returns in each fork, with its request, and nothing of the server left on its stack."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._ended], [], [])
            if self._ended in readable:
                os.read(self._ended, 4096)
            self._tell_ends()
            if self._control.fileno() in readable and (request := self._accept()):
                return request

    def _accept(self) -> Request | None:
        """One request. In the fork it is returned."""
        byte, files, _, _ = socket.recv_fds(self._control, 1, 2)
        if not byte:
            os._exit(0)
        line, output = socket.socket(fileno=files[0]), files[1]
        try:
            request = Request.of_line(line)
            if request.is_called(self._environment):
                preload()
            pid = os.fork()
        except Exception as failure:  # of one request: whatever it is, the others' processes hang on this one
            _refuse(line, output, failure)
        else:
            if pid == 0:
                self._become(request, line, output)
                return request
            self._lines[pid] = line
        os.close(output)
        return None

    def _tell_ends(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                line = self._lines.pop(pid)
                with suppress(OSError):  # nobody asks any more
                    line.send(ANSWER.pack(pid, os.waitstatus_to_exitcode(status)))
                line.close()

    def _become(self, request: Request, line: socket.socket, output: int) -> None:
        """In the fork: a session of its own, its output, and no trace of the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        line.send(ANSWER.pack(os.getpid(), RUNS))
        for other in (line, self._control, *self._lines.values()):
            other.close()
        os.dup2(output, 1)
        os.dup2(os.open(request.errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if request.errors else output, 2)
        _close_all_others()
        launch.take_identity(request.user_namespace, request.user)
        launch.die_with(self._owner_pid, request.death_signal)
        launch.go_to(request.cwd)


def _refuse(line: socket.socket, output: int, failure: Exception) -> None:
    with line, suppress(OSError):  # nobody asks any more
        os.write(output, f"the fork server cannot begin it: {type(failure).__name__}: {failure}\n".encode())
        line.send(ANSWER.pack(*NOBODY))


def _close_all_others() -> None:
    for name in os.listdir("/dev/fd"):  # also has the file by which it is listed
        if int(name) > 2:
            with suppress(OSError):
                os.close(int(name))


@cache
def preload() -> None:
    """Load what our commands need, once, and keep the garbage collector from writing to the pages that all share."""
    for module in PRELOADED:
        importlib.import_module(module)
    _use_once()
    gc.collect()
    gc.freeze()


def _use_once() -> None:
    """What libraries load at their first use only: SQLAlchemy its dialect, libpq its cryptography."""
    from psycopg2.extensions import encrypt_password
    from sqlalchemy import create_engine

    create_engine("postgresql+psycopg2://")
    encrypt_password("word", "user", algorithm="md5")


class Ending:
    """The end of a command: all that is to be done at it, but the interpreter is not taken down.

    That would write to each page of what is loaded, to free what the kernel frees at once: until then all share them.
    """

    def __init__(self) -> None:
        """To be made before anything else asks to be called at the end: so it is the last one called."""
        self.code: int | None = None  # None: not a command's end
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is None:
            return
        with suppress(
            OSError, ValueError, AttributeError
        ):  # Python has its own answer to output that cannot be written
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)


def call(request: Request, ending: Ending, module: str, function: str) -> NoReturn:
    """Be the command, as its script would call it."""
    os.environ.clear()
    os.environ.update(request.env)
    time.tzset()
    sys.argv = request.own_argv
    try:
        sys.exit(getattr(importlib.import_module(module), function)())
    except SystemExit as end:
        if isinstance(end.code, int | None):
            ending.code = end.code or 0
        raise


def execute(request: Request) -> NoReturn:
    """Become another program."""
    for name in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(name, signal.SIG_DFL)
    launch.run(request.argv, request.env)


class Title:
    """What ps shows as the command line of this process (Linux): it stands where the kernel has put the arguments."""

    def __init__(self) -> None:
        self._begin = self._end = 0
        if sys.platform == "linux":
            fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
            self._begin, self._end = int(fields[45]), int(fields[46])

    def show(self, argv: list[str]) -> None:
        """Show this; what is too long is cut."""
        room = self._end - self._begin
        if not room:
            return
        text = " ".join(argv).encode(errors="surrogateescape")[: room - 2]
        ctypes.memmove(self._begin, text.ljust(room - 1, b"\0") + b"\1", room)  # no NUL last: one text up to the first
        name = Path(argv[0] if argv[0] != sys.executable else argv[1]).name.encode()
        ctypes.CDLL(None).prctl(PR_SET_NAME, name[:15], 0, 0, 0)


if __name__ == "__main__":
    main()
