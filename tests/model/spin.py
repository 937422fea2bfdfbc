"""SPIN as a subprocess: all states of a model, or the shortest way into a mistake."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MODELS: Final = Path(__file__).resolve().parents[2] / "model"
DEEPEST: Final = 200_000  # steps of one run; a run that is cut off is an error
SECONDS: Final = 900
OPTIONS: Final = ("-O1", "-w", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=1024")  # each state for itself, none left out
VIOLATED: Final = re.compile(r"assertion violated\s+(.*?) \(at depth (\d+)\)")


@dataclass(frozen=True)
class Instance:
    """One model, made small enough."""

    model: str  # file in model/, without .pml
    macros: Sequence[str] = ()  # NAME or NAME=value

    def __str__(self) -> str:
        return " ".join([self.model, *self.macros])


@dataclass(frozen=True)
class Checked:
    """What SPIN found."""

    states: int
    depth: int  # of the longest run; of the trace when something is broken
    broken: str  # the promise that does not hold; empty: all hold in all states


class SpinFailed(Exception):
    """SPIN, the C compiler or the checker that they made did not do their work."""


def check(instance: Instance) -> Checked:
    """Look at every state. Raises SpinFailed where that was not possible."""
    return _checked(_run(instance, OPTIONS))


def shortest(instance: Instance) -> Checked:
    """Look breadth first, up to the first broken promise: no trace is shorter."""
    return _checked(_run(instance, (*OPTIONS, "-DBFS")))


def _run(instance: Instance, options: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="spin-") as place:
        macros = [f"-D{macro}" for macro in instance.macros]
        _call(["spin", "-a", *macros, str(MODELS / f"{instance.model}.pml")], place)
        _call(["cc", *options, "-o", "pan", "pan.c"], place)
        return _call(["./pan", f"-m{DEEPEST}"], place)


def _call(command: Sequence[str], place: str) -> str:
    done = subprocess.run(
        command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode != 0:
        raise SpinFailed(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _checked(output: str) -> Checked:
    states = re.search(r"(\d+) states, stored", output)
    depth = re.search(r"depth reached (\d+), errors: (\d+)", output)
    violated = VIOLATED.search(output)
    if not states or not depth or "max search depth too small" in output or bool(violated) != (depth[2] != "0"):
        raise SpinFailed(output[-3000:])
    return Checked(int(states[1]), int(violated[2] if violated else depth[1]), violated[1].strip() if violated else "")
