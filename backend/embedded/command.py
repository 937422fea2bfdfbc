"""`citycache up`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from backend.embedded.up import up


@click.command()
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="Port of the API.")
@click.option(
    "--data-dir", default=".citycache", show_default=True, type=click.Path(path_type=Path), help="Where all data is."
)
@click.option("--database-url", default=None, help="A PostgreSQL to use instead of an embedded one.")
@click.option("--broker-url", default=None, help="A RabbitMQ to use instead of a private node; memory:// for none.")
@click.option("--demo", is_flag=True, help="Play the real feed, slowly, so that one sees the caches move.")
def up_command(port: int, data_dir: Path, database_url: str | None, broker_url: str | None, demo: bool) -> None:
    """Run everything on this machine until Ctrl-C."""
    sys.exit(up(port=port, data_dir=data_dir, database_url=database_url, broker_url=broker_url, demo=demo))
