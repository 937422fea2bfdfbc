"""Errors of the embedded servers.

EmbeddedError           (a CitycacheError)
├── ServerMissing       no binary of the server was found
├── StartFailed         the server was started and did not come up
├── AlreadyRunning      another process owns this data folder
└── NotRunning          no process owns this data folder
"""

from __future__ import annotations

from backend.app.errors import CitycacheError


class EmbeddedError(CitycacheError):
    """An embedded server cannot do what was asked."""


class ServerMissing(EmbeddedError):
    """No binary of the server was found on this machine."""


class StartFailed(EmbeddedError):
    """The server was started and did not come up."""


class AlreadyRunning(EmbeddedError):
    """Another process owns this data folder."""


class NotRunning(EmbeddedError):
    """No process owns this data folder."""
