"""Memory of processes that live long: Python's collector and C's allocator, told what is usual in them."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Any, Final

LARGE_BYTES: Final = 256 * 1024  # blocks from here on are the system's again as soon as they are freed
MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
YOUNG: Final = 50_000  # containers made and not freed between two collections; a batch in hand has some thousands


def collect_seldom(**kwargs: Any) -> None:
    """What is loaded by now stays and is looked through no more; what comes later is, but not amid every batch.

    Large blocks are given back when they are freed.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
    _return_large_blocks()


def fork_small(**kwargs: Any) -> None:
    """From now on this process gives back what it can before it forks: a child has all of its memory for good."""
    os.register_at_fork(before=_give_back)


def _give_back() -> None:
    gc.collect()
    if trim := _of_malloc("malloc_trim"):
        trim(0)


def _return_large_blocks() -> None:
    """glibc keeps blocks as large as the largest that was freed so far: one large message would make that 32 MiB."""
    if set_option := _of_malloc("mallopt"):
        set_option(MMAP_THRESHOLD, LARGE_BYTES)


def _of_malloc(name: str) -> Callable[..., int] | None:
    """A function of glibc's; musl has neither, and returns memory anyway."""
    return getattr(ctypes.CDLL(None), name, None)
