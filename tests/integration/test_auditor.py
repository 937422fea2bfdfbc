"""The auditor finds every kind of wrong row, mends it, and never alarms on what is merely under way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

import pytest

from backend.app import db
from backend.app import settings as own
from backend.app.caches import diff, rebuilds
from backend.app.caches.apply import apply
from backend.app.caches.keys import Cause, Keys
from backend.app.ledger import retention
from backend.app.observing import findings as findings_module
from backend.app.observing import history, nines
from backend.app.observing.auditor import Auditor
from tests import catalogs, oracle
from tests.plain import Plain
from tests.waiting import until

CAUSE = Cause("test")
TAMPERINGS = {
    "missing": ("products", "DELETE FROM product_city_mapping WHERE product_id = 7"),
    "extra": ("companies", "INSERT INTO company_city_mapping (company_id, city_id) VALUES (999999, 1)"),
    "different": ("products", "UPDATE product_city_mapping SET city_id = city_id % 5 + 1 WHERE product_id = 8"),
    "kind": ("products", "UPDATE product_city_mapping SET kind = 'service' WHERE product_id = 1"),
    "counts": ("counts", "UPDATE city_counts SET services_count = services_count + 7 WHERE city_id = 2"),
    "no counts": ("counts", "DELETE FROM city_counts WHERE city_id = 3"),
    "active": ("active", "UPDATE active_cities_cache SET active_city_ids = '{1}' WHERE cache_type = 'products'"),
    "totals": ("active", "UPDATE active_cities_cache SET total_companies = 0 WHERE cache_type = 'companies'"),
    "no active": ("active", "DELETE FROM active_cities_cache WHERE cache_type = 'companies'"),
}


@pytest.fixture
def plain(database: str, configured_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """5 cities, 20 companies, 200 products, right caches, and an auditor that may use a whole core."""
    monkeypatch.setenv("AUDIT_GRACE_SECONDS", "0.2")
    monkeypatch.setenv("AUDIT_CORE_SHARE", "1")
    monkeypatch.setattr("backend.app.observing.auditor.WHOLE_SECONDS", 0.2)
    monkeypatch.setattr("backend.app.observing.auditor.SWEEP_SECONDS", 0.2)
    own.settings.cache_clear()
    with Plain(database) as plain:
        catalogs.many(plain, cities=5, companies=20, products=200)
        for what in ("products", "companies"):
            rebuilds.rebuild(what, CAUSE)
        catalogs.no_events(plain)
        yield plain


def findings(plain: Plain) -> list[tuple[str, str, str]]:
    return plain.all("SELECT cache, key, side FROM audit_findings ORDER BY id")


def right(plain: Plain) -> bool:
    return oracle.violations(plain) + oracle.snapshot_violations(plain) == []


def rounds(auditor: Auditor, number: int) -> None:
    """So many rounds, each as soon as the auditor wants it."""
    for _ in range(number):
        auditor._next_step = 0.0
        auditor.run_once()


def looked_twice(auditor: Auditor, plain: Plain) -> None:
    """Until both mappings were swept and judged at least once more."""
    checked = "SELECT coalesce(sum(checked), 0) FROM audit_minutes WHERE cache = 'companies'"
    goal = plain.one(checked) + 60

    def enough() -> bool:
        rounds(auditor, 1)
        return bool(plain.one(checked) >= goal)

    until(enough, 20)


def promised(auditor: Auditor) -> dict[str, float]:
    """What the auditor promises after whole rounds at its own pace."""

    def whole() -> bool:
        auditor.run_once()
        return len(nines.levels()["found_within_seconds"]) == 4

    until(whole, 30)
    return dict(nines.levels()["found_within_seconds"])


@pytest.mark.parametrize("kind", sorted(TAMPERINGS))
def test_finds_each_kind_of_wrong_row_as_soon_as_it_promises_and_mends_it(plain: Plain, kind: str) -> None:
    # Given an auditor that has come round
    cache, tampering = TAMPERINGS[kind]
    auditor = Auditor(passed=lambda instant: True)
    promise = promised(auditor)
    plain.run(tampering)

    # When it goes on at its own pace
    def found() -> bool:
        auditor.run_once()
        return cache in [finding[0] for finding in findings(plain)]

    # Then it finds what is wrong in the promised time, and a moment more for a busy machine
    until(found, promise[cache] + 5)
    until(lambda: (rounds(auditor, 1), right(plain))[1], 20)  # counts that differ from a tampered mapping as well
    assert plain.one("SELECT count(*) FROM audit_findings WHERE repaired_at IS NULL") == 0


def test_promises_nothing_before_it_has_come_round_and_more_time_for_longer_rounds(plain: Plain) -> None:
    assert nines.levels()["found_within_seconds"] == {}
    auditor = Auditor(passed=lambda instant: True)
    rounds(auditor, 1)
    assert nines.levels()["found_within_seconds"] == {}
    short = promised(auditor)
    plain.run("UPDATE audit_minutes SET round_seconds = 500 WHERE cache = 'products'")
    assert nines.levels()["found_within_seconds"]["products"] == pytest.approx(502.2)
    assert nines.levels()["found_within_seconds"]["counts"] == short["counts"]


def test_a_round_is_as_long_as_the_table_is_large(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 products in windows of 50 ids take four steps of half a second at least."""
    monkeypatch.setattr("backend.app.observing.auditor.WINDOW_IDS", 50)
    promise = promised(Auditor(passed=lambda instant: True))
    assert promise["products"] > 4 * 0.5 + 0.2
    assert promise["products"] > promise["counts"]


