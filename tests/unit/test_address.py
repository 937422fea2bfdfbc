"""DATABASE_URL in all its spellings, as libpq's parameters."""

from __future__ import annotations

import itertools

import pytest

from backend.app.database.address import parameters
from backend.app.errors import BadSetting
from backend.app.settings import settings

PRIMARY = {"target_session_attrs": "primary"}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("u:p@a/db", {"user": "u", "password": "p", "host": "a", "dbname": "db"}),
        ("u:p%40%3A@a:5/db", {"user": "u", "password": "p@:", "host": "a", "port": "5", "dbname": "db"}),
        ("u@a:1,b:2/db", {"user": "u", "host": "a,b", "port": "1,2", "dbname": "db"}),
        ("u@a,b:2/db", {"user": "u", "host": "a,b", "port": ",2", "dbname": "db"}),
        ("u@/db?host=a:1&host=b:2", {"user": "u", "host": "a,b", "port": "1,2", "dbname": "db"}),
        ("u@/db?host=a&host=b:2", {"user": "u", "host": "a,b", "port": ",2", "dbname": "db"}),
        ("u@/db?host=a,b&port=1,2", {"user": "u", "host": "a,b", "port": "1,2", "dbname": "db"}),
        ("u@/db?host=/run/postgresql", {"user": "u", "host": "/run/postgresql", "dbname": "db"}),
        ("u@[::1]:5/db", {"user": "u", "host": "::1", "port": "5", "dbname": "db"}),
        ("u@/db?host=[::1]:5&host=b:6", {"user": "u", "host": "::1,b", "port": "5,6", "dbname": "db"}),
        ("u@a/db?sslmode=verify-full&sslrootcert=/a%20b", {"sslmode": "verify-full", "sslrootcert": "/a b"}),
    ],
)
def test_reads_what_libpq_and_sqlalchemy_read(scheme: str, rest: str, found: dict[str, str]) -> None:
    given = parameters(f"{scheme}://{rest}")

    assert given.items() >= (PRIMARY | found).items()


def test_the_url_may_say_which_servers_are_fit() -> None:
    assert parameters("postgresql://a,b/db?target_session_attrs=read-write")["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hidden-word@a/db",
        "postgresql+asyncpg://u:hidden-word@a/db",
        "postgresql://u:hidden-word@a:port/db",
        "postgresql://u:hidden-word@a:70000/db",
        "postgresql://u:hidden-word@a:1,b:0/db",
        "postgresql://u:hidden-word@a/db?no_such_parameter=1",
        "postgresql://u:hidden-word@[::1/db",
        "u:hidden-word@a/db",
    ],
)
def test_what_leads_nowhere_is_refused_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    settings.cache_clear()
    with pytest.raises(BadSetting, match="DATABASE_URL") as refused:
        settings()
    settings.cache_clear()

    assert "hidden-word" not in str(refused.value)


def test_any_number_of_hosts_in_either_spelling_is_the_same() -> None:
    for number in range(1, 5):
        for ports in itertools.product((1, 65_535), repeat=number):
            hosts = [f"h{place}:{port}" for place, port in enumerate(ports)]
            libpq = parameters(f"postgresql://u:p@{','.join(hosts)}/db")
            assert parameters("postgresql://u:p@/db?" + "&".join(f"host={host}" for host in hosts)) == libpq
