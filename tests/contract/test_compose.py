"""The compose files and the Dockerfile hold what they promise, as far as reading can tell; `test_compose_runs` starts
each service's command."""

from __future__ import annotations

import graphlib
import importlib
import os
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.app.health import pulse
from backend.app.settings import DEFAULT_PASSWORDS, Settings
from backend.embedded.erlang import find_server
from backend.embedded.postgres import find_binaries
from tests.contract import compose_image, compose_spec
from tests.servers import ROOT
from tests.system import SCRIPTS

PRODUCTION, DEVELOPMENT = ROOT / "docker-compose.yml", ROOT / "docker-compose.dev.yml"
FILES = [PRODUCTION, DEVELOPMENT]
LEAST_RIGHTS = ROOT / "docker-compose.least-rights.yml"  # over the first
EXAMPLE = ROOT / ".env.example"
DOCUMENTED = {"rabbitmq", "postgres", "migrate", "backend", "event-relay", "celery-worker", "celery-beat"}
SERVERS = {"rabbitmq", "postgres"}
ONCE = {"migrate", "broker-policies"}
NO_ACCOUNT = {"migrate": ["CELERY_BROKER_URL"], "broker-policies": ["DATABASE_URL"]}  # of a server they never ask
READ_BY_COMMANDS = {pulse.VARIABLE}  # not settings, since only the process itself and its health check read them
LOOPBACK = "127.0.0.1"

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def services(file: Path, **environment: str) -> dict[str, Any]:
    found: dict[str, Any] = compose_spec.load(file, environment)["services"]
    return found


def ours(file: Path) -> dict[str, Any]:
    return {name: service for name, service in services(file).items() if name not in SERVERS}


def example() -> dict[str, str | None]:
    """Each variable of .env.example with its value; None where the line is commented out."""
    lines = re.findall(r"(?m)^(#?)([A-Z_]+)=(.*)$", EXAMPLE.read_text())
    return {name: None if comment else value for comment, name, value in lines}


# The files as files


@each_file
def test_follows_the_compose_specification(file: Path) -> None:
    assert compose_spec.errors(compose_spec.load(file)) == []


@each_file
def test_has_the_documented_services(file: Path) -> None:
    assert set(services(file)) >= DOCUMENTED


@each_file
def test_every_variable_has_a_default_and_stands_in_the_example(file: Path) -> None:
    documented = example()

    for variable in compose_spec.variables(file):
        assert variable.default is not None, variable.name
        assert variable.name in documented
        assert documented[variable.name] in (None, variable.default), variable.name


def test_the_example_names_no_variable_that_does_nothing() -> None:
    used = {variable.name for file in [*FILES, LEAST_RIGHTS] for variable in compose_spec.variables(file)}

    assert set(example()) == used


def test_the_two_set_ups_share_no_data() -> None:
    names = [volume["name"] for file in FILES for volume in compose_spec.load(file)["volumes"].values()]

    assert len(names) == len(set(names)) == 2 * len(FILES)


@each_file
def test_keys_are_only_where_they_are_asked_for(file: Path) -> None:
    holders = {
        name for name, service in services(file).items() if {"API_KEY", "API_KEYS"} & service["environment"].keys()
    }

    assert holders == {"backend"}


def test_a_file_is_read_by_old_and_new_tools() -> None:
    for file in [*FILES, LEAST_RIGHTS]:
        content = yaml.safe_load(file.read_text())
        assert "name" not in content, "unknown to docker-compose 1.29"
        assert not any("extends" in service for service in content["services"].values()), "nor with depends_on"
        assert not any("deploy" in service for service in content["services"].values()), "limits have an older spelling"


@each_file
def test_user_names_and_passwords_come_from_the_environment(file: Path) -> None:
    mine = {
        "RABBITMQ_DEFAULT_USER": "rabbit-user",
        "RABBITMQ_DEFAULT_PASS": "rabbit-pass",
        "POSTGRES_USER": "pg-user",
        "POSTGRES_PASSWORD": "pg-pass",
        "POSTGRES_DB": "pg-db",
    }
    found = services(file, **mine)

    assert (
        found["rabbitmq"]["environment"].items()
        >= {name: value for name, value in mine.items() if name.startswith("RABBITMQ_")}.items()
    )
    assert found["postgres"]["environment"] == {
        name: value for name, value in mine.items() if name.startswith("POSTGRES_")
    }
    for name in set(found) - SERVERS:
        assert accounts(found[name]) == {
            "DATABASE_URL": "postgresql+psycopg2://pg-user:pg-pass@postgres:5432/pg-db",
            "CELERY_BROKER_URL": "amqp://rabbit-user:rabbit-pass@rabbitmq:5672//",
        } | dict.fromkeys(NO_ACCOUNT.get(name, []))


def accounts(service: dict[str, Any]) -> dict[str, str | None]:
    """The URLs with user and password that a service has."""
    return {name: service["environment"].get(name) for name in ("DATABASE_URL", "CELERY_BROKER_URL")}


@each_file
def test_the_default_passwords_are_those_that_a_start_warns_of(file: Path) -> None:
    found = services(file)

    shipped = {
        found["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"],
        found["postgres"]["environment"]["POSTGRES_PASSWORD"],
    }
    assert shipped == set(DEFAULT_PASSWORDS)
    assert found["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_USER"] == "admin"
    assert found["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"] == "admin123"


# Images, ports, volumes


