"""The real feed without an end: played by `citycache import` round after round, each round with ids of its own."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backend.embedded import spawn
from tests.servers import ROOT
from tests.system import SCRIPTS

FEED: Final = ROOT / "tests" / "data" / "techconf" / "changes.jsonl.gz"
AGAIN_SECONDS: Final = 0.3
BAD_LINE: Final = re.compile(r":(\d+): ")


class Feed:
    """A writer that goes on after every interruption with the line that the import names."""

    def __init__(self, environment: Mapping[str, str], place: Path, rate: int) -> None:
        """`rate` lines a second, on the database that the environment names."""
        self.lines = 0  # applied
        self.interruptions = 0
        self._environment, self._place, self._rate = environment, place, rate

    def play(self, stop: threading.Event) -> None:
        """Play until stopped, which ends it in the middle of a round."""
        for number in range(1, 1_000_000):
            file, line = self._place / "round.jsonl", 1
            _write_round(file, number)
            while line is not None:
                if stop.is_set():
                    return
                line = self._import(file, line, stop)

    def _import(self, file: Path, line: int, stop: threading.Event) -> int | None:
        """One run of the import; the line to go on with, None at the end of the file."""
        output = self._place / "import.out"
        output.unlink(missing_ok=True)
        process = spawn.spawn(
            [SCRIPTS / "citycache", "import", file, "--from-line", str(line), "--rate", str(self._rate), "--json"],
            log=output, env=self._environment, cwd=ROOT,
        )  # fmt: skip
        while process.poll() is None:
            if stop.wait(0.05):
                spawn.end(process, spawn.signal.SIGTERM, 5)
                return line
        answer = _last_object(output)
        self.lines += answer.get("lines", 0)
        if answer.get("ok"):
            return None
        self.interruptions += 1
        stop.wait(AGAIN_SECONDS)
        return _next_line(answer, line)


def _next_line(answer: dict[str, Any], line: int) -> int:
    """After an interruption the last transaction may have been committed and not confirmed; done again, a line of it
    may name what a later one has deleted. Such a line is left out."""
    bad = BAD_LINE.search(answer.get("error", ""))
    return int(bad[1]) + 1 if bad else int(answer.get("next_line", line))


def _last_object(output: Path) -> dict[str, Any]:
    for text in reversed(output.read_text(errors="replace").splitlines()):
        if text.startswith("{"):
            found: dict[str, Any] = json.loads(text)
            return found
    return {}


def _write_round(file: Path, number: int) -> None:
    """The feed with every id and parent marked by the round."""
    with gzip.open(FEED, "rt") as lines, file.open("w") as out:
        for line in lines:
            change = json.loads(line)
            for name in ("id", "parent"):
                if change.get(name):
                    change[name] = f"{number}:{change[name]}"
            out.write(json.dumps(change) + "\n")
