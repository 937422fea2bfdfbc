"""JSON as PostgreSQL's `json` keeps it: valid by its grammar, and yet more than most parsers read."""

from __future__ import annotations

import re
from typing import Final

# Each escape once, from left to right; group 1 is half of a surrogate pair.
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\(?s:.)"
)
_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\(?s:.))*+"?|([\[{])|[\]}]')
BYTE_BY_BYTE: Final = "latin-1"  # so that patterns look at bytes, whatever they encode


def legible(text: bytes) -> bytes:
    r"""Halves of surrogate pairs, which stand for no character, spelt out: `\ud83d` becomes the text '\ud83d'."""
    spelt = _ESCAPE.sub(lambda found: "\\" + found[1] if found[1] else found[0], text.decode(BYTE_BY_BYTE))
    return spelt.encode(BYTE_BY_BYTE)


def depth(text: bytes) -> int:
    """How many arrays and objects stand in one another, at most."""
    level = deepest = 0
    for found in _BRACKET.finditer(text.decode(BYTE_BY_BYTE)):
        if found[1]:
            level += 1
            deepest = max(deepest, level)
        elif not found[0].startswith('"'):
            level -= 1
    return deepest
