"""The fork server of this process, as seen from it: started when it is needed, another one when it was killed."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Final

from backend.embedded.errors import EmbeddedError
from backend.embedded.fork_server import ANSWER, NOBODY, ROOM, Request

MODULE: Final = "backend.embedded.fork_server"
HOME: Final = Path(__file__).parents[2]
TRIED: Final = 3  # fork servers, before a request is given up
PATIENCE: Final = 60.0  # seconds, within which a request is answered; the first one waits for the libraries
GONE: Final = (
    EOFError,
    BrokenPipeError,
    ConnectionResetError,
    TimeoutError,
)  # what a server that is gone or stands does


class ForkServer:
    """One that runs."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-u", "-m", MODULE, str(theirs.fileno()), "-" * ROOM]
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                cwd=HOME,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )

    def begin(self, request: Request, output: IO[bytes]) -> Begun:
        """Have a process begun. One of GONE when this server is; another OSError for what is no fault of its."""
        line, theirs = socket.socketpair()
        with line:
            with theirs:
                socket.send_fds(self._control, [b"f"], [theirs.fileno(), output.fileno()])
            line.settimeout(PATIENCE)
            line.sendall(request.as_line())
            answer = answered(line.recv(ANSWER.size))
            line.settimeout(None)
            return line.detach(), *answer

    def end(self) -> None:
        """SIGKILL; what it forked gets its death signal."""
        self._control.close()
        self.process.kill()
        self.process.wait()


Begun = tuple[int, int, int]  # the file that will tell its end, process id, RUNS or exit code


def answered(told: bytes) -> tuple[int, int]:
    """Process id, RUNS or exit code. EOFError when there is no answer, since the server is gone."""
    if len(told) < ANSWER.size:
        raise EOFError("the fork server is gone")
    pid, code = ANSWER.unpack(told)
    return pid, code


class Forks:
    """One fork server at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServer | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        server = self._server
        return server.process.pid if server is not None and server.process.poll() is None else None

    def begin(self, request: Request, output: IO[bytes]) -> Begun:
        """Have a process begun. EmbeddedError when that cannot be; what was begun before goes on, unless its server is
        gone."""
        try:
            begun = self._begin(request, output)
        except OSError as failure:  # ours, such as too many open files
            raise EmbeddedError(f"{request.argv[0]} cannot be begun: {failure.strerror}") from failure
        if begun[1:] == NOBODY:
            os.close(begun[0])
            raise EmbeddedError(f"{request.argv[0]} cannot be begun; its log says why")
        return begun

    def _begin(self, request: Request, output: IO[bytes]) -> Begun:
        for _ in range(TRIED):
            server = self._one()
            try:
                return server.begin(request, output)
            except GONE:
                self._forget(server)
        raise EmbeddedError(f"{TRIED} fork servers ended or stood still when asked for {request.argv[0]}")

    def end(self) -> None:
        """Leave none behind."""
        if self._server is not None:
            self._forget(self._server)

    def _one(self) -> ForkServer:
        with self._lock:
            if self._server is None:
                self._server = ForkServer()
            return self._server

    def _forget(self, server: ForkServer) -> None:
        with self._lock:
            if self._server is server:  # no other thread was quicker
                server.end()
                self._server = None


forks: Final = Forks()
atexit.register(forks.end)
