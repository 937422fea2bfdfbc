"""How the address of a request is told to others."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import Scope

LONGEST: Final = 300  # characters
_ID: Final = re.compile(r"-?[0-9]{1,19}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def told(scope: Scope) -> str:
    """The path, with a parameter's name for each value that is no id: such a value may be anything, a secret too."""
    given = {name: str(value) for name, value in scope.get("path_params", {}).items()}
    odd = {value: f"{{{name}}}" for name, value in given.items() if not _ID.fullmatch(value)}
    return "/".join(odd.get(part, part) for part in scope["path"].strip().split("/"))[:LONGEST]
