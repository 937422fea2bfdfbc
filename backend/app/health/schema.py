"""Which schema this release needs. A newer one is no fault: what a release adds, the one before it can live with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from backend.app import db


@dataclass(frozen=True)
class Needed:
    """The newest revision that this release knows, and those before it."""

    revision: str
    older: frozenset[str]

    def is_older(self, version: str | None) -> bool:
        """Whether a database at this revision lacks something; a revision that is not known here is a newer one."""
        return version is None or version in self.older


@cache
def needed() -> Needed:
    """Read from this release's migrations."""
    scripts = ScriptDirectory.from_config(Config(str(Path(db.__file__).parents[1] / "alembic.ini")))
    head = str(scripts.get_current_head())
    return Needed(head, frozenset(script.revision for script in scripts.walk_revisions()) - {head})
