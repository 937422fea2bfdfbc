"""What an import promises: transactions, where to go on, events, clashes with other writers, servers that go away."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner, Result

from backend.app import db
from backend.app.catalog.feed import importing
from backend.app.catalog.feed.commit import FeedPart, commit
from backend.app.catalog.feed.fold import Tally
from backend.app.catalog.feed.importing import BadLine, Imported, Interrupted, import_feed
from backend.app.commands.importing import import_command
from backend.app.ledger.lifeline import Lifeline
from backend.app.tasks.single_flight import flight
from backend.embedded.postgres import Postgres
from tests.plain import Plain
from tests.system import SCRIPTS
from tests.waiting import until

TECHCONF = Path(__file__).parents[1] / "data" / "techconf"
CITY = {"op": "create", "kind": "city", "id": "berlin", "name": "Berlin", "latitude": 52.5, "longitude": 13.4}
COMPANY = {"op": "create", "kind": "company", "id": "bakery", "name": "Bakery", "parent": "berlin"}
PRODUCT = {"op": "create", "kind": "product", "id": "bread", "name": "Bread", "parent": "bakery"}


def jsonl(*lines: dict[str, Any] | str) -> bytes:
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


def play(*lines: dict[str, Any] | str, **options: Any) -> Imported:
    return import_feed(io.BytesIO(jsonl(*lines)), "feed.jsonl", **options)


def cities(number: int) -> list[dict[str, Any]]:
    return [{"op": "create", "kind": "city", "id": f"c{n}", "name": f"City {n}"} for n in range(1, number + 1)]


@pytest.fixture
def plain(configured_database: None, database: str) -> Plain:
    return Plain(database)


def test_imports_the_real_feed_to_the_right_answer(plain: Plain) -> None:
    with (TECHCONF / "changes.jsonl.gz").open("rb") as stream:
        done = import_feed(stream, "changes.jsonl.gz")
    assert done.lines == 22_399
    counted = plain.all(
        "SELECT city.external_id, count(*) FILTER (WHERE kind = 'product'), count(*) FILTER (WHERE kind = 'service'),"
        " count(DISTINCT company.id) FROM cities AS city"
        " LEFT JOIN companies AS company ON company.city_id = city.id AND company.is_active"
        " LEFT JOIN products AS product ON product.company_id = company.id AND product.is_active GROUP BY city.id"
    )
    with (TECHCONF / "expected.csv").open(newline="") as stream_of_rows:
        rows = csv.DictReader(stream_of_rows)
        wanted = {row["city_id"]: (int(row["products"]), int(row["services"]), int(row["companies"])) for row in rows}
    assert {row[0]: row[1:] for row in counted} == wanted


def test_keeps_earlier_transactions_and_says_where_to_go_on(plain: Plain) -> None:
    feed = [*cities(7), {**COMPANY, "parent": "nowhere"}, *cities(3)]
    with pytest.raises(BadLine) as caught:
        play(*feed, lines_per_transaction=5)
    assert str(caught.value) == "feed.jsonl:8: unknown parent: there is no city 'nowhere'"
    assert caught.value.next_line == 6
    assert plain.column("SELECT external_id FROM cities ORDER BY id") == ["c1", "c2", "c3", "c4", "c5"]

    play(*feed[:7], from_line=caught.value.next_line)
    assert plain.one("SELECT count(*) FROM cities") == 7


def test_names_the_first_bad_line_of_a_transaction(plain: Plain) -> None:
    with pytest.raises(BadLine, match=r"feed\.jsonl:2: unknown parent"):
        play(CITY, {**COMPANY, "parent": "nowhere"}, "not json")
    with pytest.raises(BadLine, match=r"feed\.jsonl:3: not JSON"):
        play(CITY, "", "not json", {**COMPANY, "parent": "nowhere"})
    assert plain.one("SELECT count(*) FROM cities") == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"op": "create", "kind": "product", "id": "x"}, "product 'x' needs a parent"),
        ({"op": "create", "kind": "product", "id": "x", "parent": "nobody"}, "there is no company 'nobody'"),
        ({"op": "update", "kind": "city", "id": "x", "name": "X"}, "unknown city 'x'"),
        ({"op": "move", "kind": "company", "id": "x", "parent": "berlin"}, "unknown company 'x'"),
        ({"op": "move", "kind": "company", "id": "bakery", "parent": "x"}, "there is no city 'x'"),
        ({"op": "move", "kind": "product", "id": "bread"}, "product 'bread' needs a parent"),
        ({"op": "move", "kind": "city", "id": "berlin", "parent": "x"}, "a city has no parent"),
        ({"op": "update", "kind": "product", "id": "bread", "parent": None}, "product 'bread' needs a parent"),
    ],
)
def test_refuses_lines_that_do_not_fit_the_catalog(plain: Plain, line: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadLine, match=r"feed\.jsonl:4: ") as caught:
        play(CITY, COMPANY, PRODUCT, line)
    assert reason in str(caught.value)


def test_keeps_what_a_create_of_a_known_id_does_not_mention(plain: Plain) -> None:
    play(CITY, COMPANY, {**PRODUCT, "product_kind": "service", "is_active": False})
    done = play({"op": "create", "kind": "product", "id": "bread", "name": "Rolls"})
    assert (done.created, done.updated) == (0, 1)
    assert plain.all("SELECT name, kind, is_active FROM products") == [("Rolls", "service", False)]


def test_gives_defaults_to_an_id_that_comes_back(plain: Plain) -> None:
    play(CITY, COMPANY, {**PRODUCT, "product_kind": "service", "is_active": False})
    before = plain.one("SELECT id FROM products")
    play({"op": "delete", "kind": "product", "id": "bread"}, {**PRODUCT, "name": "Rolls"})
    after, *row = plain.all("SELECT id, name, kind, is_active FROM products")[0]
    assert row == ["Rolls", "product", True]
    assert after != before


def test_names_a_row_by_its_id_when_it_has_no_name(plain: Plain) -> None:
    play({"op": "create", "kind": "city", "id": "berlin"})
    assert plain.all("SELECT external_id, name FROM cities") == [("berlin", "berlin")]


def test_takes_a_company_out_of_its_city(plain: Plain) -> None:
    play(CITY, COMPANY, {"op": "move", "kind": "company", "id": "bakery", "parent": None})
    assert plain.all("SELECT city_id FROM companies") == [(None,)]


def test_takes_products_along_with_their_company_and_leaves_companies_of_a_city(plain: Plain) -> None:
    play(CITY, COMPANY, PRODUCT, {**COMPANY, "id": "other"})
    done = play({"op": "delete", "kind": "company", "id": "bakery"}, {"op": "delete", "kind": "product", "id": "bread"})
    assert (done.deleted, done.unchanged) == (1, 1)
    play({"op": "delete", "kind": "city", "id": "berlin"})
    assert plain.all("SELECT external_id, city_id FROM companies") == [("other", None)]
    assert plain.one("SELECT count(*) FROM products") == 0


def test_makes_no_event_for_a_line_that_changes_nothing(plain: Plain) -> None:
    play(CITY, COMPANY, PRODUCT)
    plain.run("DELETE FROM event_outbox")
    before = plain.all("SELECT xmin::text, updated_at FROM products")
    moves = [{"op": "move", **{name: line[name] for name in ("kind", "id", "parent")}} for line in (COMPANY, PRODUCT)]
    there_and_back = [{"op": "update", "kind": "product", "id": "bread", "name": name} for name in ("Rolls", "Bread")]
    done = play(CITY, COMPANY, PRODUCT, *moves)
    play(*there_and_back)
    assert (done.unchanged, done.lines) == (5, 5)
    assert plain.one("SELECT count(*) FROM event_outbox") == 0
    assert plain.all("SELECT xmin::text, updated_at FROM products") == before


def test_sets_updated_at_of_what_changes(plain: Plain) -> None:
    play(CITY, COMPANY, PRODUCT)
    play({"op": "update", "kind": "product", "id": "bread", "is_active": False})
    assert plain.all("SELECT updated_at > created_at FROM products") == [(True,)]
    assert plain.all("SELECT type FROM event_outbox ORDER BY id DESC LIMIT 1") == [("catalog.product.updated",)]


@pytest.mark.parametrize(
    "text", ["tab\there", "back\\slash", 'quo"te', "{brace,comma}", "new\nline", "NULL", "\\N", "ünï😀", "'"]
)
def test_keeps_every_text_as_it_is(plain: Plain, text: str) -> None:
    play({**CITY, "id": text, "name": text}, {**COMPANY, "id": text, "name": text, "parent": text})
    play(
        {"op": "update", "kind": "company", "id": text, "name": text + "!"},
        {"op": "update", "kind": "city", "id": text, "name": text + "?"},
    )
    assert plain.all("SELECT external_id, name FROM cities") == [(text, text + "?")]
    assert plain.all("SELECT external_id, name FROM companies") == [(text, text + "!")]


def test_finds_its_way_past_ids_that_were_chosen_by_hand(plain: Plain) -> None:
    plain.run("INSERT INTO cities (id, name) SELECT n, 'by hand' FROM generate_series(1, 50) AS n")
    play(*cities(20))
    assert plain.one("SELECT count(*) FROM cities") == 70


def test_waits_for_other_writers_and_loses_none_of_their_changes(plain: Plain, database: str) -> None:
    play(CITY, COMPANY, PRODUCT)
    other = Plain(database, autocommit=False)
    other.run("UPDATE products SET name = 'Baguette'")
    importing = threading.Thread(
        target=play, args=[{"op": "update", "kind": "product", "id": "bread", "is_active": False}]
    )
    importing.start()
    importing.join(0.3)
    assert importing.is_alive()
    other.commit()
    importing.join(10)
    assert plain.all("SELECT name, is_active FROM products") == [("Baguette", False)]


def test_does_a_transaction_again_that_met_another_writer(plain: Plain, database: str) -> None:
    other = Plain(database, autocommit=False)
    other.run("INSERT INTO cities (external_id, name) VALUES ('berlin', 'Other')")
    importing = threading.Thread(target=play, args=[CITY])
    importing.start()
    importing.join(0.3)
    other.commit()
    importing.join(10)
    assert plain.all("SELECT name FROM cities") == [("Berlin",)]


def test_says_where_to_go_on_when_the_database_goes_away(
    configured_own: Postgres,
) -> None:
    # Given a feed in transactions of 10 lines; when the server dies after the second one
    def kill(read: int, lines: int) -> None:
        if lines == 20:
            configured_own.kill()

    feed = cities(50)
    with pytest.raises(Interrupted) as caught:
        play(*feed, lines_per_transaction=10, progress=kill)

    # Then the first two are kept and the third is where to go on
    assert caught.value.next_line == 21
    configured_own.start()
    db.dispose()
    play(*feed, from_line=21)
    assert Plain(configured_own.url).one("SELECT count(*) FROM cities") == 50


def hear_ctrl_c() -> None:
    """Who was started in the background ignores it, and so do all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_says_where_to_go_on_after_ctrl_c(plain: Plain) -> None:
    feed = cities(200)
    command = [SCRIPTS / "citycache", "import", "--rate", "50", "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, preexec_fn=hear_ctrl_c) as importer:
        assert importer.stdin
        importer.stdin.write(jsonl(*feed))
        importer.stdin.flush()
        until(lambda: plain.one("SELECT count(*) FROM cities") >= 10, 60, "some lines are applied")
        importer.send_signal(signal.SIGINT)
        told = importer.communicate(timeout=30)[1].decode()
    applied = plain.one("SELECT count(*) FROM cities")

    assert importer.returncode == 130, told
    assert told == f"interrupted\nLines up to {applied} are applied; go on with: --from-line {applied + 1}\n"
    assert plain.all("SELECT state, error FROM task_runs WHERE task = 'import_feed'") == [("FAILURE", "interrupted")]
    play(*feed, from_line=applied + 1)
    assert plain.one("SELECT count(*) FROM cities") == 200


def test_ctrl_c_waits_for_the_transaction_under_way(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_and_commit(part: FeedPart) -> Tally:
        os.kill(os.getpid(), signal.SIGINT)
        return commit(part)

    monkeypatch.setattr(importing, "commit", press_and_commit)
    with pytest.raises(Interrupted) as caught:
        play(*cities(12), lines_per_transaction=5)

    assert caught.value.next_line == 6
    assert plain.one("SELECT count(*) FROM cities") == 5


REFUSALS = {
    "a trigger of theirs": (
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.name = 'City 8' THEN RAISE 'no eighth city'; END IF; RETURN new; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON cities FOR EACH ROW EXECUTE FUNCTION refuse()""",
        "the database refuses lines 6 to 10: no eighth city",
    ),
    "a check of theirs": (
        "ALTER TABLE cities ADD CONSTRAINT short CHECK (name <> 'City 8')",
        'the database refuses lines 6 to 10: new row for relation "cities" violates check constraint "short"',
    ),
    "a unique index of theirs": (
        "CREATE UNIQUE INDEX alike ON cities ((1)) WHERE name IN ('City 8', 'City 9')",
        'other writers change the same rows all the time: duplicate key value violates unique constraint "alike"',
    ),
    "a statement that takes too long": (
        """CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.name = 'City 8' THEN PERFORM pg_sleep(60); END IF; RETURN new; END $$;
           CREATE TRIGGER dawdle BEFORE INSERT ON cities FOR EACH ROW EXECUTE FUNCTION dawdle()""",
        "the database took too long: canceling statement due to statement timeout",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_says_where_to_go_on_when_the_database_refuses(plain: Plain, kind: str) -> None:
    cause, says = REFUSALS[kind]
    plain.run(cause)
    db.engine(statement_ms=500)
    with pytest.raises(Interrupted) as caught:
        play(*cities(12), lines_per_transaction=5)
    assert says in str(caught.value)
    assert caught.value.next_line == 6
    assert plain.one("SELECT count(*) FROM cities") == 5


def test_asks_what_became_of_a_commit_without_an_answer(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the server committed and before it said so."""
    broken: list[bool] = []

    def break_once(connection: Any) -> None:
        connection.dbapi_connection.commit()
        if not broken:
            broken.append(True)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    db.dispose()
    monkeypatch.setattr(db.engine().dialect, "do_commit", break_once)
    done = play({"op": "create", "kind": "city", "id": "a"}, {"op": "delete", "kind": "city", "id": "a"}, CITY)
    assert broken
    assert done.next_line == 4
    assert plain.column("SELECT external_id FROM cities") == ["berlin"]


def run(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(import_command, arguments, input=stdin)


def test_command_prints_what_it_did(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "feed.jsonl.gz"
    file.write_bytes(gzip.compress(jsonl(CITY, COMPANY, PRODUCT)))
    told, counted = run(str(file)), run("--json", str(file))
    assert (told.exit_code, counted.exit_code) == (0, 0)
    assert "3 lines applied" in told.stdout
    assert json.loads(counted.stdout)["unchanged"] == 3


def test_an_import_is_a_run_that_says_how_it_went(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "feed.jsonl"
    for lines in ([CITY, COMPANY], [PRODUCT, "nonsense of a person"]):
        file.write_bytes(jsonl(*lines))
        CliRunner().invoke(import_command, [str(file)])

    well, bad = plain.all("SELECT state, trigger, result ->> 'lines', error FROM task_runs ORDER BY queued_at")

    assert well == ("SUCCESS", "cli", "2", None)
    assert bad == ("FAILURE", "cli", None, "line 2 is bad; go on from line 1")
    assert plain.one("SELECT count(*) FROM task_runs WHERE task = 'import_feed' AND started_at <= finished_at") == 2


def test_a_killed_import_has_no_session_by_which_its_run_would_seem_to_go_on(plain: Plain) -> None:
    going = [sys.executable, "-m", "backend.app.cli", "import", "-", "--rate", "0.5"]
    sessions = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE '%run %'"""
    with subprocess.Popen(going, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(jsonl(*cities(500)))
            process.stdin.flush()
            until(lambda: plain.one(sessions) == plain.one("SELECT count(*) FROM task_runs") == 1, 60, "it has begun")
        finally:
            process.kill()
            process.communicate()
    until(lambda: plain.one(sessions) == 0, 30, "its session has ended")
    assert plain.column("SELECT state FROM task_runs WHERE task = 'import_feed'") == ["STARTED"]
    assert [run.task for run in Lifeline(lambda runs: set(), lambda: None, grace=0.0).run_once()] == ["import_feed"]
    assert plain.column("SELECT state FROM task_runs WHERE task = 'import_feed'") == ["FAILURE"]


def test_feeds_are_applied_one_after_the_other_but_those_that_are_played_slowly(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "feed.jsonl"
    file.write_bytes(jsonl(CITY, COMPANY))
    importing = [sys.executable, "-m", "backend.app.cli", "import", str(file)]

    with flight("import"):
        waiting = subprocess.Popen(importing, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == f"{file}: waits until another import has ended\n"
        assert plain.one("SELECT count(*) FROM cities") == 0
        assert run(str(file), "--rate", "1000").exit_code == 0
        assert waiting.poll() is None
    waiting.communicate(timeout=60)

    assert waiting.returncode == 0
    assert plain.column("SELECT result ->> 'unchanged' FROM task_runs ORDER BY queued_at") == ["0", "2"]


def test_an_import_does_not_wait_for_ever(plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.app.commands.importing.PATIENCE_SECONDS", 0.0)
    file = tmp_path / "feed.jsonl"
    file.write_bytes(jsonl(CITY))
    with flight("import"):
        refused = run(str(file))
    assert refused.exit_code == 1
    assert "another import goes on and on" in refused.output
    assert plain.one("SELECT count(*) FROM cities") == 0


def test_command_reads_standard_input_from_a_line_on(plain: Plain) -> None:
    assert run("-", "--from-line", "2", stdin=jsonl("not json", CITY)).exit_code == 0
    assert plain.column("SELECT external_id FROM cities") == ["berlin"]


def test_command_names_file_line_reason_and_where_to_go_on(plain: Plain, tmp_path: Path) -> None:
    file = tmp_path / "feed.jsonl"
    file.write_bytes(jsonl(CITY, "not json"))
    failed = run("--json", str(file))
    assert failed.exit_code == 2
    assert f"{file}:2: not JSON" in failed.stderr
    assert "--from-line 1" in failed.stderr
    assert json.loads(failed.stdout)["next_line"] == 1


def test_command_answers_a_missing_file_with_exit_code_2(plain: Plain, tmp_path: Path) -> None:
    assert run(str(tmp_path / "none.jsonl")).exit_code == 2
    assert run(str(tmp_path)).exit_code == 2


def test_command_is_part_of_citycache(plain: Plain, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "citycache"), "import", "-", "--json"]
    done = subprocess.run(command, input=jsonl(CITY), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["created"] == 1


def test_keeps_to_the_rate(plain: Plain) -> None:
    done = play(*cities(30), rate=60.0)
    assert 0.3 < done.seconds < 5


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_long_runs_of_blank_lines_are_passed_over_and_seen(configured_database: None, plain: Plain, kind: str) -> None:
    blank = b"\n" * 3_000_000 + b" \t\r\n" * 300_000
    feed = jsonl(*cities(2)) + blank + jsonl(*cities(3))
    told: list[int] = []
    packed = gzip.compress(feed, 1) if kind == "gzip" else feed

    done = import_feed(io.BytesIO(packed), "feed", progress=lambda read, lines: told.append(read))

    assert (done.lines, done.created, done.next_line) == (5, 3, 3_300_006)
    assert told
    assert plain.one("SELECT count(*) FROM cities") == 3


@pytest.mark.parametrize("blank", [b"\n", b"\r\n \n"])
def test_blank_lines_between_the_others_make_transactions_no_shorter(configured_database: None, blank: bytes) -> None:
    told: list[int] = []
    feed = b"".join(jsonl(city) + blank for city in cities(400))
    done = import_feed(io.BytesIO(feed), "feed", progress=lambda _, lines: told.append(lines))
    assert done.created == 400
    assert told == [400]


def test_nothing_but_blank_lines_opens_no_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "transaction", lambda: pytest.fail("a transaction for nothing"))
    assert import_feed(io.BytesIO(b"\n" * 1_000_000), "feed").next_line == 1_000_001


def test_goes_on_from_a_line_far_behind_blank_ones(configured_database: None) -> None:
    feed = b"\n" * 250_000 + b"{bad\n" * 250_000 + jsonl(*cities(2))
    assert import_feed(io.BytesIO(feed), "feed", from_line=500_001).created == 2


def test_a_transaction_is_bounded_in_bytes_too(configured_database: None) -> None:
    long = {"op": "update", "kind": "city", "id": "c1", "ts": "2026-01-01", "extra": "x" * 500_000}
    told: list[int] = []
    done = import_feed(
        io.BytesIO(jsonl(*cities(1), *[long] * 60)), "feed", progress=lambda _, lines: told.append(lines)
    )
    assert done.lines == 61
    assert len(told) >= 3


def test_a_file_that_cannot_be_read_on_is_named_with_its_line(plain: Plain) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() == len(self.getbuffer()):
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    with pytest.raises(BadLine, match="feed:8: cannot be read: Input/output error") as caught:
        import_feed(Broken(jsonl(*cities(7))), "feed", lines_per_transaction=5)
    assert caught.value.next_line == 6


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        (b"\n\n" + b"x" * 3_000_000, "feed:3: the line is longer than 1 MiB"),
        (gzip.compress(b"\n\n" + b" " * 50_000_000, mtime=0), "feed:3: the line is longer than 1 MiB"),
        (b"\n" + bytes(range(128, 256)) + b"\n", "feed:2: not UTF-8"),
        (b"\n" + b"\0" * 100 + b"\n", "feed:2: not JSON"),
        (gzip.compress(b"\n" * 100, mtime=0)[:-6], "the gzip file ends too early"),
        (b"\x1f\x8b" + b"\xff" * 1000, "feed:1: not a gzip file"),
    ],
)
def test_what_is_no_feed_is_named_with_its_line(feed: bytes, says: str) -> None:
    with pytest.raises(BadLine, match=says):
        import_feed(io.BytesIO(feed), "feed")
