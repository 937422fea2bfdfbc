"""What tests in a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.stage import Stage, Visit


@pytest.fixture
def visit(console: Stage) -> Iterator[Visit]:
    """A page with the key on the module's own stage; whatever a test does on it, it leaves no trace."""
    with console.page() as open_visit:
        yield open_visit
        open_visit.leaves_no_trace()
