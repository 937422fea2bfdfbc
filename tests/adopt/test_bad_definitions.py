"""Definitions that cannot be followed: each is answered with 2 and a sentence that names key and reason."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from backend.app import cli
from tests.adopt.following import beside
from tests.adopt.marketplace import Marketplace
from tests.plain import Plain

TABLES: Final = """
    CREATE TABLE towns (id int PRIMARY KEY, name text, ok boolean DEFAULT true, huge numeric, shape point, lat text);
    CREATE TABLE firms (id bigint PRIMARY KEY, name text, town int, parent bigint, ok boolean, at timestamp);
    CREATE TABLE things (id bigint PRIMARY KEY, name text, firm bigint, ok boolean DEFAULT true, kind text);
    CREATE TABLE by_text (id text PRIMARY KEY, name text, firm bigint);
    CREATE TABLE by_two (a int, b uuid, name text, firm bigint, PRIMARY KEY (a, b));
    CREATE TABLE others (id int PRIMARY KEY, town int);
    CREATE VIEW seen AS SELECT * FROM things;
    CREATE MATERIALIZED VIEW kept AS SELECT * FROM things;
    CREATE SEQUENCE counter;
    CREATE SCHEMA "a.b"; CREATE SCHEMA a;
    CREATE TABLE "a.b".c (id int PRIMARY KEY, name text, firm bigint);
    CREATE TABLE a."b.c" (id int PRIMARY KEY, name text, firm bigint);
    CREATE FOREIGN DATA WRAPPER away; CREATE SERVER away FOREIGN DATA WRAPPER away;
    CREATE FOREIGN TABLE far (id bigint, name text, firm bigint) SERVER away;
    CREATE TABLE split (id bigint, name text, firm bigint) PARTITION BY LIST (id);
    CREATE FOREIGN TABLE split_far PARTITION OF split FOR VALUES IN (1) SERVER away;
    CREATE SCHEMA more; CREATE EXTENSION hstore SCHEMA more; CREATE TABLE tagged (id int PRIMARY KEY, tags more.hstore);
    INSERT INTO towns SELECT n, 'T', true, n, NULL, 'north' FROM generate_series(1, 3) n;
    INSERT INTO firms SELECT n, 'F', 1 FROM generate_series(1, 5) n;
    INSERT INTO things SELECT n, 'x', 1 + n % 5 FROM generate_series(1, 9) n;"""
GOOD: Final[Mapping[str, Mapping[str, object]]] = {
    "city": {"table": "public.towns", "id": "id", "name": "name"},
    "company": {"table": "public.firms", "id": "id", "name": "name", "city": "town", "active": "ok"},
    "product": {"table": "public.things", "id": "id", "name": "name", "company": "firm"},
}
WATCH: Final[Mapping[str, object]] = {
    "table": "public.others",
    "noun": "city",
    "ids": "SELECT changed.id",
    "publish": ["id"],
}
LEVEL: Final[Mapping[str, object]] = {
    "name": "region", "table": "public.others", "id": "id", "label": "town", "parent": "id"
}  # fmt: skip
Case = tuple[str, Mapping[str, object], str]

CHANGED: Final[list[Case]] = [  # section, what is changed in it, what the answer names
    ("product", {"table": "public.seen"}, "product.table: public.seen is no table"),
    ("product", {"table": "public.kept"}, "product.table: public.kept is no table"),
    ("product", {"table": "public.far"}, "product.table: public.far is no table"),
    ("product", {"table": "public.split"}, "product.table: split_far, a part of public.split, is a foreign table"),
    ("product", {"table": "public.counter"}, "product.table: public.counter is no table"),
    ("product", {"table": "public.nowhere"}, 'product.table: relation "public.nowhere" does not exist'),
    ("product", {"table": "nowhere.things"}, 'product.table: relation "nowhere.things" does not exist'),
    ("product", {"table": "other.public.things"}, "product.table: cross-database references"),
    ("product", {"table": 'public."things'}, "product.table: invalid name syntax"),
    ("product", {"table": "a.b.c"}, "product.table: may be "),
    ("product", {"table": "pg_catalog.pg_class", "id": "oid"}, "product.table: pg_catalog.pg_class belongs to"),
    ("product", {"table": "public.by_text"}, "product.id: is of type text; keys are smallint, integer, bigint"),
    ("product", {"table": "public.by_two"}, "product.id: public.by_two has no column 'id'"),
    ("product", {"id": "nr"}, "product.id: public.things has no column 'nr'"),
    ("product", {"id": "id + 1"}, "product.id: string is not a valid identifier"),
    ("product", {"id": "ctid"}, "product.id: public.things has no column 'ctid'"),
    ("city", {"id": "huge"}, "city.id: is of type numeric"),
    ("product", {"company": "shop"}, 'product.company: column "shop" does not exist'),
    ("product", {"company": "name"}, "product.company: is of type text"),
    ("product", {"company": "generate_series(1, 3)"}, "product.company: set-returning functions are not allowed"),
    ("product", {"company": "(SELECT id FROM public.firms)"}, "product.company: more than one row"),
    ("product", {"company": "max(firm)"}, "product.company: aggregate functions are not allowed"),
    ("product", {"company": "lag(firm) OVER ()"}, "product.company: window functions are not allowed"),
    ("product", {"active": "1"}, "product.active: is of type integer, not boolean"),
    ("product", {"active": "ok AND"}, "product.active: syntax error"),
    ("product", {"active": "ok /* AND"}, "product.active: unterminated /* comment"),
    ("product", {"active": "ok); DROP TABLE things; --"}, "product.active: syntax error"),
    ("product", {"active": "$1"}, "product.active: there is no parameter $1"),
    ("product", {"active": "1 / (id - id) > 0"}, "product.active: division by zero"),
    ("product", {"active": "now() > '2020-01-01'"}, "product.active: rests on now()"),
    ("product", {"active": "now() > '2020-01-01'"}, "Let a write say it, as a column that a scheduled statement sets"),
    ("product", {"active": "CURRENT_DATE > '2020-01-01'"}, "changes without a write: no event would come. Let a "),
    ("product", {"active": "random() > 0.5"}, "product.active: rests on random()"),
    ("product", {"active": "current_user = 'me'"}, "product.active: changes without a write"),
    ("product", {"active": "things IS NOT NULL"}, "product.active: takes a row as a whole"),
    ("product", {"active": "(" * 20_000 + "ok" + ")" * 20_000}, "product.active: memory exhausted"),
    ("product", {"kind": "id"}, "product.kind: is of type bigint"),
    ("product", {"kind": "ok"}, "product.kind: is of type boolean"),
    ("city", {"latitude": "lat"}, "city.latitude: invalid input syntax for type double precision"),
    ("city", {"latitude": "shape"}, "city.latitude: cannot cast type point to double precision"),
    ("company", {"created_at": "ok"}, "company.created_at: cannot cast type boolean to timestamp"),
    ("company", {"active": "at > '2020-01-01'::timestamptz"}, "company.active: rests on timestamp_gt_timestamptz"),
    ("company", {"city": "(SELECT town FROM public.others o WHERE o.id = town)"}, "company.city: reads public.others"),
    ("company", {"city": "(SELECT p.town FROM public.firms p WHERE p.id = firms.parent)"},
     "company.city: reads other rows of public.firms, which no [[watch]] names"),
    ("product", {"publish": ["nr"]}, "product.publish: public.things has no column 'nr'"),
    ("product", {"publish": "id"}, "product.publish: must be a list"),
    ("product", {"publish": ["i\0d"]}, "product.publish: must be a list"),
    ("product", {"table": "public.thi\0ngs"}, "product.table: must be a text"),
    ("product", {"table": 1}, "product.table: must be a text"),
    ("product", {"id": True}, "product.id: must be a text"),
    ("product", {"name": ["id"]}, "product.name: must be a text"),
    ("product", {"name": " "}, "product.name: must be a text"),
    ("product", {"colour": "red"}, "product.colour: is unknown"),
    ("[watch]", {"noun": "region"}, "watch[1].noun: is 'region'"),
    ("[watch]", {"ids": "SELECT name FROM public.towns"}, "watch[1].ids: is of type text"),
    ("[watch]", {"ids": "SELECT changed.town"}, "watch[1].ids: column changed.town does not exist"),
    ("[watch]", {"ids": "SELEC 1"}, "watch[1].ids: syntax error"),
    ("[watch]", {"ids": "DELETE FROM public.towns RETURNING id"}, "watch[1].ids: syntax error"),
    ("[watch]", {"ids": "SELECT 1; SELECT 2"}, "watch[1].ids: syntax error"),
    ("[watch]", {"ids": "SELECT id FROM public.towns FOR UPDATE"}, "watch[1].ids: locks rows"),
    ("[watch]", {"ids": "SELECT 1 WHERE now() > '2020-01-01'"}, "watch[1].ids: rests on now()"),
    ("[watch]", {"table": "public.tagged", "publish": ["id", "tags"]},
     "watch[1].publish: 'tags' is of type more.hstore, which does not come back from JSON"),
    ("[watch]", {"table": "public.seen"}, "watch[1].table: public.seen is no table"),
    ("[city.level]", {"name": "city"}, "city.level[1].name: 'city' is the name of a level below"),
    ("[city.level]", {"table": "public.seen"}, "city.level[1].table: public.seen is no table"),
    ("[city.level]", {"parent": "nr"}, 'city.level[1].parent: column "nr" does not exist'),
]  # fmt: skip
WHOLE: Final = {
    "": "city: is missing",
    "what is this": "not TOML",
    'schema = "public"\n': "schema: what is adopted gets a schema of its own",
    'schema = "pg_cache"\n': "schema: 'pg_cache' cannot be the name",
    'schema = "it\'s"\n': "has more than letters, digits",
    f'schema = "{"x" * 64}"\n': "cannot be the name of a schema of ours",
    "schema = 1\n": "schema: must be a text",
    "[nowhere]\n": "nowhere: is unknown",
    "x = " + "[" * 50_000 + "]" * 50_000: "is nested too deeply",
    "x = " + "{a = " * 5_000 + "1" + "}" * 5_000: "is nested too deeply",
    "# " + "x" * 100_000_000: "is larger than 131,072 bytes",
    "[city]\n[city]\n": "not TOML: Cannot declare",
    "x = " + "9" * 5_000: "not TOML: Exceeds the limit",
    f'[city]\nid = "id"\nname = "name"\ntable = "{"a." * 50_000}b"\n': "city.table: 'a.a.a.",
    "city = []\n": "city: is missing",
    "[city]\nlevel = 1\n": "level: must be written as [[level]]",
}


def _definition(section: str = "", changed: Mapping[str, object] | None = None) -> str:
    sections = {**GOOD, **({"[watch]": WATCH} if section == "[watch]" else {})}
    sections = {**sections, **({"[city.level]": LEVEL} if section == "[city.level]" else {})}
    lines = []
    for name, rows in sections.items():
        lines.append(f"[{name}]")
        lines += [
            f"{key} = {json.dumps(value)}"
            for key, value in {**rows, **(changed or {} if name == section else {})}.items()
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def market(databases: object, tmp_path_factory: pytest.TempPathFactory) -> object:
    with databases.empty() as url:  # type: ignore[attr-defined]
        with Plain(url) as plain:
            plain.run(TABLES)
        yield Marketplace(url, tmp_path_factory.mktemp("definition") / "catalog.toml")


def _answer(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    with beside(market, monkeypatch), pytest.raises(SystemExit) as ended:
        cli.main(["adopt"])
    said = capsys.readouterr()
    return ended.value.code, said.out + said.err


@pytest.mark.parametrize(("section", "changed", "named"), CHANGED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_followed_is_named(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    section: str, changed: Mapping[str, object], named: str,
) -> None:  # fmt: skip
    market.file.write_text(_definition(section, changed), encoding="utf-8")

    code, said = _answer(market, monkeypatch, capsys)

    assert code == 2
    assert named in said


@pytest.mark.parametrize(("text", "named"), WHOLE.items(), ids=list(WHOLE.values()))
def test_a_file_that_is_no_definition_is_refused(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, named: str
) -> None:
    market.file.write_text(text + (_definition() if text.startswith("schema") else ""), encoding="utf-8")

    code, said = _answer(market, monkeypatch, capsys)

    assert code == 2
    assert named in said
    assert len(said) < 2_000


@pytest.mark.parametrize("place", ["/dev/zero", "fifo", "."])
def test_what_is_no_file_is_not_read(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    elsewhere = Marketplace(market.url, tmp_path / place)

    code, said = _answer(elsewhere, monkeypatch, capsys)

    assert code == 2
    assert "is no regular file" in said


def test_what_the_cases_are_made_from_can_be_adopted(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for section in ("", "[watch]", "[city.level]"):
        market.file.write_text("\ufeff" + _definition(section), encoding="utf-8")
        assert _answer(market, monkeypatch, capsys)[0] == 0
