"""A fork server whose second process cannot be forked, as where a container has no more."""

from __future__ import annotations

import errno
import os
from itertools import count

from backend.embedded import fork_server

fork, forks = os.fork, count(1)


def fork_unless_second() -> int:
    """As the system does it, but for once."""
    if next(forks) == 2:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()


if __name__ == "__main__":
    os.fork = fork_unless_second
    fork_server.main()
