"""What is watched, and what is not."""

from __future__ import annotations

from backend.app.health import watchdog


def test_work_that_nobody_watches_leaves_no_mark_that_would_grow_old() -> None:
    watchdog.move("a guest")
    assert "a guest" not in watchdog._marks

    watchdog.watch("a guest", 0)
    first = watchdog._marks["a guest"]
    watchdog.move("a guest")
    assert watchdog._marks["a guest"] >= first

    watchdog.leave("a guest")
    assert "a guest" not in watchdog._marks
