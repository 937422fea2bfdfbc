"""Statements that a session runs many times a second: planned about once a second, not each time.

To plan a long statement for a few keys takes longer than to run it. A plan that was made while tables were empty would
do harm after an import of a million rows, so none is kept for long.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

KEPT_SECONDS: Final = 1.0  # that a plan is used; a statement that was not run for so long is not worth one
PARAMETER: Final = re.compile(r"%\((\w+)\)s")  # in the driver's style
GENERIC: Final = "SET LOCAL plan_cache_mode = force_generic_plan"  # else the first five runs are planned each
Result = TypeVar("Result")
Execute = Callable[[str, Mapping[str, Any]], Result]


@dataclass(frozen=True)
class _KeptPlan:
    name: str
    run: str
    until: float  # monotonic seconds


class Prepared:
    """Of one session."""

    def __init__(self, seconds: float = KEPT_SECONDS) -> None:
        self._seconds = seconds
        self._ran: dict[str, float] = {}  # when each statement ran last, monotonic
        self._plans: dict[str, _KeptPlan] = {}
        self._made = 0

    def run(self, execute: Execute[Result], statement: str, parameters: Mapping[str, Any]) -> Result:
        """What `execute` returns of the statement, which is for few rows. The type of each parameter must follow from
        where it stands first. Raises what `execute` raises."""
        now = time.monotonic()
        is_often = now - self._ran.get(statement, -self._seconds) < self._seconds
        self._ran[statement] = now
        plan = self._plans.get(statement)
        if plan is None or now >= plan.until:
            if not is_often:
                return execute(statement, parameters)
            plan = self._prepare(execute, statement, parameters)
        return execute(plan.run, parameters)

    def _prepare(self, execute: Execute[Any], statement: str, parameters: Mapping[str, Any]) -> _KeptPlan:
        """Names are never used again, so one whose end is unknown is in nobody's way."""
        names = list(dict.fromkeys(PARAMETER.findall(statement)))
        numbered = PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
        self._made += 1
        name, before = f"often_{self._made}", self._plans.pop(statement, None)
        given = ", ".join(f"%({each})s" for each in names)
        execute((f"DEALLOCATE {before.name}; " if before else "") + f"PREPARE {name} AS {numbered}", parameters)
        run = f"{GENERIC}; EXECUTE {name}" + (f" ({given})" if names else "")
        plan = self._plans[statement] = _KeptPlan(name, run, time.monotonic() + self._seconds)
        return plan
