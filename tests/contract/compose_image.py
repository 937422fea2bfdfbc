"""What backend/Dockerfile would put into the image, worked out without Docker: enough of its grammar for ours."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.servers import ROOT

DOCKERFILE = ROOT / "backend" / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """One instruction of one stage."""

    stage: int
    name: str  # in capitals
    arguments: str  # the rest, continuation lines joined


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions in order; the first stage is 0."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()))
    found, stage = [], -1
    for line in filter(None, text.splitlines()):
        name, _, arguments = line.partition(" ")
        stage += name.upper() == "FROM"
        found.append(Instruction(stage, name.upper(), arguments.strip()))
    return found


def copied_from_context() -> list[str]:
    """All that any stage takes from the build context."""
    return [
        source
        for instruction in instructions()
        if instruction.name == "COPY" and "--from=" not in instruction.arguments
        for source in instruction.arguments.split()[:-1]
    ]


def is_in_context(path: str) -> bool:
    """Whether .dockerignore lets this path into the build context; the last line that fits decides."""
    kept = True
    whole = PurePosixPath(path)
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#"):
            fits = _pattern(pattern).fullmatch
            if any(fits(str(part)) for part in (whole, *whole.parents[:-1])):
                kept = line.startswith("!")
    return kept


def lay_out(place: Path) -> None:
    """Make `place` what /app is in the image: what is copied from here into a stage, below its working directory."""
    for instruction in instructions():
        if instruction.name == "COPY" and not instruction.arguments.startswith("--from"):
            source, target = instruction.arguments.split()
            if not target.startswith("/"):
                _copy(source, place / target / (Path(source).name if target.endswith("/") else ""))


def _copy(source: str, target: Path) -> None:
    if (ROOT / source).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, target)
        return

    def ignored(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(ROOT)
        return [name for name in names if not is_in_context((inside / name).as_posix())]

    shutil.copytree(ROOT / source, target, ignore=ignored)


def _pattern(pattern: str) -> re.Pattern[str]:
    """`**` for any folders, `*` for a part of one name."""
    parts = re.split(r"(\*\*/|\*|\?)", pattern.strip("/"))
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part) or re.escape(part) for part in parts))
