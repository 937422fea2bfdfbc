"""A standby beside the test's own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.embedded.postgres import Postgres
from tests.faults.failover import standby_of
from tests.servers import migrate


@pytest.fixture
def standby(own_postgres: Postgres, tmp_path: Path) -> Iterator[Postgres]:
    """Follows the test's own server."""
    migrate(own_postgres.url)
    with standby_of(own_postgres, tmp_path / "standby") as server:
        yield server