def test_right_caches_give_no_finding(plain: Plain) -> None:
    looked_twice(Auditor(passed=lambda instant: True), plain)
    assert findings(plain) == []


def test_a_change_whose_event_is_under_way_is_no_finding(plain: Plain) -> None:
    # Given a company that has moved, its event not yet applied, and a pipeline that has not passed that
    auditor = Auditor(passed=lambda instant: False)
    plain.run("UPDATE companies SET city_id = 5 WHERE id = 1")
    looked_twice(auditor, plain)
    assert auditor.suspects
    assert findings(plain) == []

    # When the event is applied
    apply(Keys((), [1], ()), CAUSE)
    auditor.passed = lambda instant: True

    # Then the suspects are acquitted
    def acquitted() -> bool:
        rounds(auditor, 1)
        return not auditor.suspects

    until(acquitted, 10)
    assert findings(plain) == []


@pytest.mark.parametrize("event_comes", ["while it is as it was", "while it is as it will be"])
def test_a_row_that_is_written_again_and_again_is_no_finding(plain: Plain, event_comes: str) -> None:
    # Given a key that is late at every look, each time because of a newer write
    applied_before: datetime = plain.one("SELECT clock_timestamp()")
    passed = 0

    def has_passed(instant: datetime) -> bool:
        nonlocal passed
        passed += instant < applied_before
        return instant < applied_before

    auditor = Auditor(has_passed)
    plain.run("DELETE FROM products WHERE id = 9")
    until(lambda: (rounds(auditor, 1), auditor.suspects)[1], 10)

    def still_suspect() -> bool:
        nonlocal applied_before
        if event_comes == "while it is as it will be":
            apply(Keys([9]), CAUSE)
        plain.run("INSERT INTO products (id, company_id, name) VALUES (9, 4, 'again')")
        apply(Keys([9]), CAUSE)
        applied_before = plain.one("SELECT clock_timestamp()")
        plain.run("DELETE FROM products WHERE id = 9")
        for suspect in auditor.suspects.values():
            suspect.due = 0.0
        rounds(auditor, 1)
        return False

    # When it is judged again and again
    with pytest.raises(AssertionError, match="not within"):
        until(still_suspect, 2)

    # Then nobody calls it wrong
    assert passed > 5
    assert auditor.suspects
    assert findings(plain) == []


def test_a_row_whose_event_was_lost_is_found_however_often_it_is_written_since(plain: Plain) -> None:
    auditor = Auditor(passed=lambda instant: True)
    plain.run("UPDATE products SET is_active = false WHERE id = 9")

    def found() -> bool:
        plain.run("UPDATE products SET name = name || 'x' WHERE id = 9")
        rounds(auditor, 1)
        return bool(findings(plain))

    until(found, 10)
    assert findings(plain) == [("products", "9", "extra")]


def test_counts_and_active_cities_give_no_alarm_while_the_mappings_move(plain: Plain) -> None:
    auditor = Auditor(passed=lambda instant: False)
    for number in range(30):
        plain.run("UPDATE companies SET city_id = city_id %% 5 + 1 WHERE id %% 3 = %s", (number % 3,))
        rounds(auditor, 1)
        apply(Keys((), range(1, 21), ()), CAUSE)
        rounds(auditor, 1)
    assert findings(plain) == []


