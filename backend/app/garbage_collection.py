"""Memory of processes that live long: Python's collector and C's allocator, told what is usual in them."""

from __future__ import annotations

import ctypes
import gc
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


def _return_large_blocks() -> None:
    """glibc keeps blocks as large as the largest that was freed so far: one large message would make that 32 MiB."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # musl has none, and returns them anyway
        set_option(MMAP_THRESHOLD, LARGE_BYTES)