@each_file
def test_every_image_is_pinned_or_built_here_once(file: Path) -> None:
    found = services(file)
    built = [service["image"] for service in found.values() if "build" in service]

    assert len(set(built)) == 1
    assert len(built) == len(ours(file)), "a service without it would look for the image in a registry"
    for name, service in found.items():
        if service["image"] not in built:
            assert re.search(r":\d+\.\d+", service["image"]), f"{name}: {service['image']}"
    for service in found.values():
        if "build" in service:
            context = (ROOT / service["build"]["context"]).resolve()
            assert context == ROOT
            assert context / service["build"]["dockerfile"] == compose_image.DOCKERFILE


@each_file
def test_every_port_is_valid_and_published_once(file: Path) -> None:
    published = Counter()
    inside = {}
    for name, service in services(file).items():
        for port in service.get("ports", []):
            found = re.fullmatch(r"(?:(?P<address>[\d.]+):)?(?P<outside>\d+):(?P<inside>\d+)", port)
            assert found, f"{name}: {port}"
            published[found["outside"]] += 1
            inside.setdefault(name, []).append(int(found["inside"]))
            assert 0 < int(found["outside"]) < 65_536
            if found["address"] != LOOPBACK:
                assert (file, name) == (PRODUCTION, "backend"), f"{name}: {port} is open to other machines"

    assert not [port for port, times in published.items() if times > 1]
    assert inside["rabbitmq"] == [5672, 15672]
    assert inside["backend"] == [8000]


@each_file
def test_every_volume_is_declared_or_a_file_of_this_repository(file: Path) -> None:
    content = compose_spec.load(file)
    named = set()
    for service in content["services"].values():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                named.add(source)

    assert named == set(content["volumes"])


@each_file
def test_the_servers_keep_their_data_where_their_images_write_it(file: Path) -> None:
    found = services(file)

    assert "rabbitmq-data:/var/lib/rabbitmq" in found["rabbitmq"]["volumes"]
    assert found["rabbitmq"]["hostname"]  # the node's data is found under the node's name
    assert "postgres-data:/var/lib/postgresql" in found["postgres"]["volumes"]  # since the image of 18


# Order, health, restart


@each_file
def test_every_dependency_exists_and_can_be_met(file: Path) -> None:
    found = services(file)
    for name, service in found.items():
        for other, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in found[other], f"{name} waits for {other}"
            if dependency["condition"] == "service_completed_successfully":
                assert found[other]["restart"] == "no", f"{name} waits for the end of {other}"

    order = {name: set(service.get("depends_on", {})) for name, service in found.items()}
    assert set(graphlib.TopologicalSorter(order).static_order()) == set(found)  # no circle, no unknown name


@each_file
def test_everything_waits_for_the_schema_and_the_servers(file: Path) -> None:
    for name, service in ours(file).items():
        if name not in ONCE:
            assert set(service["depends_on"]) == SERVERS | ONCE


@each_file
def test_every_service_restarts_unless_it_is_done_after_one_run(file: Path) -> None:
    for name, service in services(file).items():
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in ONCE), name


@each_file
def test_every_health_check_calls_a_program_that_is_there(file: Path) -> None:
    server = find_server()
    places = {
        "rabbitmq": [server.parent] if server else [],
        "postgres": [find_binaries()],
    }
    for name, service in services(file).items():
        for program in programs(service.get("healthcheck", {}).get("test", [])):
            inside = places.get(name, [SCRIPTS])
            assert not inside or any(os.access(place / program, os.X_OK) for place in inside), f"{name}: {program}"


def programs(test: list[str]) -> list[str]:
    """The programs that a health check calls."""
    if not test:
        return []
    kind, *words = test
    if kind == "CMD":
        return words[:1]
    assert kind == "CMD-SHELL"
    return [shlex.split(command)[0] for command in words[0].split("&&")]


# Commands and what they find


@each_file
def test_every_command_names_a_program_and_a_module_that_are_there(file: Path) -> None:
    for name, service in ours(file).items():
        program, *arguments = service["command"]
        assert os.access(SCRIPTS / program, os.X_OK), f"{name}: {program}"
        for argument in arguments:
            if re.fullmatch(r"backend(\.\w+)+(:\w+)?", argument):
                module, _, attribute = argument.partition(":")
                assert hasattr(importlib.import_module(module), attribute or "app")
            if argument.endswith(".py"):
                assert argument in compose_image.copied_from_context()


@each_file
def test_every_variable_of_a_process_is_a_setting(file: Path) -> None:
    settings = {name.upper() for name in Settings.model_fields}
    for name, service in ours(file).items():
        assert set(service["environment"]) <= settings | READ_BY_COMMANDS, name


def test_app_env_is_what_the_file_is_for() -> None:
    assert {service["environment"]["APP_ENV"] for service in ours(PRODUCTION).values()} == {"production"}
    assert {service["environment"]["APP_ENV"] for service in ours(DEVELOPMENT).values()} == {"development"}


def test_development_runs_the_mounted_source_and_reloads_the_api() -> None:
    for service in ours(DEVELOPMENT).values():
        assert {"./backend:/app/backend:ro", "./events:/app/events:ro"} <= set(service["volumes"])
    assert "--reload" in ours(DEVELOPMENT)["backend"]["command"]


def test_production_locks_its_containers_up() -> None:
    for name, service in services(PRODUCTION).items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name
        assert service["stop_grace_period"], name
        assert service["init"] is True, name
        if name == "rabbitmq":
            assert service["user"] == "rabbitmq"
        else:
            assert service["read_only"] is True, name
            assert all(":size=" in place for place in service["tmpfs"]), name
        assert not any(volume.startswith(("./backend", "./events")) for volume in service.get("volumes", []))
