"""`--data-dir`: commands use the servers of a running `up`, so that nobody has to copy URLs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from backend.app.settings import settings
from backend.embedded.errors import NotRunning
from backend.embedded.state_file import read_state

USUAL: Final = Path(".citycache")
OPTION: Final = "--data-dir"
TAKING_IT: Final = ("dead-letters", "doctor", "import", "preview", "replay", "verify", "version")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def of_a_running_up(command: Decorated) -> Decorated:
    """The command with the option, which `find` has read already."""
    option = click.option(
        OPTION, type=click.Path(path_type=Path), expose_value=False,
        help="Of a running `up`, whose servers are used.  [default: DATABASE_URL, else .citycache]",
    )  # fmt: skip
    return option(command)


def find(arguments: Sequence[str]) -> None:
    """Use the servers of the `up` on the folder that a command is given; without one, those of DATABASE_URL, else of
    the usual folder. It comes before the command's modules are loaded: Celery's app keeps the broker's URL of then.

    Raises NotRunning when a folder is given and nothing runs on it.
    """
    given = _given(arguments)
    if given is None and settings().database_url:
        return
    try:
        state = read_state(given or USUAL)
    except NotRunning:
        if given is not None:
            raise
        return
    os.environ.update(DATABASE_URL=state["database_url"], CELERY_BROKER_URL=state["broker_url"])
    settings.cache_clear()


def _given(arguments: Sequence[str]) -> Path | None:
    """The last folder that is named."""
    options = list(takewhile(lambda argument: argument != "--", arguments))
    joined = [one.partition("=")[2] for one in options if one.startswith(f"{OPTION}=")]
    apart = [value for name, value in pairwise(options) if name == OPTION]
    return Path((joined + apart)[-1]) if joined or apart else None
