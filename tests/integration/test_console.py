"""The console's answers from real servers, its stream, and its page's files."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from backend.app.console import audience, cities, page
from backend.app.console.state import SPANNED
from backend.app.console.stations import PLACES, SENTENCES
from backend.app.dead_letters.letters import KINDS
from backend.app.health import kinds
from backend.app.health.kinds import PARTS
from backend.app.ledger.lifeline import GONE
from backend.app.ledger.tables import STATES, TRIGGERS
from backend.app.settings import settings
from backend.app.tasks.roster import TASKS
from backend.app.tasks.task import NOT_QUEUED
from backend.app.telemetry.latency import BOUNDS
from backend.app.worker.attempts import DIED
from backend.embedded.postgres import Postgres
from tests.catalogs import small
from tests.integration.api import V1, Client, is_problem, patch_all
from tests.integration.test_api_away import NO_BROKER, NO_DATABASE, api_on
from tests.plain import Plain
from tests.servers import frozen, migrate
from tests.system import System
from tests.waiting import until

STATIC = page.FOLDER


class Stream:
    """A client of the stream on a real server."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self, event: str, seconds: float = 5) -> Any:
        """The data of the next event of this name."""
        deadline, name = time.monotonic() + seconds, ""
        for line in self._lines:
            assert time.monotonic() < deadline, f"no {event} within {seconds} s"
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == event:
                return json.loads(line.removeprefix("data: "))
        raise AssertionError(f"the stream ended before {event}")


@contextmanager
def streaming(url: str) -> Iterator[Stream]:
    with httpx2.stream("GET", f"{url}{V1}/console/stream", timeout=5) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer.iter_lines())


@pytest.fixture
def served(system: System) -> System:
    """The API as a process, alone: no relay, no worker."""
    system.environment["OBSERVER"] = "false"
    system.start(["api"])
    return system


