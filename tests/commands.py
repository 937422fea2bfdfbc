"""Our commands, run to their end in forks of a process that has loaded the libraries, as `citycache up` begins its own.

Started as programs each would load them anew, which takes a second of processor.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from backend.embedded import spawn
from backend.embedded.forks import HOME


def run(
    argv: Sequence[str | Path], env: Mapping[str, str], *, cwd: Path = HOME, patience: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run it without input; how it ended and what it said. subprocess.TimeoutExpired after `patience` seconds."""
    with TemporaryDirectory() as place:
        output, errors = Path(place) / "output", Path(place) / "errors"
        process = spawn.spawn(argv, log=output, errors=errors, env=env, cwd=cwd)
        try:
            code = process.wait(patience)
        finally:
            process.kill()
        return subprocess.CompletedProcess(argv, code, _told(output), _told(errors))


def _told(file: Path) -> str:
    return file.read_text(encoding="utf-8")