def test_wrong_counts_are_told_although_a_wrong_mapping_is_mended_first(plain: Plain) -> None:
    auditor = Auditor(passed=lambda instant: True)
    auditor._next_whole = math.inf
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 7")
    plain.run("UPDATE city_counts SET services_count = services_count + 7 WHERE city_id = 2")

    until(lambda: (rounds(auditor, 1), right(plain))[1], 20)

    assert ("products", "7", "missing") in findings(plain)
    assert ("counts", "2", "different") in findings(plain)


def test_the_nines_fall_with_wrong_rows_and_stay_until_their_window_has_passed(plain: Plain) -> None:
    # Given right caches that have been compared
    auditor = Auditor(passed=lambda instant: True)
    looked_twice(auditor, plain)
    before = nines.levels()["all"]["hour"]
    assert before["wrong"] == 0

    # When rows go wrong, are found and mended
    plain.run("DELETE FROM product_city_mapping WHERE product_id <= 50")
    until(lambda: (rounds(auditor, 1), right(plain))[1], 20)
    fallen = nines.levels()["all"]["hour"]
    assert fallen["wrong"] >= 50
    assert fallen["nines"] < before["nines"]

    # Then comparing right rows again and again does not dilute them
    for _ in range(3):
        looked_twice(auditor, plain)
        assert nines.levels()["all"]["hour"]["nines"] <= fallen["nines"]

    # And they rise when the window has passed, in that window only
    plain.run("UPDATE audit_minutes SET minute = minute - interval '2 hours'")
    looked_twice(auditor, plain)
    assert nines.levels()["all"]["hour"]["wrong"] == 0
    assert nines.levels()["all"]["hour"]["nines"] > fallen["nines"]
    assert nines.levels()["all"]["day"]["nines"] <= fallen["nines"]


@pytest.mark.parametrize("checked", [10, 200, 3_000, 10_000_000])
def test_a_single_wrong_row_lowers_the_nines_of_any_sample(checked: int) -> None:
    levels = [nines.level(checked, wrong, checked).nines for wrong in (0, 1, 2, 5)]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == len(levels)


@pytest.mark.parametrize(("checked", "wrong", "claimed"), [(0, 0, 0.0), (300, 0, 2.0), (3_000_000, 0, 6.0)])
def test_never_claims_more_than_the_sample_supports(checked: int, wrong: int, claimed: float) -> None:
    assert nines.level(checked, wrong).nines == pytest.approx(claimed, abs=0.01)


def test_wrong_rows_count_by_their_share() -> None:
    assert nines.level(1_000_000, 100).nines == pytest.approx(4.0, abs=0.1)
    assert nines.level(1_000, 1_000).nines == 0.0
    assert math.isfinite(nines.level(1, 1).nines)


def test_a_row_that_stays_wrong_counts_in_every_window(plain: Plain) -> None:
    plain.run("INSERT INTO audit_findings (cache, key, side) VALUES ('products', '7', 'extra')")
    plain.run("INSERT INTO audit_minutes (minute, cache, checked) VALUES (now(), 'products', 100)")
    assert nines.levels()["all"]["hour"]["wrong"] == 1
    plain.run("UPDATE audit_findings SET repaired_at = now()")
    assert nines.levels()["all"]["hour"]["wrong"] == 0


def test_a_row_that_cannot_be_mended_is_one_open_finding_and_keeps_no_other_one_wrong(plain: Plain) -> None:
    # Given a product whose mapping nobody can write, among others that are wrong
    plain.run("DELETE FROM product_city_mapping WHERE product_id IN (7, 8, 9)")
    plain.run("ALTER TABLE product_city_mapping ADD CONSTRAINT cursed CHECK (product_id <> 8)")
    auditor = Auditor(passed=lambda instant: True)

    # When the auditor comes by again and again
    until(lambda: (rounds(auditor, 1), len(findings(plain)) >= 3)[1], 20)
    looked_twice(auditor, plain)

    # Then it is written down once and stays open, and the others are mended
    total = "SELECT key, repaired_at IS NULL FROM audit_findings WHERE cache = 'products' ORDER BY key"
    assert plain.all(total) == [("7", False), ("8", True), ("9", False)]
    assert plain.one("SELECT count(*) FROM product_city_mapping WHERE product_id IN (7, 9)") == 2

    # And it closes as soon as it can be mended
    plain.run("ALTER TABLE product_city_mapping DROP CONSTRAINT cursed")
    until(lambda: (rounds(auditor, 1), not any(still for _, still in plain.all(total)))[1], 20)
    assert right(plain)


