"""What every process looks at before it starts its work."""

from __future__ import annotations

import logging
import os
import sys
from urllib.parse import unquote, urlsplit

from backend.app import db
from backend.app.commands.exit_codes import WRONG
from backend.app.errors import DatabaseAway, DatabaseUnfit
from backend.app.settings import DEFAULT_PASSWORDS, Settings

log = logging.getLogger(__name__)


def refuse_unfit_database() -> None:
    """Raise DatabaseUnfit while nothing has begun; a database that is away is waited for later, by each in its way."""
    try:
        db.prove()
    except DatabaseUnfit:
        raise
    except DatabaseAway as failure:
        log.warning("nobody can say yet whether the database is fit: %s", failure)


def end_on_unfit_database() -> None:
    """The same for processes that are not ours to leave: end with exit code 2 and the sentence on standard error."""
    try:
        refuse_unfit_database()
    except DatabaseUnfit as failure:
        print(f"citycache: {failure}", file=sys.stderr, flush=True)
        os._exit(WRONG)


def warn_on_default_passwords(settings: Settings) -> tuple[str, ...]:
    """In production, warn of each server that still takes a password which everyone knows; the variables' names."""
    if settings.app_env != "production":
        return ()
    urls = {
        "DATABASE_URL": [settings.database_url],
        "DATABASE_READ_URL": [settings.database_read_url],
        "CELERY_BROKER_URL": settings.celery_broker_url.split(";"),
    }
    weak = tuple(name for name, all_of_it in urls.items() if any(map(_has_default_password, all_of_it)))
    for name in weak:
        log.warning("%s has a default password, which everyone knows: set another one in .env", name)
    return weak


def _has_default_password(url: str) -> bool:
    try:
        password = urlsplit(url).password
    except ValueError:
        return False
    return password is not None and unquote(password) in DEFAULT_PASSWORDS
