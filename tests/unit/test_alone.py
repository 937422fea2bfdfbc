"""Who of the tests runs beside whom."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from tests.alone import ORDER, Company, turn

TOGETHER = {("crowd", "crowd"), ("calm", "calm")}
MOMENT = 0.3  # seconds, in which whoever need not wait has come in


class Guest:
    """Comes at once, and stays until it is told to leave."""

    def __init__(self, session: str, company: Company) -> None:
        self.is_in, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(session, company), daemon=True)
        self._thread.start()

    def comes_in(self, seconds: float = 10) -> bool:
        return self.is_in.wait(seconds)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(10)

    def _stay(self, session: str, company: Company) -> None:
        with turn(session, company) as self.end_load:
            self.is_in.set()
            self._leave.wait(20)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.parametrize("first", ORDER)
@pytest.mark.parametrize("second", ORDER)
def test_only_their_own_kind_runs_beside_them_and_nobody_beside_the_lone(first: Company, second: Company):
    session = str(uuid4())
    one = Guest(session, first)
    assert one.comes_in()
    other = Guest(session, second)

    assert other.comes_in(MOMENT) == ((first, second) in TOGETHER)

    one.leave()
    assert other.comes_in()
    other.leave()


@pytest.mark.parametrize("waiting", ["calm", "alone"])
def test_nobody_is_overtaken(waiting: Company):
    session = str(uuid4())
    one = Guest(session, "crowd")
    assert one.comes_in()
    patient = Guest(session, waiting)
    assert not patient.comes_in(MOMENT)
    late = Guest(session, "crowd")
    assert not late.comes_in(MOMENT)

    one.leave()
    assert patient.comes_in()
    assert not late.comes_in(MOMENT)

    patient.leave()
    assert late.comes_in()
    late.leave()


@pytest.mark.parametrize("company", ORDER)
def test_whoever_only_waits_any_more_is_in_nobodys_way(company: Company):
    session = str(uuid4())
    one = Guest(session, company)
    assert one.comes_in()
    other = Guest(session, "alone")
    assert not other.comes_in(MOMENT)

    one.end_load()
    assert other.comes_in()
    other.leave()
    one.leave()
