"""The set-ups, each from nothing to its end."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys

from backend.app.access.database_roles import ROLES, variable
from tests.containers.shell import Failed, run
from tests.containers.stack import KEY, ONCE, Stack
from tests.containers.table import Table
from tests.servers import ROOT
from tests.waiting import until

FEED = gzip.decompress((ROOT / "tests/data/techconf/changes.jsonl.gz").read_bytes())
PROCESSES = ("celery-worker", "event-relay", "celery-beat", "backend", "rabbitmq", "postgres")
ROLLED = ("celery-worker", "event-relay", "celery-beat", "backend")
COMMANDS = ("up", "status", "migrate", "observe", "relay", "import", "verify", "replay", "dead-letters", "version")
PASSWORDS = {variable(role): f"password-of-{role}" for role in ROLES}
SERVING = {"database", "broker", "relay", "worker"}
SERVICES = {"api": "backend", "relay": "event-relay", "worker": "celery-worker", "beat": "celery-beat"}


def production(table: Table, stack: Stack) -> None:
    """All that an operator does with it."""
    from_nothing(table, stack)
    with table.step("--help of each command, status, version") as seen:
        helps(stack)
        seen.append(status(stack))
    fill(table, stack)
    with table.step("each address that takes no parameters") as seen:
        seen.append(addresses(stack))
    with table.step("each documented task, by test_celery.py") as seen:
        seen.append(documented_tasks(stack))
    for service in PROCESSES:
        with table.step(f"{service} killed, back and healthy") as seen:
            stack.kill(service)
            stack.await_health()
            seen.append(verified(stack))
    with table.step("engine stopped and started") as seen:
        stack.engine.stop()
        stack.engine.start()
        stack.await_health()
        seen.append(verified(stack))
    scaled(table, stack)
    with table.step("down, and up with its data") as seen:
        stopped(stack)
        stack.compose("down")
        stack.compose("up", "-d")
        stack.await_health()
        seen.append(verified(stack))


def development(table: Table, stack: Stack) -> None:
    """The source is mounted."""
    from_nothing(table, stack)
    fill(table, stack)


def least_rights(table: Table, stack: Stack) -> None:
    """Each process with its own accounts."""
    from_nothing(table, stack)
    fill(table, stack)
    with table.step("documented tasks, and status by the API's role") as seen:
        seen += [documented_tasks(stack), status(stack)]
    with table.step("a command where its rights are not") as seen:
        refused = stack.inside("event-relay", "citycache", "verify", codes=(1,))
        said = refused.stderr.strip().splitlines()
        expect("permission denied" in refused.stderr and "Traceback" not in refused.stderr, refused.stderr)
        seen.append(said[-1])
    with table.step("secrets, rights and contents of the containers") as seen:
        secrets_apart(stack)
        seen.append(locked_up(stack))


def upgrade(table: Table, new: Stack, old: Stack) -> None:
    """From the older release to this one and back, with the same data."""
    from_nothing(table, old)
    imported(table, old)  # whether the older release keeps up is not the question
    before = {one.id for one in old.containers()}
    with table.step("a migration that fails leaves the old ones running") as seen:
        wrong = "postgresql://nobody:nothing@postgres:5432/citycache"
        new.compose("run", "--rm", "--no-deps", "-e", f"DATABASE_URL={wrong}", "migrate", codes=(1, 2))
        expect(
            before == {one.id for one in old.containers()} and old.ask("/health/live")[0] == 200, "they were replaced"
        )
        seen.append("none was replaced")
    with table.step("upgraded, as docs/upgrading.md says") as seen, new.watched() as gaps:
        for once in ONCE:
            new.compose("run", "--rm", "--no-deps", once)
        new.compose("up", "-d", "--no-deps", *ROLLED)
        until(lambda: all(one.is_well for one in new.containers() if one.service in ROLLED), 240, "healthy")
        seen.append(verified(new))
    print(f"    reads went unanswered for {', '.join(f'{gap:.1f} s' for gap in gaps) or 'less than a second'}")
    with table.step("the database says who has migrated it") as seen:
        seen.append(new.inside("backend", "citycache", "version").stdout.strip().splitlines()[-1])
    with table.step("rolled back, as docs/upgrading.md says") as seen:
        old.compose("up", "-d", "--no-deps", *ROLLED)
        until(lambda: old.ask("/health/live")[0] == 200, 120, "the older API answers")
        expect(old.ask("/api/v1/cities", {"name": "After the rollback"})[0] == 201, "it does not write")
        seen.append(verified(old))


def from_nothing(table: Table, stack: Stack) -> None:
    """Without any data."""
    with table.step(f"up from nothing to healthy, by {' '.join(stack.tool)}", must=True) as seen:
        stack.compose("down", "-v", "--remove-orphans")
        done = stack.compose("up", "-d")
        expect("error" not in (done.stdout + done.stderr).lower(), done.stderr)
        stack.await_health()
        seen.append(f"{len(stack.containers())} containers")


def fill(table: Table, stack: Stack) -> None:
    """Import the real feed, and compare."""
    imported(table, stack)
    with table.step("verify") as seen:
        seen.append(verified(stack))


def imported(table: Table, stack: Stack) -> None:
    """As an operator would."""
    with table.step("import of the real feed") as seen:
        seen.append(stack.inside("backend", "citycache", "import", "-", given=FEED).stdout.strip())


def verified(stack: Stack) -> str:
    """All caches agree with the catalog, at the latest after a minute."""
    done = stack.inside("celery-worker", "citycache", "verify", "--wait", "60", "--json")
    tables = json.loads(done.stdout)["tables"]
    return f"{sum(table['checked'] for table in tables):,} rows agree"


def helps(stack: Stack) -> None:
    """Every command that the image has explains itself."""
    listed = stack.inside("backend", "citycache", "--help").stdout
    for command in COMMANDS:
        expect(f"  {command} " in listed, f"{command} is not listed")
    each = "set -e; for command in $0 $*; do citycache $command --help; done"
    stack.inside("backend", "sh", "-c", each, *COMMANDS)


def status(stack: Stack) -> str:
    """What it says; what serves may not be wrong, however busy the machine is."""
    answer = json.loads(stack.inside("backend", "citycache", "status", "--json").stdout)
    bad = {part["name"]: part["effect"] for part in answer["health"]["parts"] if part["state"] == "bad"}
    expect(not bad.keys() & SERVING, str(bad))
    return f"status: lag {answer['lag']}, not well: {', '.join(bad) or 'nothing'}"


def addresses(stack: Stack) -> str:
    """GET each one of the API's description."""
    paths = json.loads(stack.ask("/openapi.json")[1])["paths"]
    plain = [path for path, methods in paths.items() if "get" in methods and "{" not in path]
    answers = {path: stack.ask(path)[0] for path in [*plain, "/", "/docs"]}
    wrong = {path: answer for path, answer in answers.items() if answer not in (200, 422)}
    expect(not wrong, str(wrong))
    return f"{len(answers)} addresses"


