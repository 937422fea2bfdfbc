"""Read named statements from .sql files, so that they can be opened in psql as they are."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def statements(path: Path) -> dict[str, str]:
    """The file's statements by name; a name stands in a line '-- name: NAME' above its statement."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}
