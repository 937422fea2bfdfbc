"""API keys: each has a name, which the audit log shows, and a role. A key itself is kept nowhere but in memory."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

Role = Literal["read", "operate", "admin"]
ROLES: Final[tuple[Role, ...]] = ("read", "operate", "admin")  # each may do what those before it may
DEFAULT: Final = "default"  # the name of API_KEY
SHORTEST: Final = 16  # characters of a key in API_KEYS
LONGEST: Final = 512  # characters of any key
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """One key, by its digest: digests have one length, so comparing them tells nothing of the key's."""

    name: str
    role: Role
    digest: bytes = field(repr=False)

    def allows(self, role: Role) -> bool:
        """Whether this key may do what needs `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


def parse(text: str) -> tuple[Key, ...]:
    """The keys of API_KEYS, "name:role:key,…"; ValueError that shows nothing of an entry: a key may be in any place."""
    found: dict[str, Key] = {}
    for number, part in enumerate(map(str.strip, text.split(",")) if text else (), start=1):
        if not part:
            raise ValueError(f"entry {number} is empty: entries are separated by single commas")
        name, _, rest = part.partition(":")
        role, _, key = rest.partition(":")
        if not _NAME.fullmatch(name) or name in found or name == DEFAULT:
            raise ValueError(f"entry {number} needs a name of its own: letters, digits, '.', '_', '-', not {DEFAULT!r}")
        known = next((known for known in ROLES if known == role), None)
        if known is None:
            raise ValueError(f"entry {number} needs a role: {', '.join(ROLES)}")
        if len(key) < SHORTEST or " " in key:
            raise ValueError(f"entry {number} needs a key of at least {SHORTEST} visible ASCII characters")
        check(key, f"entry {number}")
        if find(key.encode(), tuple(found.values())):
            raise ValueError(f"entry {number} has the key of an earlier entry, so nobody could tell who used it")
        found[name] = Key(name, known, _digest(key.encode()))
    return tuple(found.values())


def check(key: str, whose: str = "the key") -> None:
    """ValueError unless a header can carry the key as it is."""
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError(f"{whose} may have visible ASCII characters only, and no blanks at its ends")
    if len(key) > LONGEST:
        raise ValueError(f"{whose} has more than {LONGEST} characters")


@cache
def all_of(api_key: str, api_keys: str) -> tuple[Key, ...]:
    """API_KEY, with every right, and the keys of API_KEYS."""
    lone = (Key(DEFAULT, "admin", _digest(api_key.encode())),) if api_key else ()
    return (*lone, *parse(api_keys))


def find(shown: bytes, among: Sequence[Key]) -> Key | None:
    """The key that was shown. Every key is compared, whichever fits, so that time tells nothing."""
    digest, found = _digest(shown), None
    for key in among:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
