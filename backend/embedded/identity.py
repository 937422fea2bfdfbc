"""As whom a server runs that refuses root, as PostgreSQL does."""

from __future__ import annotations

import os
import pwd
import tempfile
from functools import cache
from pathlib import Path

from backend.embedded import spawn
from backend.embedded.errors import StartFailed


def choose_identity(folder: Path, program: Path) -> spawn.Identity:
    """As we are unless we are root; then in a user namespace, else as a system user that reaches both paths.

    StartFailed when there is no such user.
    """
    if os.geteuid() != 0:
        return spawn.OURSELVES
    if user_namespaces_work():
        return spawn.Identity(namespace=True)
    return spawn.Identity(user=_reaching_user(folder, program))


@cache
def user_namespaces_work() -> bool:
    """Whether this machine lets us make a user namespace (many containers do not)."""
    with tempfile.TemporaryDirectory() as place:
        probe = spawn.spawn(["true"], log=Path(place) / "log", identity=spawn.Identity(namespace=True))
        return probe.wait(20) == 0


def _reaching_user(folder: Path, program: Path) -> str:
    names = [name for name in ("postgres", "nobody") if _is_user(name)]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in names:
        give_away(folder, name)
        if _succeeds(name, "test", "-e", f"{folder}/.") and _succeeds(name, program, "--version"):
            return name
    raise StartFailed(
        "PostgreSQL does not run as root, user namespaces are not allowed here, and no other user "
        f"({', '.join(names) or 'postgres or nobody'}) reaches {folder} and {program}. "
        "Run citycache as an ordinary user, move it out of a folder that only root may enter, "
        "or set DATABASE_URL."
    )


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _succeeds(user: str, *command: str | Path) -> bool:
    with tempfile.TemporaryDirectory() as place:
        return spawn.spawn(command, log=Path(place) / "log", identity=spawn.Identity(user=user)).wait(20) == 0


def give_away(folder: Path, user: str) -> None:
    """Make `user` the owner of the folder and all that is in it."""
    owner = pwd.getpwnam(user)
    for path in [folder, *folder.rglob("*")]:
        if path.lstat().st_uid != owner.pw_uid:
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
