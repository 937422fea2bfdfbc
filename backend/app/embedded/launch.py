"""Run one command so that it ends with its owner and, where asked, not as root. `spawn` runs it as a script.

It replaces itself by the command (exec), so the process id stays the same. A `preexec_fn` could do the same
but is not safe in a process with threads. Only the standard library is imported: that takes 20 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
UNPRIVILEGED_ID = 1000
CANNOT_START = 126


def main() -> None:
    """Read the wishes, follow them, become the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    identity = parser.add_mutually_exclusive_group()
    identity.add_argument("--user-namespace", action="store_true")
    identity.add_argument("--user")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    wishes = parser.parse_args()
    if wishes.user_namespace:
        enter_user_namespace()
    elif wishes.user:
        become(wishes.user)
    die_with(wishes.owner, wishes.death_signal)
    run(wishes.command[1:])


def enter_user_namespace() -> None:
    """Be an ordinary user by name while files stay those of the caller: PostgreSQL refuses user id 0."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        give_up(f"user namespaces are not allowed here: {os.strerror(ctypes.get_errno())}")
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{UNPRIVILEGED_ID} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{UNPRIVILEGED_ID} {gid} 1")
    except OSError as error:
        give_up(f"user namespaces are not allowed here: {error}")


def become(name: str) -> None:
    """Give up root for the user `name`."""
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def die_with(owner: int, death_signal: int) -> None:
    """Ask the kernel for `death_signal` at the owner's death. A later change of identity would undo it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != owner:
        give_up("its owner ended before it began")


def run(command: list[str]) -> None:
    """Become the command, or say why not."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        give_up(f"cannot run {command[0]}: {error.strerror}")


def give_up(reason: str) -> None:
    """Tell the reason on standard error and end."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(CANNOT_START)


if __name__ == "__main__":
    main()