def documented_tasks(stack: Stack) -> str:
    """Start each and wait for its end."""
    command = [sys.executable, "test_celery.py", "--timeout", "120"]
    environment = {**os.environ, "API_URL": f"http://127.0.0.1:{stack.port}", "API_KEY": KEY}
    done = run(*command, env=environment, cwd=ROOT / "backend", seconds=300)
    return done.stdout.strip().splitlines()[-1]


def scaled(table: Table, stack: Stack) -> None:
    """Two workers and two relays."""
    with table.step("two workers, two relays, each asked for its metrics") as seen:
        stack.compose("up", "-d", "--no-recreate", "--scale", "celery-worker=2", "--scale", "event-relay=2")
        stack.await_health()
        for name in ("celery-worker", "event-relay"):
            asked = stack.inside("backend", "python", "-c", ASK_EACH.format(name=name)).stdout.split()
            expect(len(asked) == 2 and set(asked) == {"200"}, f"{name}: {asked}")
        seen.append(verified(stack))


ASK_EACH = """
import socket, urllib.request as r
for place in sorted({{info[4][0] for info in socket.getaddrinfo("{name}", 9100, socket.AF_INET)}}):
    print(r.build_opener(r.ProxyHandler({{}})).open(f"http://{{place}}:9100/metrics", timeout=5).status)
"""


def stopped(stack: Stack) -> None:
    """Every process of ours ends with 0 when it is asked to."""
    stack.compose("stop")
    codes = {one.service: one.exit_code for one in stack.containers() if one.service in (*ROLLED, *ONCE)}
    expect(not any(codes.values()), f"exit codes {codes}")


def secrets_apart(stack: Stack) -> None:
    """No container has a password that it does not use."""
    for container in stack.containers():
        if container.service not in (*ONCE, "rabbitmq", "postgres"):
            mine = {role for role, service in SERVICES.items() if service == container.service} or {"observer"}
            words = " ".join(container.environment)
            foreign = [role for role in ROLES if f"password-of-{role}" in words and role not in mine]
            expect(not foreign, f"{container.service} has the passwords of {foreign}")
            expect((KEY in words) == (container.service == "backend"), f"{container.service} and the API's key")


def locked_up(stack: Stack) -> str:
    """Neither root, nor capabilities, nor a place to write, nor what installs packages."""
    looks = (
        "id -u",
        "grep CapEff /proc/self/status | cut -f2",
        "touch /here",
        "python -m pip",
        "ls /opt/venv/bin | grep -c postgres",
    )
    said = stack.inside("backend", "sh", "-c", f"({'; '.join(looks)}) 2>&1", codes=(0, 1)).stdout.split("\n")
    expect(said[0] == "10001" and int(said[1], 16) == 0, str(said))
    expect("Read-only" in said[2] and "No module named pip" in said[3] and said[4] == "0", str(said))
    return "user 10001, no capabilities, read-only, no pip, no server"


def expect(holds: bool, what: str) -> None:
    """Raise Failed unless it holds."""
    if not holds:
        raise Failed(what)


def older_files(revision: str, place: str) -> None:
    """The repository at that revision, in a folder."""
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    subprocess.run(["tar", "-x", "-C", place], input=archive, check=True, timeout=60)
