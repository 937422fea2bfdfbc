"""`--data-dir`: commands use the servers of a running `up`, so that nobody has to copy URLs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from backend.app.settings import settings
from backend.embedded.errors import NotRunning
from backend.embedded.state_file import read_state

USUAL: Final = Path(".citycache")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _find(context: click.Context, parameter: click.Parameter, given: Path | None) -> None:
    """Use the servers of the `up` on the given folder; without one, those of DATABASE_URL, else of the usual folder.

    Raises NotRunning when a folder is given and nothing runs on it.
    """
    if context.resilient_parsing or (given is None and settings().database_url):
        return
    try:
        state = read_state(given or USUAL)
    except NotRunning:
        if given is not None:
            raise
        return
    os.environ.update(DATABASE_URL=state["database_url"], CELERY_BROKER_URL=state["broker_url"])
    settings.cache_clear()


def of_a_running_up(command: Decorated) -> Decorated:
    """The command with the option."""
    option = click.option(
        "--data-dir", type=click.Path(path_type=Path), default=None, expose_value=False, callback=_find,
        help="Of a running `up`, whose servers are used.  [default: DATABASE_URL, else .citycache]",
    )  # fmt: skip
    return option(command)
