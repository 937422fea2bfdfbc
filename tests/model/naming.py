"""What a statement is called: its name in the product's .sql files, or its first words."""

from __future__ import annotations

from typing import Final

from backend.app.caches import apply, diff, patch, under_way, watched
from backend.app.ledger import ledger, lifeline
from events import outbox

FILES: Final = (
    *(patch.SQL, apply.SQL, diff.SQL, under_way.SQL, watched.SQL, outbox.SQL),
    *(lifeline.SQL, ledger.SQL),
)
LONGEST: Final = 40  # characters of a statement without a name


def name_of(statement: str) -> str:
    """As it is said in traces."""
    for statements in FILES:
        for name, sql in statements.items():
            if sql == statement:
                return name
    return " ".join(statement.split())[:LONGEST]


def first_word_of(statement: str) -> str:
    """SELECT, INSERT, WITH, ...; comments come before it."""
    lines = (line.strip() for line in statement.splitlines())
    return next(line for line in lines if line and not line.startswith("--")).partition(" ")[0].upper()
