"""What a process does between its fork and its command, so that it ends with its owner and, where asked, not as root.

In a process with threads none of it is safe: the fork server has one.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522
CLONE_NEWUSER = 0x10000000
UNPRIVILEGED_ID = 1000
CANNOT_START = 126


def take_identity(user_namespace: bool, user: str | None) -> None:
    """Run as somebody else, where asked."""
    if user_namespace:
        enter_user_namespace()
    elif user:
        become(user)


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
    """Give up root for the user `name`, but keep passing through folders that only root may enter.

    Root's own data folder and virtual environment often lie below one, and so do pytest's temporary folders.
    """
    user = pwd.getpwnam(name)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    keep = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(keep, keep, keep, 0, 0, 0)  # effective, permitted, inheritable; low, then high bits
    if libc.capset(header, sets) == 0:  # where a container forbids it, the folders must be open
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def die_with(owner: int, death_signal: int) -> None:
    """Ask the kernel for `death_signal` at the owner's death. A later change of identity would undo it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != owner:
        give_up("its owner ended before it began")


def go_to(folder: str) -> None:
    """Work there, or say why not."""
    try:
        os.chdir(folder)
    except OSError as error:
        give_up(f"cannot work in {folder}: {error.strerror}")


def run(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Become the command, or say why not."""
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        give_up(f"cannot run {command[0]}: {error.strerror}")


def give_up(reason: str) -> NoReturn:
    """Tell the reason on standard error and end."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(CANNOT_START)