def test_a_finding_that_others_mend_closes(plain: Plain) -> None:
    for cache in ("products", "counts"):
        plain.run("INSERT INTO audit_findings (cache, key, side) VALUES (%s, '2', 'different')", (cache,))
    auditor = Auditor(passed=lambda instant: True)
    open_ = "SELECT count(*) FROM audit_findings WHERE repaired_at IS NULL"
    until(lambda: (rounds(auditor, 1), plain.one(open_) == 0)[1], 20)


def test_a_comparison_that_takes_too_long_makes_its_window_smaller_and_forgets_nothing(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an auditor with a suspect, in a catalog too slow for a window of this size
    auditor = Auditor(passed=lambda instant: False)
    plain.run("UPDATE products SET is_active = false WHERE id = 9")
    until(lambda: (rounds(auditor, 1), auditor.suspects)[1], 10)
    rows = "FROM product_city_mapping WHERE (%(after)s IS NULL OR product_id > %(after)s) AND product_id <= %(until)s"
    slow = f"SELECT pg_sleep(count(*) / 250.0) {rows}; {diff.SQL['products']}"
    monkeypatch.setitem(diff.SQL, "products", slow)
    monkeypatch.setattr(findings_module, "LONGER", "SET LOCAL statement_timeout = '150ms'")
    monkeypatch.setattr("backend.app.observing.auditor.LEAST_IDS", 10)
    sweep = auditor._sweeps[0]
    sweep.ids, begun = 200, sweep.began

    # Then it comes round nevertheless, and has not forgotten the suspect
    until(lambda: (rounds(auditor, 1), sweep.began != begun and sweep.after is not None)[1], 30)
    assert sweep.ids < 200
    assert ("products", 9) in auditor.suspects


def test_a_step_that_fails_keeps_no_other_step_from_its_turn(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(findings_module.SQL, "changed_lately", "SELECT 1 / 0")
    plain.run("DELETE FROM product_city_mapping WHERE product_id = 7")
    auditor = Auditor(passed=lambda instant: True)
    until(lambda: (rounds(auditor, 1), ("products", "7", "missing") in findings(plain))[1], 20)


def test_tells_what_a_wrong_count_was_and_should_be_without_counting_the_catalog(plain: Plain) -> None:
    plain.run("UPDATE city_counts SET services_count = services_count + 7 WHERE city_id = 2")
    auditor = Auditor(passed=lambda instant: True)
    until(lambda: (rounds(auditor, 1), findings(plain))[1], 20)
    cached, wanted = plain.all("SELECT cached, wanted FROM audit_findings")[0]
    assert cached["services_count"] == wanted["services_count"] + 7
    assert cached.keys() == wanted.keys()


@pytest.mark.parametrize("tampering", ["missing", "extra"])
def test_finds_rows_of_cities_without_anything(plain: Plain, tampering: str) -> None:
    plain.run("INSERT INTO cities (id, name) VALUES (77, 'empty')")
    apply(Keys((), (), [77]), CAUSE)
    if tampering == "missing":
        plain.run("DELETE FROM city_counts WHERE city_id = 77")
    else:
        plain.run("INSERT INTO city_counts (city_id) VALUES (88)")
    auditor = Auditor(passed=lambda instant: True)
    until(lambda: (rounds(auditor, 1), findings(plain))[1], 20)
    assert findings(plain) == [("counts", "77" if tampering == "missing" else "88", tampering)]
    assert right(plain)


def test_old_history_goes_and_young_history_stays(plain: Plain) -> None:
    for age in ("1 hour", "30 days"):
        plain.run("INSERT INTO audit_minutes VALUES (now() - %s::interval, 'products', 10, 0)", (age,))
        plain.run(
            "INSERT INTO audit_findings (found_at, cache, key, side, repaired_at)"
            " VALUES (now() - %s::interval, 'x', '1', 'y', now())",
            (age,),
        )
        plain.run(
            """INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)
               VALUES (now() - %s::interval, 5, 0, 0, 0, 0, '{}')""",
            (age,),
        )
    retention.prune("observer")
    tables = ("audit_minutes", "audit_findings", "observations")
    assert [plain.one(f"SELECT count(*) FROM {table}") for table in tables] == [1, 1, 1]


def test_history_and_nines_are_rows_and_survive_a_restart(plain: Plain) -> None:
    past = history.History()
    past.observe(12.5)
    db.dispose()
    last = history.last()
    assert last is not None
    assert last["canary_ms"] == 12.5
