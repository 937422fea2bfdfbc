"""`citycache relay` and `citycache observe`: processes that run until they are told to end."""

from __future__ import annotations

import click

from backend.app.observing import process as observing
from backend.app.relay import process as relaying


@click.command()
def relay_command() -> None:
    """Publish committed events from the outbox to the exchange; any number may run, one leads."""
    relaying.run()


@click.command()
def observe_command() -> None:
    """Run canary, auditor and history apart from the API, which then has OBSERVER=false."""
    observing.run()
