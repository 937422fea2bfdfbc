"""How benchmarks compare: turns, medians, ratios to a row of the same run, and what was wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report, suite
from benchmarks.measure import Row, Table, Wanted, alternate, quantiles

TABLE = Table(
    "throughput",
    "events a second",
    [
        Row("peer", [90.0, 100.0, 400.0], "events/s"),
        Row("ours", [210.0, 200.0, 100.0], "events/s", "peer", Wanted(2.0), {"batches": 3.0}),
        Row("age", [30.0], "ms", "", Wanted(20, at_least=False, of="value")),
    ],
    ["a note"],
)


def test_variants_take_turns():
    turns: list[str] = []
    found = alternate(2, {name: lambda name=name: turns.append(name) or float(len(turns)) for name in "ab"})
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_medians_are_divided_and_judged():
    ours, age = TABLE.row("ours"), TABLE.row("age")
    assert (TABLE.ratio(ours), TABLE.reached(ours)) == (2.0, True)
    assert (TABLE.ratio(age), TABLE.reached(age)) == (None, False)
    assert TABLE.reached(TABLE.row("peer")) is None


def test_quantiles_are_measured_values():
    assert quantiles([float(n) for n in range(100, 0, -1)]) == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}


def test_the_summary_is_made_of_the_newest_table_of_each_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    report.write(TABLE, quick=False)
    report.write(Table("cost", "", [Row("quick", [1.0], "µs")]), quick=True)
    suite.summarize(quick=False)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert [line for line in lines if "ours" in line] == [
        "| throughput | ours | 200 events/s | ±28% | peer | 2.00 x | ≥ 2 x | reached; batches 3 |"
    ]
    assert "quick" not in "".join(lines)
    assert (tmp_path / "results.svg").exists()


def test_a_table_survives_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    report.write(TABLE, quick=True)
    (again,) = report.read(["throughput"], quick=True)
    assert again.as_dict() == json.loads(json.dumps(TABLE.as_dict()))