class TestState:
    def test_names_the_station_whose_process_is_missing(self, served: System) -> None:
        told: dict[str, Any] = {}

        def is_named() -> bool:
            told.update(httpx2.get(f"{served.api_url}{V1}/console/state", timeout=2).json())
            return (told["pipeline"]["station"], told["pipeline"]["code"]) == ("relay", "relay_absent")

        until(is_named, 15, f"{told}")
        assert [station["name"] for station in told["stations"]] == [
            "writers", "outbox", "relay", "queue", "worker", "caches",
        ]  # fmt: skip
        assert {entry["task"] for entry in told["schedule"]} >= {"refresh_all_caches", "update_cities_product_count"}

    def test_answers_within_two_seconds_whatever_is_away(self, tmp_path: Path) -> None:
        with api_on(NO_DATABASE, NO_BROKER, tmp_path) as api:
            began = time.monotonic()
            told = api.read("/console/state")

            assert time.monotonic() - began < 2
            assert told["pipeline"]["code"] == "database_away"
            assert {station["state"] for station in told["stations"]} <= {"unknown", "standing"}
            assert {one["kind"] for one in told["health"]["wrong"]} == {"database_away", "broker_away"}
            for section in ("runs", "consistency", "schedule", "dead_letters", "findings", "incidents", "workers"):
                assert told[section] is None, f"{section} is unknown, not empty"

    def test_says_within_two_seconds_that_the_database_is_stopped(self, own_postgres: Postgres, tmp_path: Path) -> None:
        migrate(own_postgres.url)
        with api_on(own_postgres.url, NO_BROKER, tmp_path) as api, streaming(str(api.base_url)) as stream:
            assert stream.next("state")["pipeline"]["code"] == "broker_away"
            with frozen(own_postgres.pid):
                began = time.monotonic()
                while stream.next("state").get("pipeline", {}).get("code") != "database_away":
                    pass
                assert time.monotonic() - began < 2
            while stream.next("state").get("pipeline", {}).get("code") != "broker_away":
                pass

    def test_shows_runs_letters_and_findings(self, api: Client, plain: Plain) -> None:
        plain.run(
            "INSERT INTO task_runs (task_id, task, trigger, state, result) VALUES"
            " (gen_random_uuid(), 'refresh_all_caches', 'api', 'SUCCESS', '{\"checked\": 3}'),"
            " (gen_random_uuid(), 'apply_catalog_events', 'event', 'SUCCESS', '{}')"
        )
        plain.run("INSERT INTO dead_letters (kind, reason, payload) VALUES ('unreadable', 'a secret word', 'secret')")
        plain.run("INSERT INTO audit_findings (cache, key, side) VALUES ('products', '5', 'missing')")

        told = api.read("/console/state")

        assert [run["task"] for run in told["runs"]["recent"]] == ["refresh_all_caches"]
        assert told["dead_letters"]["open"] == 1
        assert list(told["dead_letters"]["kinds"]) == ["unreadable"]
        assert "secret" not in json.dumps(told)
        assert [(finding["cache"], finding["key"]) for finding in told["findings"]] == [("products", "5")]

    def test_shows_reasons_of_dead_letters_to_holders_of_a_key_only(
        self, api: Client, plain: Plain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain.run("INSERT INTO dead_letters (kind, reason) VALUES ('failed', 'because'), ('failed', 'because')")
        monkeypatch.setenv("API_KEY", "the key of this test")
        settings.cache_clear()

        is_problem(api.get(f"{V1}/events/dead-letters/reasons"), 401)
        shown = api.get(f"{V1}/events/dead-letters/reasons", headers={"X-API-Key": "the key of this test"}).json()

        assert [(reason["reason"], reason["letters"]) for reason in shown] == [("because", 2)]
        assert api.read("/console/state")["setup"]["guarded"] is True


class TestHistory:
    def test_sums_histograms_into_buckets(self, api: Client, plain: Plain) -> None:
        quick = [0] * (len(BOUNDS) + 1)
        quick[4], quick[10] = 90, 10  # 90 events below 7 ms, 10 below 70 ms
        plain.run(
            "INSERT INTO observations (at, seconds, captured, published, applied, patched, latency, canary_ms)"
            " SELECT now() - n * interval '5 seconds', 5, 100, 100, 100, 50, %s::bigint[], n"
            "   FROM generate_series(1, 6) AS n",
            (quick,),
        )

        points = api.get(f"{V1}/console/history", params={"hours": 168}).json()

        assert 1 <= len(points) <= 2
        assert max(point["canary_ms"] for point in points) == 6
        assert points[0]["captured_per_second"] == 20
        assert 5 <= points[0]["p50_ms"] <= 7
        assert 50 <= points[0]["p99_ms"] <= 70

    def test_the_slowest_bucket_counts_and_histograms_of_other_bounds_do_not(self, api: Client, plain: Plain) -> None:
        slowest = [0] * len(BOUNDS) + [7]
        for when, histogram in (("1 hour", slowest), ("3 days", [5] * 23)):
            plain.run(
                "INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)"
                " VALUES (now() - %s::interval, 5, 7, 7, 7, 7, %s::bigint[])",
                (when, histogram),
            )

        other, ours = api.get(f"{V1}/console/history", params={"hours": 168}).json()

        assert (other["p99_ms"], ours["p99_ms"]) == (None, BOUNDS[-1])

    def test_reads_a_full_week_in_time(self, api: Client, plain: Plain) -> None:
        plain.run(
            "INSERT INTO observations (at, seconds, captured, published, applied, patched, latency, canary_ms)"
            " SELECT now() - n * interval '5 seconds', 5, 9, 9, 9, 9, array_fill(7, ARRAY[%s])::bigint[], 8"
            "   FROM generate_series(1, 121000) AS n",
            (len(BOUNDS) + 1,),
        )

        answer = api.get(f"{V1}/console/history", params={"hours": 168})

        assert answer.status_code == 200
        assert 239 <= len(answer.json()) <= 241

    def test_answers_a_range_that_was(self, api: Client, plain: Plain) -> None:
        plain.run(
            "INSERT INTO observations (at, seconds, captured, published, applied, patched, latency)"
            " SELECT '2026-01-05T10:00:00Z'::timestamptz + n * interval '1 hour', 5, n, 0, 0, 0, '{}'"
            "   FROM generate_series(0, 3) AS n"
        )
        wanted = {"from": "2026-01-05T12:30:00+02:00", "to": "2026-01-05T12:00:00Z"}

        points = api.get(f"{V1}/console/history", params=wanted).json()

        assert [point["captured_per_second"] for point in points] == [0.2, 0.4]
        until = api.get(f"{V1}/console/history", params={"to": "2026-01-05T10:30:00Z"}).json()
        assert [point["at"][:13] for point in until] == ["2026-01-05T10"]

    @pytest.mark.parametrize(
        "range_",
        [
            {"hours": 0}, {"hours": 169}, {"hours": "all"}, {"from": 1700000000}, {"from": "2026-01-05T10:00:00"},
            {"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:01Z"}, {"to": "0001-01-01T00:00:00Z"},
            {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, {"from": "9999-12-31T23:59:59Z"},
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("what", ["history", "spans"])
    def test_refuses_other_ranges(self, api: Client, what: str, range_: dict[str, Any]) -> None:
        is_problem(api.get(f"{V1}/console/{what}", params=range_), 422)


class TestSpans:
    WANTED: Final = {"from": "2026-01-05T10:00:00Z", "to": "2026-01-05T11:00:00Z"}

    def test_tells_what_reaches_into_the_range_and_nothing_else(self, api: Client, plain: Plain) -> None:
        plain.run("""
            INSERT INTO incidents (kind, subject, began_at, ended_at) VALUES
                ('relay_absent', 'before', '2026-01-05T09:00Z', '2026-01-05T09:59Z'),
                ('relay_absent', 'into', '2026-01-05T09:00Z', '2026-01-05T10:01Z'),
                ('relay_absent', 'open', '2026-01-05T10:59Z', NULL),
                ('relay_absent', 'after', '2026-01-05T11:01Z', NULL);
            INSERT INTO task_runs (task_id, task, trigger, state, queued_at, started_at, finished_at, result) VALUES
                (gen_random_uuid(), 'refresh_all_caches', 'cli', 'SUCCESS',
                 '2026-01-05T09:00Z', '2026-01-05T09:00Z', '2026-01-05T10:30Z', '{"checked": 1}'),
                (gen_random_uuid(), 'clear_all_caches', 'cli', 'SUCCESS',
                 '2026-01-05T09:00Z', '2026-01-05T09:00Z', '2026-01-05T09:59Z', NULL),
                (gen_random_uuid(), 'replay_events', 'cli', 'SUCCESS',
                 '2026-01-05T11:01Z', '2026-01-05T11:01Z', '2026-01-05T11:30Z', NULL),
                (gen_random_uuid(), 'apply_catalog_events', 'event', 'SUCCESS',
                 '2026-01-05T10:01Z', '2026-01-05T10:01Z', '2026-01-05T10:02Z', NULL)""")

        told = api.read("/console/spans", **self.WANTED)

        assert [one["subject"] for one in told["incidents"]] == ["open", "into"]
        assert [(run["task"], run["result"]) for run in told["runs"]] == [("refresh_all_caches", None)]
        assert told["is_whole"] is True

    def test_leaves_out_the_shortest_where_there_are_many_and_says_so(self, api: Client, plain: Plain) -> None:
        plain.run(
            "INSERT INTO task_runs (task_id, task, trigger, state, queued_at, finished_at)"
            " SELECT gen_random_uuid(), 'refresh_all_caches', 'api', 'SUCCESS', '2026-01-05T10:00Z',"
            "        '2026-01-05T10:00Z'::timestamptz + n * interval '1 second' FROM generate_series(1, 300) AS n"
        )

        told = api.read("/console/spans", **self.WANTED)

        assert told["is_whole"] is False
        assert len(told["runs"]) == SPANNED
        assert told["runs"][-1]["finished_at"] == "2026-01-05T10:01:41Z"


class TestCities:
    def test_answers_all_cities_with_their_counts(self, api: Client, plain: Plain) -> None:
        small(plain)
        plain.run("UPDATE cities SET latitude = 1.5, longitude = -2.5 WHERE id = 1")
        plain.run("INSERT INTO cities (id, name) VALUES (-1, 'canary')")
        patch_all(plain)

        answer = api.get(f"{V1}/console/cities")

        assert answer.json()["rows"] == [
            ["-1", "canary", None, None, 0, 0, 0],
            ["1", "a", 1.5, -2.5, 2, 1, 1], ["2", "b", None, None, 1, 0, 1], ["3", "empty", None, None, 0, 0, 0],
        ]  # fmt: skip
        again = api.get(f"{V1}/console/cities", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304

    def test_tells_ids_apart_that_numbers_of_a_browser_cannot(self, api: Client, plain: Plain) -> None:
        ids = [-(2**63), 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
        plain.run("INSERT INTO cities (id, name) SELECT id, 'c' FROM unnest(%s::bigint[]) AS id", (ids,))
        patch_all(plain)

        assert [row[0] for row in api.get(f"{V1}/console/cities").json()["rows"]] == list(map(str, ids))
        watch = cities.CityDeltas()
        watch.look()
        plain.run("DELETE FROM city_counts; DELETE FROM cities")
        assert watch.look().removed == list(map(str, ids))

    def test_is_sent_compressed(self, api: Client, plain: Plain) -> None:
        plain.run("INSERT INTO cities (name) SELECT 'city ' || n FROM generate_series(1, 500) AS n")

        answer = api.get(f"{V1}/console/cities")

        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.json()["rows"]) == 500
        assert int(answer.headers["content-length"]) < len(answer.content) / 3

    @pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "GZIP ; Q=0.000, br", "identity, gzip;q=0"])
    def test_is_not_compressed_for_who_does_not_take_that(self, api: Client, plain: Plain, accepted: str) -> None:
        plain.run("INSERT INTO cities (name) SELECT 'city ' || n FROM generate_series(1, 500) AS n")

        for path in (f"{V1}/console/cities", "/"):
            assert "content-encoding" not in api.get(path, headers={"Accept-Encoding": accepted}).headers

    @pytest.mark.parametrize("accepted", ["br, gzip", "GZIP", "gzip; q=0.001", "gzip;q=1.0, identity;q=0"])
    def test_is_compressed_for_who_takes_that_at_all(self, api: Client, plain: Plain, accepted: str) -> None:
        plain.run("INSERT INTO cities (name) SELECT 'city ' || n FROM generate_series(1, 500) AS n")

        for path in (f"{V1}/console/cities", "/"):
            assert api.get(path, headers={"Accept-Encoding": accepted}).headers["content-encoding"] == "gzip"


class TestStream:
    def test_tells_what_changed_of_the_cities(self, served: System, database: str) -> None:
        with Plain(database) as plain, streaming(served.api_url) as stream:
            stream.next("hello")
            plain.run("INSERT INTO cities (id, name, latitude) VALUES (7, 'Here', 2)")
            plain.run("INSERT INTO city_counts (city_id) VALUES (7)")
            assert stream.next("cities") == {"rows": [["7", "Here", 2.0, None, 0, 0, 0]], "removed": []}

            plain.run("UPDATE city_counts SET products_count = 3, updated_at = now() WHERE city_id = 7")
            began = time.monotonic()
            assert stream.next("cities")["rows"] == [["7", "Here", 2.0, None, 3, 0, 0]]
            assert time.monotonic() - began < 1

            plain.run("DELETE FROM cities")
            plain.run("DELETE FROM city_counts")
            assert stream.next("cities") == {"rows": [], "removed": ["7"]}

    def test_tells_of_a_change_that_was_committed_late(self, served: System, database: str) -> None:
        with Plain(database) as plain, Plain(database, autocommit=False) as slow, streaming(served.api_url) as stream:
            stream.next("hello")
            plain.run("INSERT INTO cities (id, name) VALUES (7, 'Here'), (8, 'There')")
            plain.run("INSERT INTO city_counts (city_id) VALUES (7), (8)")
            assert len(stream.next("cities")["rows"]) == 2
            slow.run("UPDATE city_counts SET products_count = 1, updated_at = now() WHERE city_id = 7")
            plain.run("UPDATE city_counts SET products_count = 2, updated_at = now() WHERE city_id = 8")
            assert [row[0] for row in stream.next("cities")["rows"]] == ["8"]
            slow.commit()
            assert [row[0] for row in stream.next("cities")["rows"]] == ["7"]

    def test_lets_the_server_end(self, served: System) -> None:
        with streaming(served.api_url) as stream:
            stream.next("state")
            served._processes["api"].send_signal(signal.SIGTERM)
            began = time.monotonic()
            with pytest.raises(AssertionError, match="the stream ended"):
                stream.next("nothing of this name")
            until(lambda: not served.runs("api"), 4)
        assert time.monotonic() - began < 4

    def test_goes_on_beyond_the_deadline_of_requests(self, served: System) -> None:
        with streaming(served.api_url) as stream:
            began = time.monotonic()
            while time.monotonic() - began < 3:
                stream.next("state", 3)

    def test_takes_a_limited_number_of_clients(self, api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audience, "MOST", 0)

        problem = is_problem(api.get(f"{V1}/console/stream"), 503)

        assert "clients follow this process already" in problem["detail"]


class TestPage:
    def test_lets_nothing_in_from_elsewhere(self, api: Client) -> None:
        answer = api.get("/")

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"

    @pytest.mark.parametrize("name", sorted(page.assets()))
    def test_serves_each_part_once(self, api: Client, name: str) -> None:
        answer = api.get(f"/console/{name}")

        assert answer.text == (STATIC / name).read_text(encoding="utf-8") or name == page.SCRIPT
        assert "content-security-policy" in answer.headers
        again = api.get(f"/console/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    def test_serves_all_of_its_modules_in_one_script(self, api: Client) -> None:
        script = api.get(f"/console/{page.SCRIPT}").text

        assert {path.name for path in STATIC.glob("*.js")} - set(re.findall(r"^// (\w+\.js)$", script, re.M)) == {
            page.EARLY
        }

    @pytest.mark.parametrize("name", ["nothing.js", "NOTICE", "..%2Fpage.py", "%00"])
    def test_serves_nothing_else(self, api: Client, name: str) -> None:
        is_problem(api.get(f"/console/{name}"), 404)

    def test_names_no_other_host(self) -> None:
        allowed = ("http://www.w3.org/2000/svg",)
        for path in STATIC.iterdir():
            found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^\s\"'<)]*", path.read_text(encoding="utf-8"))
            assert path.name == "NOTICE" or set(found) <= set(allowed), path.name

    def test_has_no_script_or_style_inside_its_markup(self) -> None:
        markup = (STATIC / "index.html").read_text(encoding="utf-8")

        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", markup)
        code = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.js"))
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code)

    def test_has_words_for_whatever_it_says(self) -> None:
        words = (STATIC / "words.js").read_text(encoding="utf-8")
        known = set(re.findall(r'^  "?([\w.]+)"?: \[', words, re.MULTILINE))
        markup = (STATIC / "index.html").read_text(encoding="utf-8")
        code = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.js"))
        said = set(re.findall(r'data-t(?:-label)?="([^"]+)"', markup)) | set(re.findall(r'\bt\("([^"]+)"', code))

        assert len(known) > 150
        assert said - known == set()

    def test_has_words_for_every_reason_and_state(self) -> None:
        words = (STATIC / "words.js").read_text(encoding="utf-8")
        wanted = [
            *(f"why.{code}" for code in SENTENCES), *(f"task.{kind.name}" for kind in TASKS),
            *(f"run.{state}" for state in STATES), *(f"trigger.{trigger}" for trigger in TRIGGERS),
            *(f"letters.kind.{kind}" for kind in KINDS), *(f"part.{part}" for part in PARTS),
            *(f"{what}.{kind}" for kind in kinds.KINDS for what in ("kind", "advice", "judged")),
            *(f"station.{place}" for place in PLACES.values()),
        ]  # fmt: skip
        runs = (STATIC / "runs.js").read_text(encoding="utf-8")
        assert [said for said in (NOT_QUEUED, GONE, DIED) if f'"{said}": "' not in runs] == []

        assert [key for key in wanted if f'"{key}": [' not in words] == []
