"""How every command says what came of it: 0 is well."""

from __future__ import annotations

from typing import Final

NO: Final = 1  # the answer is no, or it could not be done now
WRONG: Final = 2  # wrong use or bad input
INTERRUPTED: Final = 130  # as shells say
