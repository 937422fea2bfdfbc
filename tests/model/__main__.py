"""Check the models and try all interleavings: `python -m tests.model`, or some parts of it by their names."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from backend.embedded.postgres import Postgres
from tests.model import models, spin
from tests.model.mistakes import MISTAKES
from tests.model.scenarios import MEETINGS
from tests.model.stage import tried
from tests.servers import CAREFREE, Databases

PARTS = ("models", "mistakes", "interleavings")


def main() -> int:
    """0 when all promises hold and all mistakes are caught, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="part", help=f"of {', '.join(PARTS)} (all)")
    parts = parser.parse_args().parts
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}")
    results = [_models()] if "models" in parts else []
    if "mistakes" in parts or "interleavings" in parts:
        with tempfile.TemporaryDirectory(prefix="model-") as place:
            results += _on_a_server(Path(place), parts)
    return 0 if all(results) else 1


def _on_a_server(place: Path, parts: list[str]) -> list[bool]:
    server = Postgres(place, settings=CAREFREE)
    server.start()
    try:
        databases = Databases(server)
        results = [_mistakes(databases)] if "mistakes" in parts else []
        return [*results, *([_interleavings(databases)] if "interleavings" in parts else [])]
    finally:
        server.stop()


def _models() -> bool:
    print(f"{'model':<52}{'states':>12}{'depth':>8}{'s':>8}")
    total, is_right = 0, True
    for instance in models.LARGE:
        began = time.monotonic()
        checked = spin.check(instance)
        total, is_right = total + checked.states, is_right and not checked.broken
        seconds = time.monotonic() - began
        print(f"{instance!s:<52}{checked.states:>12,}{checked.depth:>8}{seconds:>8.1f}  {checked.broken}", flush=True)
    print(f"{total:,} states\n")
    return is_right


def _mistakes(databases: Databases) -> bool:
    print(f"{'mistake':<34}{'in the model: shortest trace, broken':<54}in SQL: trace, found in interleaving")
    caught = [_mistake(databases, name) for name in sorted({*MISTAKES, *_in_models()})]
    print(f"{sum(caught)} of {len(caught)} mistakes caught\n")
    return all(caught)


def _in_models() -> dict[str, models.Mistake]:
    return {mistake.instance.macros[-1]: mistake for mistake in models.MISTAKES}


def _mistake(databases: Databases, name: str) -> bool:
    model, statement = "", ""
    is_caught = True
    if seeded := _in_models().get(name):
        found = spin.shortest(seeded.instance)
        model, is_caught = f"{found.depth:>4}  {found.broken}", found.broken == seeded.breaks
    if mistake := MISTAKES.get(name):
        explored = tried(databases, MEETINGS[mistake.meeting], mistake)
        statement = f"{len(explored.trace):>4}  {explored.interleavings}"
        is_caught = is_caught and mistake.says in "\n".join(explored.wrong)
    print(f"{name:<34}{model:<54}{statement}{'' if is_caught else '  NOT CAUGHT'}", flush=True)
    return is_caught


def _interleavings(databases: Databases) -> bool:
    print(f"{'sessions on PostgreSQL':<64}{'interleavings':>14}{'statements':>12}{'s':>8}")
    total, is_right = 0, True
    for name, meeting in MEETINGS.items():
        began = time.monotonic()
        explored = tried(databases, meeting)
        total, is_right = total + explored.interleavings, is_right and not explored.wrong
        seconds = time.monotonic() - began
        print(f"{name:<64}{explored.interleavings:>14,}{explored.steps:>12,}{seconds:>8.1f}", flush=True)
        if explored.wrong:
            print("\n".join([*explored.wrong, *explored.trace]))
    print(f"{total:,} interleavings")
    return is_right


if __name__ == "__main__":
    sys.exit(main())
