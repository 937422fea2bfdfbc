"""Start processes that end with their owner, look at running ones, and end them within a deadline."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakSet

from backend.embedded.errors import EmbeddedError
from backend.embedded.fork_server import ANSWER, RUNS, Request
from backend.embedded.forks import answered, forks

UNKNOWN_END = 255  # the exit code of whoever outlived the fork server
LOOK_EVERY = 0.02
LEAST_PORT = 20_000
PORTS_TRIED = 50
USUAL_EPHEMERAL = 32_768  # Linux's own choice of the first port for the local ends of connections


@dataclass(frozen=True)
class Identity:
    """As whom a process runs."""

    namespace: bool = False  # in a user namespace of its own: not root by name, still the owner of root's files
    user: str | None = None  # as this system user


OURSELVES = Identity()


class Process:
    """A process that the fork server has begun for us; used like a `subprocess.Popen`."""

    def __init__(self, line: int, pid: int, code: int) -> None:
        """`line` is an open file that will tell its end, and is closed with this; `code` is RUNS, or its exit code."""
        self.line, self._lock = line, threading.Lock()
        self.pid = pid
        self.returncode = None if code == RUNS else code  # negative: the signal that ended it
        _begun.add(self)

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        with self._lock:
            if self.returncode is None and self._has_news(0):
                try:
                    _, self.returncode = answered(os.read(self.line, ANSWER.size))
                except (OSError, EOFError):  # nobody is left to read the code; the process has its death signal
                    self.returncode = None if is_running(self.pid) else UNKNOWN_END
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; subprocess.TimeoutExpired when it still runs after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            if self._has_news(left) and self.poll() is None:
                time.sleep(LOOK_EVERY)
        return code

    def send_signal(self, what: int) -> None:
        """Whoever has ended gets none."""
        if self.poll() is None:
            signal_stranger(self.pid, what)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _has_news(self, seconds: float | None) -> bool:
        news = select.poll()
        news.register(self.line, select.POLLIN)
        return bool(news.poll(None if seconds is None else 1000 * seconds))

    def __del__(self) -> None:
        os.close(self.line)


_begun: Final = WeakSet[Process]()


def await_an_end(seconds: float) -> None:
    """Return when a process that we have begun ends, after `seconds` at the latest."""
    running = [process for process in list(_begun) if process.returncode is None]
    news = select.poll()
    for process in running:
        news.register(process.line, select.POLLIN)
    if news.poll(1000 * seconds) and all(process.poll() is None for process in running):
        time.sleep(LOOK_EVERY)  # whoever outlives the fork server has news all the time


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    errors: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    identity: Identity = OURSELVES,
    death_signal: signal.Signals = signal.SIGTERM,
) -> Process:
    """Start `argv` in its own session, output appended to `log`, where named its standard error to `errors` instead;
    `death_signal` reaches it when we die.

    The session keeps a terminal's Ctrl-C away from it: its owner decides when it ends.
    """
    request = Request(
        argv=[str(part) for part in argv],
        env=dict(os.environ if env is None else env),
        cwd=str(cwd or Path.cwd()),
        death_signal=int(death_signal),
        user_namespace=identity.namespace,
        user=identity.user,
        errors=None if errors is None else str(errors),
    )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return Process(*forks.begin(request, output))


def end(process: Process, polite: signal.Signals, patience: float) -> bool:
    """Send `polite`, wait up to `patience` seconds, then SIGKILL. True when it ended by itself."""
    if process.poll() is not None:
        return True
    process.send_signal(polite)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


def end_stranger(pid: int, polite: signal.Signals, patience: float) -> None:
    """The same for a process that is not our child, such as one left behind by an owner that was killed."""
    signal_stranger(pid, polite)
    if not wait_until_gone([pid], patience):
        signal_stranger(pid, signal.SIGKILL)
        wait_until_gone([pid], patience)


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL each that is still there."""
    for pid in pids:
        signal_stranger(pid, signal.SIGKILL)


def wait_until_gone(pids: Sequence[int], patience: float) -> bool:
    """True as soon as none of these processes runs, False after `patience` seconds."""
    deadline = time.monotonic() + patience
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True


def signal_stranger(pid: int, what: int) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than an unread exit code (a zombie)."""
    stat = _stat(pid)
    if stat is not None:
        return stat[0] not in "ZX"
    if sys.platform == "linux":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def started_at(pid: int) -> str:
    """What tells this process from a later one with the same id; empty when there is none."""
    if sys.platform == "linux":
        stat = _stat(pid)
        return stat[19] if stat else ""
    return _ps("lstart", pid).replace(" ", "_")


def command_line(pid: int) -> str:
    """The command of a process, its arguments separated by blanks; empty when there is none."""
    if sys.platform != "linux":
        return _ps("command", pid)
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """The process ids of all children and their children (Linux; elsewhere empty)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(entry.name))
        if stat is not None:
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on: [0] state, [1] parent, [19] start in ticks since boot."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _ps(column: str, pid: int) -> str:
    answer = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
    )
    return answer.stdout.strip()


def free_port(preferred: int | None = None) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; `preferred` when that one is free.

    It is none of those from which the kernel takes the local ends of connections: one of these may be taken by any
    connection before the server listens.
    """
    chosen = secrets.SystemRandom().sample(range(LEAST_PORT, _first_ephemeral()), PORTS_TRIED)
    for port in (preferred, *chosen) if preferred else chosen:
        if is_free(port):
            return port
    raise EmbeddedError(f"{PORTS_TRIED} ports from {LEAST_PORT} on were tried, and none is free")


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_EPHEMERAL
    return first if first >= LEAST_PORT + PORTS_TRIED else USUAL_EPHEMERAL


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
