"""The compose set-ups on a real container engine: `python -m tests.containers`, or a part: `… production upgrade`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

import yaml

from tests.containers import images, walk
from tests.containers.engine import Engine, fewer_files, install
from tests.containers.stack import Stack
from tests.containers.table import Table
from tests.servers import ROOT

OLDER = "e114281"  # its schema is older by eight migrations, and its files are those of docker compose alone
SET_UPS = ("production", "least-rights", "development", "upgrade")


def main() -> int:
    """0 when all went well, 1 when something did not, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(SET_UPS)}; all when none is named")
    parser.add_argument("--place", type=Path, default=Path("/var/tmp/citycache-containers"), help="keeps the images")
    parser.add_argument("--older", default=OLDER, help=f"the revision that is upgraded (default: {OLDER})")
    parser.add_argument("--minutes", type=int, default=60, help="the longest that all may take (default: 60)")
    wishes = parser.parse_args()
    if unknown := set(wishes.parts) - set(SET_UPS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGALRM, _too_late)
    signal.signal(signal.SIGTERM, _too_late)
    signal.alarm(wishes.minutes * 60)
    table, engine = Table(), Engine(wishes.place)
    with table.part("engine and images"):
        install()
        engine.start()
        try:
            _try(table, engine, wishes.parts or list(SET_UPS), wishes.older)
        finally:
            _end(engine)
    print(f"\n{table.failures} steps failed" if table.failures else "\nall went well")
    return 1 if table.failures else 0


def _try(table: Table, engine: Engine, parts: list[str], older: str) -> None:
    with table.step("images that the files name", must=True) as seen:
        seen.append(images.prepare(engine))
    with table.step("our image", must=True) as seen:
        seen.append(images.build(engine, ROOT, "citycache:now"))
        engine.docker("tag", "citycache:now", "citycache:dev")
    over = _over(engine)

    def stack(*files: str, tool: tuple[str, ...] = ("docker", "compose"), **variables: str) -> Stack:
        return Stack(engine, (*files, *over), ROOT, {"CITYCACHE_TAG": "now", **variables}, tool)

    production = stack("docker-compose.yml")
    if "production" in parts:
        _part(table, "production", production, walk.production)
    if "least-rights" in parts:
        limited = stack("docker-compose.yml", "docker-compose.least-rights.yml", **walk.PASSWORDS)
        _part(table, "production with least rights", limited, walk.least_rights)
    if "development" in parts:
        _part(table, "development", stack("docker-compose.dev.yml", tool=_oldest_tool()), walk.development)
    if "upgrade" in parts:
        old = _older(table, production, older)
        _part(table, f"from {older} to here and back", production, partial(walk.upgrade, old=old))


def _part(table: Table, title: str, stack: Stack, play: Callable[[Table, Stack], None]) -> None:
    """From nothing to nothing."""
    with table.part(title):
        try:
            play(table, stack)
        finally:
            stack.compose("down", "-v", "--remove-orphans", codes=(0, 1))  # what stays is removed at the end


def _older(table: Table, stack: Stack, revision: str) -> Stack:
    """The same set-up by the files and the image of that revision."""
    folder = stack.engine.place / "older"
    walk.older_files(revision, str(folder))
    with table.step("the older image", must=True):
        build = ("build", "--network=host", "-f", folder / "backend/Dockerfile", "-t", "citycache:older", folder)
        stack.engine.docker(*build, seconds=900)
    return replace(stack, folder=folder, variables={"CITYCACHE_TAG": "older"})


def _over(engine: Engine) -> list[str]:
    """A file over the others, where this machine needs one."""
    content = fewer_files()
    if content is None:
        return []
    file = engine.place / "here.yml"
    file.write_text(yaml.safe_dump(content))
    return [str(file)]


def _oldest_tool() -> tuple[str, ...]:
    """Debian's docker-compose 1.29 where it is installed: the files are for both."""
    return ("docker-compose",) if shutil.which("docker-compose", path="/usr/bin") else ("docker", "compose")


def _end(engine: Engine) -> None:
    """Nothing stays but the images."""
    try:
        if left := engine.docker("ps", "-aq").split():
            engine.docker("rm", "-f", "-v", *left, seconds=120)
        if volumes := engine.docker("volume", "ls", "-q").split():
            engine.docker("volume", "rm", *volumes)
        engine.docker("network", "prune", "-f")
    finally:
        engine.stop()


def _too_late(number: int, frame: FrameType | None) -> None:
    sys.exit("it took too long" if number == signal.SIGALRM else "interrupted")


if __name__ == "__main__":
    sys.exit(main())
