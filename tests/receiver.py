"""Who takes webhooks, as a process of its own well, slow, broken or ill-willed: `python -m tests.receiver FOLDER`.

It writes its port into `port`, behaves as `mode` says, and keeps each request as a line of JSON in `taken`.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.servers import ROOT
from tests.waiting import until

OK = b"HTTP/1.1 200 OK\r\n"
FOREVER = 10_000


class Answer(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        folder, body = Path(sys.argv[1]), self.rfile.read(int(self.headers["Content-Length"]))
        mode = (folder / "mode").read_text()
        line = {"path": self.path, "mode": mode, "headers": dict(self.headers), "body": body.decode()}
        with (folder / "taken").open("a") as taken:
            taken.write(json.dumps(line) + "\n")
        self.close_connection = True
        getattr(self, f"_{mode}")()

    do_GET = do_POST

    def _well(self) -> None:
        self.wfile.write(OK + b"Content-Length: 0\r\n\r\n")

    def _broken(self) -> None:
        self.wfile.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    def _busy(self) -> None:
        self.wfile.write(b"HTTP/1.1 429 Later\r\nContent-Length: 0\r\n\r\n")

    def _picky(self) -> None:
        """Takes nothing of the first incident."""
        is_first = self.headers["Webhook-Id"].startswith("incident-1-")
        self.wfile.write((b"HTTP/1.1 422 No\r\n" if is_first else OK) + b"Content-Length: 0\r\n\r\n")

    def _elsewhere(self) -> None:
        self.wfile.write(b"HTTP/1.1 307 There\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    def _silent(self) -> None:
        self._has_left(FOREVER)

    def _dripping(self) -> None:
        self._repeat(b"H", 0.2)

    def _endless(self) -> None:
        self.wfile.write(OK + b"\r\n")
        self._repeat(b"x", 0.2)

    def _repeat(self, piece: bytes, pause: float) -> None:
        while not self._has_left(pause):
            self.wfile.write(piece)
            self.wfile.flush()

    def _has_left(self, seconds: float) -> bool:
        """Whether the other side ends the connection within these seconds."""
        return bool(select.select([self.connection], [], [], seconds)[0])

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def handle(self) -> None:
        """The other side may leave at any time."""
        with suppress(OSError):
            super().handle()


@dataclass
class Receiver:
    """The process and what it took."""

    folder: Path
    url: str

    def behave(self, mode: str) -> None:
        """From the next request on."""
        (self.folder / "mode").write_text(mode)

    def taken(self, mode: str = "well") -> list[dict[str, Any]]:
        """Requests that it met in this mode."""
        file = self.folder / "taken"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if line["mode"] == mode]

    def ids(self) -> list[str]:
        """Of what it took well."""
        return [line["headers"]["Webhook-Id"] for line in self.taken()]


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """Start one, which is well."""
    folder.mkdir()
    (folder / "mode").write_text("well")
    process = subprocess.Popen([sys.executable, "-m", "tests.receiver", str(folder)], cwd=ROOT)
    try:
        until(lambda: (folder / "port").exists() and bool((folder / "port").read_text()), 20, "it listens")
        yield Receiver(folder, f"http://127.0.0.1:{(folder / 'port').read_text()}/hook?token=of-the-address")
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    ThreadingHTTPServer.daemon_threads = True
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Path(sys.argv[1], "port").write_text(str(server.server_address[1]))
        server.serve_forever()
