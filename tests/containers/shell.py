"""Commands with a deadline."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers import ROOT

LAST_LINES = 12


class Failed(Exception):
    """A command, or what was expected of it, failed."""


def run(
    *words: object,
    env: Mapping[str, str],
    seconds: float = 60,
    cwd: Path = ROOT,
    given: bytes = b"",
    codes: tuple[int, ...] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run it to its end. Raises Failed when it takes longer, or ends with none of these codes."""
    command = list(map(str, words))
    try:
        done = subprocess.run(command, env=env, cwd=cwd, input=given, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(command)}: no end within {seconds:g} s") from late
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode not in codes:
        said = "\n".join((out + err).strip().splitlines()[-LAST_LINES:])
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return subprocess.CompletedProcess(command, done.returncode, out, err)
