"""What a marketplace may write, drawn at random: many rows at once, upserts, moves, changed keys, in savepoints."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import psycopg2

from tests.adopt.tables import Column, Table, key_value
from tests.plain import Plain


def row(table: Table, chance: random.Random, key: str) -> str:
    """Values of one row, each cast to its column's type."""
    return ", ".join(
        f"({key if column is table.key else _value(column, chance)})::{_type(column)}" for column in table.written
    )


def fill(plain: Plain, tables: Sequence[Table], chance: random.Random) -> None:
    """The first rows."""
    for table in tables:
        for _ in range(table.most // 3):
            plain.run(insert(table, chance, table.sql))


def insert(table: Table, chance: random.Random, into: str = "") -> str:
    """Some rows, into the table or one of its parts; whoever is there already stays, or is written over."""
    keys = [key_value(table.key.type, number) for number in chance.sample(range(1, table.most + 1), 4)]
    rows = ", ".join(f"({row(table, chance, key)})" for key in keys)
    names = ", ".join(column.sql for column in table.written)
    into = f"INSERT INTO {into or _anywhere(table, chance)} ({names})"
    if table.is_unique and chance.random() < 0.6:
        over = f"UPDATE SET ({names}) = ROW ({', '.join(f'excluded.{column.sql}' for column in table.written)})"
        return f"{into} VALUES {rows} ON CONFLICT ({table.id}) DO {over if chance.random() < 0.7 else 'NOTHING'}"
    free = f"WHERE NOT EXISTS (SELECT FROM {table.sql} t WHERE t.{table.id} = v.{table.id})" if table.is_keyed else ""
    return f"{into} SELECT * FROM (VALUES {rows}) AS v ({names}) {free}"


def update(table: Table, chance: random.Random) -> str:
    """Some columns of some rows."""
    changeable = [column for column in table.written if column is not table.key or not table.is_keyed]
    columns = chance.sample(changeable, min(len(changeable), chance.choice([1, 1, 2, 3])))
    sets = ", ".join(f"{column.sql} = ({_value(column, chance)})::{_type(column)}" for column in columns)
    only = "ONLY " if table.form == "inherited" and chance.random() < 0.2 else ""
    return f"UPDATE {only}{_anywhere(table, chance)} SET {sets} WHERE {_some(table, chance)}"


def swap(table: Table, chance: random.Random) -> str:
    """A column of all rows, each from another row."""
    column = chance.choice([column for column in table.written if column is not table.key])
    return f"""
        UPDATE {table.sql} SET {column.sql} = other.{column.sql}
          FROM (SELECT {table.id}, lead({column.sql}) OVER (ORDER BY {table.id})
                  FROM {table.sql}) AS other (key_, {column.sql})
         WHERE {table.sql}.{table.id} = other.key_"""


def rekey(table: Table, chance: random.Random) -> str:
    """Another key for a row."""
    old, new = (key_value(table.key.type, number) for number in chance.sample(range(1, table.most + 1), 2))
    free = f" AND NOT EXISTS (SELECT FROM {table.sql} t WHERE t.{table.id} = {new})" if table.is_keyed else ""
    return f"UPDATE {table.sql} SET {table.id} = {new} WHERE {table.id} = {old}{free}"


def delete(table: Table, chance: random.Random) -> str:
    """Some rows."""
    return f"DELETE FROM {_anywhere(table, chance)} WHERE {_some(table, chance)}"


def truncate(table: Table, chance: random.Random) -> str:
    """All rows of the table or of a part of it."""
    return f"TRUNCATE {_anywhere(table, chance)}"


def merge(table: Table, chance: random.Random) -> str:
    """Rows that are written over, taken away, or put in."""
    if not table.is_keyed:
        return update(table, chance)
    keys = [key_value(table.key.type, number) for number in chance.sample(range(1, table.most + 1), 5)]
    names = ", ".join(column.sql for column in table.written)
    rows = ", ".join(f"({row(table, chance, key)})" for key in keys)
    column = chance.choice([column for column in table.written if column is not table.key])
    return f"""
        MERGE INTO {table.sql} t USING (VALUES {rows}) AS v ({names}) ON t.{table.id} = v.{table.id}
         WHEN MATCHED AND v."noise" = '1' THEN DELETE
         WHEN MATCHED THEN UPDATE SET {column.sql} = v.{column.sql}
         WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({", ".join(f"v.{column.sql}" for column in table.written)})"""


Write = Callable[[Table, random.Random], str]
OFTEN: Final[Sequence[Write]] = [insert, update, update, swap, rekey, delete, merge]


def transaction(plain: Plain, tables: Sequence[Table], chance: random.Random) -> list[str]:
    """A few statements in savepoints, some of them taken back; what was done. `plain` must not commit by itself."""
    done = []
    for _ in range(chance.choice([1, 1, 2, 4])):
        write = truncate if chance.random() < 0.02 else chance.choice(OFTEN)
        statement = write(chance.choice(tables), chance)
        plain.run("SAVEPOINT before")
        try:
            plain.run(statement)
            taken_back = chance.random() < 0.1
        except (psycopg2.errors.IntegrityError, psycopg2.errors.CardinalityViolation):
            taken_back = True
        plain.run("ROLLBACK TO before" if taken_back else "RELEASE before")
        done.append(f"{'-- taken back: ' if taken_back else ''}{statement}")
    if chance.random() < 0.1:
        plain.rollback()
        return ["-- rolled back", *done]
    plain.commit()
    return done


def _value(column: Column, chance: random.Random) -> str:
    assert column.value is not None
    return column.value(chance)


def _type(column: Column) -> str:
    return column.type.removesuffix(" NOT NULL")


def _anywhere(table: Table, chance: random.Random) -> str:
    return chance.choice([table.sql, table.sql, *table.parts])


def _some(table: Table, chance: random.Random) -> str:
    """A condition that holds for some rows."""
    if chance.random() < 0.3:
        column = chance.choice(table.written)
        return f"{column.sql} IS NOT DISTINCT FROM ({_value(column, chance)})::{_type(column)}"
    keys = (key_value(table.key.type, chance.randint(1, table.most)) for _ in range(chance.choice([1, 3, 12])))
    return f"{table.id} IN ({', '.join(keys)})"
