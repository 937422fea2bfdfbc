"""Who may import whom, and what no module may do when it is imported."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.servers import ROOT

HOUSES = ("events", "backend")
MODULES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py") if "alembic" not in path.parts)
CACHE_TABLES = ("product_city_mapping", "company_city_mapping", "city_counts", "active_cities_cache")
WRITERS = {"patch.sql", "rehearsal.sql"}  # the only files whose statements write the caches, the second rolled back
WRITING = ("insert into ", "update ", "delete from ", "truncate ", "merge into ", "copy ")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_but_the_patch_writes_the_caches() -> None:
    files = [*MODULES, *(ROOT / "backend").rglob("*.sql")]
    written = [
        f"{shown(path)}: {verb}{table}"
        for path in files
        if path.name not in WRITERS
        for verb in WRITING
        for table in CACHE_TABLES
        if f"{verb}{table}" in " ".join(path.read_text(encoding="utf-8").lower().split())
    ]
    assert written == []


def test_the_rule_of_the_caches_is_stated_once() -> None:
    """Whoever needs it reads a truth view."""
    stated = [
        shown(path)
        for path in (ROOT / "backend" / "app").rglob("*.sql")
        if "WHERE company.is_active" in path.read_text(encoding="utf-8")
    ]
    assert stated == ["backend/app/caches/truth.sql"]


def imports() -> dict[str, set[str]]:
    """The modules of ours that each one imports, also inside functions."""
    paths = [path for house in HOUSES for path in (ROOT / house).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}

    def of(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in names else node.module
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)

    return {name: ({*of(path)} & {*names}) - {name} for name, path in names.items()}


def test_no_module_imports_itself_by_way_of_others_not_even_inside_a_function() -> None:
    graphlib.TopologicalSorter(imports()).prepare()


def test_production_imports_nothing_of_what_starts_servers_on_this_machine() -> None:
    """But for the commands that find what was started there."""
    reaching = {name for name, others in imports().items() if any("backend.embedded" in other for other in others)}
    outside = {name for name in reaching if not name.startswith("backend.embedded")}
    assert outside == {"backend.app.commands.data_dir", "backend.app.commands.status"}


def test_no_function_imports_a_module_of_ours() -> None:
    """It would hide from its readers, and from those who look for circles, what a module depends on."""
    hidden = [
        f"{shown(path)}:{inner.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
        if (isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith(HOUSES))
        or (isinstance(inner, ast.Import) and any(alias.name.startswith(HOUSES) for alias in inner.names))
    ]
    assert hidden == []


def test_nothing_connects_when_it_is_imported() -> None:
    """Neither server is there, and importing every module takes no notice."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if path.name not in ("__init__.py",)
    ]
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)
    nowhere = {
        "DATABASE_URL": "postgresql+psycopg2://x:x@127.0.0.1:9/x",
        "CELERY_BROKER_URL": "amqp://x:x@127.0.0.1:9//",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **nowhere},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is() -> None:
    silent = [shown(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []
