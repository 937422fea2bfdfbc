"""The Dockerfile and .dockerignore hold what they promise, as far as reading can tell."""

from __future__ import annotations

import re

import pytest

from tests.contract import compose_image
from tests.servers import ROOT


def test_the_image_is_built_from_pinned_stages_and_does_not_run_as_root() -> None:
    found = compose_image.instructions()
    given = dict(instruction.arguments.split("=") for instruction in found if instruction.name == "ARG")
    bases = [instruction.arguments.split()[0] for instruction in found if instruction.name == "FROM"]
    bases = [given.get(base.strip("${}"), base) for base in bases if base not in ("dependencies", "code")]
    users = [instruction for instruction in found if instruction.name == "USER"]

    assert len(bases) > 1
    assert all(re.search(r":\d+\.\d+\.\d+-slim", base) for base in bases), bases
    assert users[-1].stage == found[-1].stage
    assert users[-1].arguments.split(":")[0] not in ("root", "0")


def test_a_change_of_the_code_remakes_no_layer_of_dependencies() -> None:
    found = compose_image.instructions()
    stages = {
        instruction.arguments.rpartition(" AS ")[2]: instruction.stage
        for instruction in found
        if " AS " in instruction.arguments
    }
    own = [one for one in found if one.stage == stages["dependencies"] and one.name == "COPY"]

    assert [one.arguments for one in own] == ["requirements.lock /"]
    assert any("--from=dependencies /opt/venv" in one.arguments for one in found)


def test_the_image_takes_only_what_the_context_has() -> None:
    for source in compose_image.copied_from_context():
        assert (ROOT / source).exists(), source
        assert compose_image.is_in_context(source), source


@pytest.mark.parametrize(
    "path", [".env", ".git/config", ".venv/bin/python", "tests/conftest.py", "backend/app/__pycache__/main.pyc"]
)
def test_secrets_and_litter_stay_out_of_the_context(path: str) -> None:
    assert not compose_image.is_in_context(path)


def test_the_image_installs_only_what_the_lock_file_allows() -> None:
    pips = [
        instruction.arguments for instruction in compose_image.instructions() if "pip install" in instruction.arguments
    ]

    assert "--require-hashes" in pips[0]
    assert "-r /requirements.lock" in pips[0]
    assert all("--no-deps" in pip for pip in pips[1:])
    assert "index-url" not in compose_image.DOCKERFILE.read_text() + (ROOT / "requirements.lock").read_text()
