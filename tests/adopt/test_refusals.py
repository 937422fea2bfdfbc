"""Databases that cannot be adopted as they are, or not without a cost: one sentence says what it is and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from psycopg2 import sql

from backend.app import cli
from backend.app.adopting import triggers
from backend.app.adopting.adopt import adopt
from backend.app.catalog import definition
from tests.adopt.following import beside, follow
from tests.adopt.marketplace import Marketplace
from tests.plain import Plain
from tests.servers import Databases

TABLES: Final = """
    CREATE TABLE towns (id int PRIMARY KEY, name text, ok boolean DEFAULT true);
    CREATE TABLE firms (id int PRIMARY KEY, name text, town int, data jsonb DEFAULT '{"town": 1}');
    CREATE TABLE things (shop int DEFAULT 1, id int, name text, firm int, PRIMARY KEY (shop, id));
    CREATE INDEX ON firms (town); CREATE INDEX ON things (firm);
    INSERT INTO towns SELECT n, 'T' FROM generate_series(1, 3) n;
    INSERT INTO firms SELECT n, 'F', 1 + n % 3 FROM generate_series(1, 1500) n;
    INSERT INTO things SELECT 1, n, 'x', n FROM generate_series(1, 50) n"""
FILE: Final = """
    schema = "{schema}"
    [city]
    table = "towns"
    id = "id"
    name = "name"
    exists = "ok"
    [company]
    table = "firms"
    id = "id"
    name = "name"
    city = "{city}"
    [product]
    table = "things"
    id = "id"
    name = "name"
    company = "firm"
    """
REFUSES: Final = """
    CREATE FUNCTION refuses() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '% needs a ticket', tg_tag; END $$;
    CREATE EVENT TRIGGER refuses ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION refuses()"""
Answer = Callable[..., tuple[object, str]]


@pytest.fixture
def market(empty_database: str, tmp_path: Path) -> Marketplace:
    with Plain(empty_database) as plain:
        plain.run(TABLES)
    return Marketplace(empty_database, _file(tmp_path / "catalog.toml"))


@pytest.fixture
def plain(market: Marketplace) -> Iterator[Plain]:
    with Plain(market.url) as found:
        yield found


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    def run(market: Marketplace, *arguments: str) -> tuple[object, str]:
        with beside(market, monkeypatch), pytest.raises(SystemExit) as ended:
            cli.main([*arguments])
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return run


def _file(file: Path, schema: str = "citycache", city: str = "town") -> Path:
    file.write_text(FILE.format(schema=schema, city=city), encoding="utf-8")
    return file


def test_tables_that_another_schema_has_adopted(
    market: Marketplace, plain: Plain, answer: Answer, tmp_path: Path
) -> None:
    other = Marketplace(market.url, _file(tmp_path / "other.toml", schema="other"))
    assert answer(market, "adopt", "--apply")[0] == 0

    code, said = answer(other, "adopt", "--apply")

    assert code == 1
    assert "public.firms has citycache_company_deleted of schema citycache already: release what was adopted" in said
    plain.run("UPDATE firms SET town = 2 WHERE id = 3")
    assert plain.one("SELECT count(*) FROM citycache.event_outbox") == 1


def test_a_trigger_of_our_name_that_is_not_ours_is_none(market: Marketplace, plain: Plain, answer: Answer) -> None:
    answer(market, "adopt", "--apply")
    plain.run("""
        CREATE FUNCTION public.idle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE OR REPLACE TRIGGER citycache_company_updated AFTER UPDATE ON firms EXECUTE FUNCTION public.idle()""")

    code, said = answer(market, "doctor")

    assert code == 1, said
    assert "[BAD] trigger: firms lacks triggers" in said
    assert "citycache_company_updated of schema public already" in said


@pytest.mark.parametrize(
    ("change", "said", "undone"),
    [
        (
            "INSERT INTO things SELECT 2, 7, 'y', 8",
            "public.things has several rows whose id is 7: name a column that is unique",
            "DELETE FROM things WHERE shop = 2",
        ),
        (
            "CREATE TABLE more () INHERITS (firms); INSERT INTO more (id) VALUES (3)",
            "[  no] key: public.firms has several rows whose id is 3",
            "DROP TABLE more",
        ),
    ],
    ids=["no index", "a child beside an index"],
)
def test_several_rows_of_one_id(
    market: Marketplace, plain: Plain, answer: Answer, change: str, said: str, undone: str
) -> None:
    plain.run(change)
    refused = answer(market, "adopt")
    assert refused[0] == 1
    assert said in refused[1]
    plain.run(undone)
    assert answer(market, "adopt")[0] == 0


@pytest.mark.parametrize(
    ("change", "city", "said"),
    [
        (
            'CREATE PUBLICATION "all of it" FOR ALL TABLES',
            "town",
            '[slow] publication: "all of it" publishes all tables, ours as well',
        ),
        (
            "CREATE TABLE more () INHERITS (firms)",
            "town",
            "[slow] key: no index says that public.firms.id is unique",
        ),
        (
            "SELECT",
            "(data->>'town')::int",
            "[slow] expression: company.city is an expression, which public.firms is read as a whole for",
        ),
        (
            "CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more; ALTER TABLE firms ALTER name TYPE more.citext",
            "town",
            "[slow] type: public.firms.name is of type more.citext, whose operators are not found by their signs alone:"
            " = compares it as text. Write OPERATOR(more.=)",
        ),
    ],
    ids=["a publication of all tables", "a child", "an expression", "a type of another schema"],
)
def test_the_plan_says_what_costs_something(
    market: Marketplace, plain: Plain, answer: Answer, change: str, city: str, said: str
) -> None:
    plain.run(change)
    _file(market.file, city=city)
    planned = answer(market, "adopt")
    assert planned[0] == 0
    assert said in planned[1]


def test_a_row_that_an_expression_fails_on(market: Marketplace, plain: Plain, answer: Answer, tmp_path: Path) -> None:
    _file(market.file, city="(data->>'town')::int")
    plain.run("""UPDATE firms SET data = '{"town": "Минск"}' WHERE id = 1400""")

    code, said = answer(market, "adopt", "--apply")

    assert code == 2
    assert 'catalog.toml: company.city: invalid input syntax for type integer: "Минск"' in said
    code, said = answer(market, "verify")
    assert code == 1
    assert 'PostgreSQL refuses: invalid input syntax for type integer: "Минск"' in said
    plain.run("UPDATE firms SET data = DEFAULT WHERE id = 1400")
    assert answer(market, "adopt", "--apply")[0] == 0


def test_somebodys_trigger_that_refuses_ours(market: Marketplace, plain: Plain, answer: Answer) -> None:
    plain.run(REFUSES)

    code, said = answer(market, "adopt", "--apply")

    assert code == 1
    assert "PostgreSQL refuses: CREATE TRIGGER needs a ticket" in said
    assert len(said.splitlines()) < 5


def test_rows_that_are_hidden_from_others_only(market: Marketplace, plain: Plain, answer: Answer) -> None:
    plain.run("ALTER TABLE things ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")

    assert answer(market, "adopt")[0] == 0  # this role sees them all


def test_a_role_that_is_called_like_our_schema(market: Marketplace, plain: Plain, answer: Answer) -> None:
    role = plain.one("SELECT current_user")
    _file(market.file, schema=role)

    code, said = answer(market, "adopt", "--apply")

    assert code == 0
    assert f'a role is called {role} as well: with "$user" in its search_path' in answer(market, "adopt")[1]
    plain.run("CREATE TABLE theirs (id int)")
    code, said = answer(market, "release", "--apply")
    assert code == 1
    assert "citycache.theirs would go as well, and is not ours: move it" in said
    plain.run(f"ALTER TABLE {role}.theirs SET SCHEMA public")
    assert answer(market, "release", "--apply")[0] == 0
    assert plain.one("SELECT count(*) FROM public.theirs") == 0


def test_letters_that_the_database_has_not(
    databases: Databases, answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    databases.run(sql.SQL("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"))
    market = Marketplace(databases.server.url_of("latin"), _file(tmp_path / "catalog.toml"))
    market.file.write_text(f"# ж → 🦔\n{market.file.read_text()}", encoding="utf-8")
    with Plain(market.url) as plain:
        plain.run(TABLES)
        assert answer(market, "adopt", "--apply")[0] == 0
        plain.run("UPDATE firms SET name = 'ä', town = NULL WHERE id = 1")
        with beside(market, monkeypatch):
            follow()
        assert plain.one("SELECT count(*) FROM citycache.company_city_mapping") == 1499
    assert answer(market, "release", "--apply")[0] == 0


def test_who_holds_a_table_is_said_while_it_is_waited_for(market: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "TOLD_FROM", 0.0)
    told = []

    with Plain(market.url, autocommit=False, name="import") as writer, beside(market, monkeypatch):
        writer.run("UPDATE firms SET name = 'y' WHERE id = 1")

        def progress(sentence: str) -> None:
            if " is held by " in sentence:
                told.append(sentence)
                writer.rollback()

        adopt(definition.current(), progress)

    assert len(told) == 1
    assert told[0].startswith("public.firms is held by pid ")
    assert "(test import)" in told[0]
