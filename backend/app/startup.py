"""What every process looks at before it starts its work."""

from __future__ import annotations

import logging
from urllib.parse import unquote, urlsplit

from backend.app.settings import DEFAULT_PASSWORDS, Settings

log = logging.getLogger(__name__)


def warn_on_default_passwords(settings: Settings) -> tuple[str, ...]:
    """In production, warn of each server that still takes a password which everyone knows; the variables' names."""
    if settings.app_env != "production":
        return ()
    urls = {
        "DATABASE_URL": [settings.database_url],
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
