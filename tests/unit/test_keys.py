"""API keys and their roles."""

from __future__ import annotations

import hmac

import pytest

from backend.app.access import api_keys
from backend.app.errors import BadSetting
from backend.app.settings import Settings, settings

READER, OPERATOR, ADMIN = (
    "reader-key-0123456789",
    "operator:key,no-comma-0123".replace(",", "-"),
    "admin-key-0123456789",
)
THREE = f"grafana:read:{READER}, ci.bot:operate:{OPERATOR},root-1:admin:{ADMIN}"


def test_reads_names_roles_and_keys() -> None:
    found = api_keys.parse(THREE)

    assert [(key.name, key.role) for key in found] == [("grafana", "read"), ("ci.bot", "operate"), ("root-1", "admin")]
    for shown, key in zip((READER, OPERATOR, ADMIN), found, strict=True):
        assert api_keys.find(shown.encode(), found) is key
    assert api_keys.find(b"", found) is None
    assert api_keys.find(READER[:-1].encode(), found) is None


def test_a_role_may_what_the_lower_ones_may() -> None:
    reader, operator, admin = api_keys.parse(THREE)

    assert [admin.allows(role) for role in api_keys.ROLES] == [True, True, True]
    assert [operator.allows(role) for role in api_keys.ROLES] == [True, True, False]
    assert [reader.allows(role) for role in api_keys.ROLES] == [True, False, False]


def test_api_key_is_an_admin_beside_the_others() -> None:
    first, *others = api_keys.all_of("any", THREE)

    assert (first.name, first.role, len(others)) == ("default", "admin", 3)


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found, compared = api_keys.parse(THREE), []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(len(one)) or compare(one, other))

    for shown in (READER, ADMIN, "no key at all"):
        compared.clear()
        api_keys.find(shown.encode(), found)
        assert compared == [32, 32, 32]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:read", "entry 1 needs a key"),
        ("a:read:short", "at least 16"),
        (f"a:write:{READER}", "entry 1 needs a role: read, operate, admin"),
        (f"{READER}", "entry 1 needs a role"),
        (f":read:{READER}", "needs a name"),
        (f"default:read:{READER}", "not 'default'"),
        (f"a:read:{READER},a:admin:{ADMIN}", "entry 2 needs a name of its own"),
        (f"a:read:{READER} x", "visible ASCII"),
    ],
)
def test_says_what_is_wrong_and_shows_no_key(monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    monkeypatch.setenv("API_KEYS", text)
    settings.cache_clear()
    try:
        with pytest.raises(BadSetting) as failure:
            settings()
    finally:
        settings.cache_clear()
    assert str(failure.value).startswith("API_KEYS: ")
    assert says in str(failure.value)
    assert READER not in str(failure.value)


def test_no_key_is_shown_by_what_is_made_of_it() -> None:
    found = Settings(api_key="topsecret", api_keys=THREE).keys

    assert not any(secret in repr(found) for secret in ("topsecret", READER, OPERATOR, ADMIN, "digest"))
