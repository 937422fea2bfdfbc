"""A system whose beat runs the fast schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faults.plant import Plant
from tests.system import System


class Beats(Plant):
    """Its beat runs the fast schedule."""

    module = "tests.acceptance.fast_schedule"

    def _commands(self) -> Mapping[str, Any]:
        def beat(name: str) -> list[str]:
            command = System._commands(self)["beat"](name)
            return [part.replace("backend.app.celery_app", self.module) for part in command]

        return {**super()._commands(), "beat": beat}
