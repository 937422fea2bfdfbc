"""The compose file that gives each process rights of its own; `tests/integration/test_roles.py` runs with these."""

from __future__ import annotations

import re
from typing import Any

import pytest

from backend.app.access import database_roles
from backend.app.access.broker_rights import RIGHTS
from backend.app.settings import Settings
from tests.contract import compose_spec
from tests.contract.test_compose import LEAST_RIGHTS, PRODUCTION

PASSWORDS = {database_roles.variable(role): f"password-of-{role}" for role in database_roles.ROLES}
PROCESSES = {
    "backend": "api", "event-relay": "relay", "celery-worker": "worker", "celery-beat": "beat", "observer": "observer",
}  # fmt: skip


def services() -> dict[str, Any]:
    found: dict[str, Any] = compose_spec.load(LEAST_RIGHTS, PASSWORDS)["services"]
    return found


def test_follows_the_compose_specification_and_belongs_to_production() -> None:
    assert compose_spec.errors(compose_spec.load(LEAST_RIGHTS, PASSWORDS)) == []
    assert services().keys() <= compose_spec.load(PRODUCTION)["services"].keys()


def test_every_process_has_an_account_of_its_own() -> None:
    for service, process in PROCESSES.items():
        environment = services()[service]["environment"]
        for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            account = f"//citycache_{process}:password-of-{process}@"
            assert account in environment[name], (service, name)
            theirs = compose_spec.load(PRODUCTION)["services"]["backend"]["environment"][name]
            assert re.sub("//.*@", "", environment[name]) == re.sub("//.*@", "", theirs)
    assert set(PROCESSES.values()) == set(RIGHTS) == set(database_roles.ROLES) - {"migrate"}


def test_only_known_services_and_settings_are_named() -> None:
    known = set(compose_spec.load(PRODUCTION)["services"])
    settings = {name.upper() for name in Settings.model_fields} | set(PASSWORDS)

    assert set(services()) <= known
    for service in services().values():
        assert set(service["environment"]) <= settings


def test_the_observer_runs_apart_from_the_api_here_and_nowhere_else() -> None:
    assert compose_spec.load(PRODUCTION)["services"]["observer"]["scale"] == 0
    assert services()["observer"]["scale"] == 1


def test_only_whoever_makes_the_accounts_has_their_passwords() -> None:
    of_the_broker = {name: value for name, value in PASSWORDS.items() if name != database_roles.variable("migrate")}

    assert services()["migrate"]["environment"] == PASSWORDS
    assert services()["broker-policies"]["environment"] == of_the_broker
    for service in PROCESSES:
        assert not set(services()[service]["environment"]) & set(PASSWORDS)
    assert services()["migrate"]["command"] == ["citycache", "migrate", "--roles"]
    assert services()["backend"]["environment"]["OBSERVER"] == "false"


@pytest.mark.parametrize("missing", PASSWORDS)
def test_a_missing_password_stops_the_start(missing: str) -> None:
    with pytest.raises(LookupError, match=missing):
        compose_spec.load(LEAST_RIGHTS, {name: value for name, value in PASSWORDS.items() if name != missing})
