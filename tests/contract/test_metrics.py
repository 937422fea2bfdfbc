"""docs/metrics.md lists what the code counts, and names follow Prometheus' conventions."""

from __future__ import annotations

import re

from backend.app.telemetry import metrics
from tests.servers import ROOT

UNITS = ("seconds", "rows", "messages", "bytes")


def test_the_table_of_the_docs_equals_the_code() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text[text.index("| metric |") :].strip() == metrics.table(), (
        "python -m backend.app.telemetry.metrics prints the table that docs/metrics.md needs"
    )


def test_names_follow_the_conventions() -> None:
    for name, kind, labels, _, meaning in metrics.described():
        assert re.fullmatch(r"citycache_[a-z][a-z_]*[a-z]", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not re.search(r"_(ms|milliseconds|minutes)\b", name)
        assert "le" not in labels
        assert meaning[0].isupper() or meaning[0].isdigit()


def test_no_metric_is_listed_twice() -> None:
    names = [name for name, *_ in metrics.described()]
    assert len(names) == len(set(names))
