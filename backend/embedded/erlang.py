"""What RabbitMQ needs of Erlang: the port mapper (epmd), and where things are installed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from backend.embedded import spawn
from backend.embedded.errors import ServerMissing, StartFailed


class PortMapper:
    """One epmd, through which the nodes of a cluster find each other and `rabbitmqctl` finds them."""

    def __init__(self, log: Path) -> None:
        self.port = 0
        self._log = log
        self._process: spawn.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1, the same again after a stop. StartFailed after 10 s."""
        if self.pid is not None:
            return
        self.port = self.port or spawn.free_port()
        command: list[str | Path] = [find_epmd(), "-port", str(self.port), "-address", "127.0.0.1"]
        self._process = spawn.spawn(command, log=self._log, death_signal=signal.SIGKILL)
        deadline = time.monotonic() + 10
        while spawn.is_free(self.port):
            if self.pid is None or time.monotonic() > deadline:
                raise StartFailed(
                    f"Erlang's port mapper did not start; {self._log} ends with:\n{spawn.tail(self._log)}"
                )
            time.sleep(spawn.LOOK_EVERY)

    def stop(self) -> None:
        """End it; nodes that run go on, but can no longer be found."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def find_server() -> Path | None:
    """The server's script: RABBITMQ_SERVER, the package's folder, then PATH. None when there is none.

    Debian and RedHat put a wrapper into PATH that changes the user and drops the environment; the real script
    lies in /usr/lib/rabbitmq.
    """
    named = os.environ.get("RABBITMQ_SERVER")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    places = [Path("/usr/lib/rabbitmq/bin/rabbitmq-server")]
    places += sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"), reverse=True)
    on_path = shutil.which("rabbitmq-server")
    places += [Path(on_path)] if on_path else []
    return next((place for place in places if os.access(place, os.X_OK)), None)


def find_epmd() -> Path:
    """Erlang's port mapper: beside `erl`, or inside Erlang's root."""
    on_path = shutil.which("epmd")
    if on_path:
        return Path(on_path)
    erl = shutil.which("erl")
    inside = sorted(Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd")) if erl else []
    if not inside:
        raise ServerMissing("Erlang's port mapper (epmd) was not found")
    return inside[-1]
