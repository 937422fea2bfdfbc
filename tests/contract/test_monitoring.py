"""What the repository ships for Prometheus and Grafana is accepted by their tools and asks for what exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.app.telemetry import metrics
from tests.servers import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "citycache.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]


def panels(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in of["panels"]:
        yield panel
        if "panels" in panel:
            yield from panels(panel)


def series() -> set[str]:
    """Names that a query may use."""
    names = set()
    for name, kind, *_ in metrics.described():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def labels_of(name: str) -> set[str]:
    whole = re.sub(r"_(bucket|sum|count)$", "", name)
    labels = next(labels for said, _, labels, *_ in metrics.described() if said in (name, whole))
    return {*labels, "le"} if name.endswith("_bucket") else set(labels)


QUERIES = [target["expr"] for panel in panels(DASHBOARD) for target in panel.get("targets", ())]
EXPRESSIONS = [rule["expr"] for rule in RULES]


def test_every_query_uses_metrics_and_labels_that_exist() -> None:
    known = series()
    for query in [*QUERIES, *EXPRESSIONS]:
        used = re.findall(r"(citycache_\w+)(?:\{([^}]*)\})?", query)
        assert used, query
        for name, selector in used:
            assert name in known, f"{name} in {query}"
            assert set(re.findall(r"(\w+)\s*(?:=|!)", selector)) <= labels_of(name), query


def test_every_metric_is_looked_at_by_an_alert_or_a_panel() -> None:
    used = set(re.findall(r"citycache_\w+", " ".join([*QUERIES, *EXPRESSIONS])))
    unseen = {
        name
        for name, kind, *_ in metrics.described()
        if not used & ({f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name})
    }
    assert unseen <= {"citycache_relay_rounds_total", *(n for n in unseen if "wide_patch_" in n)}


def test_alerts_have_a_severity_and_say_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_what_must_never_be_silent_has_an_alert_for_its_absence() -> None:
    absent = set(re.findall(r"absent\((\w+)\)", " ".join(EXPRESSIONS)))
    assert absent >= {
        "citycache_up",
        "citycache_canary_age_seconds",
        "citycache_outbox_oldest_seconds",
        "citycache_relay_leads",
        "citycache_worker_batches_total",
        "citycache_scheduled_run_age_seconds",
        "citycache_observation_age_seconds",
    }


def test_each_container_of_a_scaled_service_is_a_target_of_its_own() -> None:
    """One name for two containers would mix their counters. What publishes a port is one container."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    looked_up = [found for scrape in scrapes for found in scrape.get("dns_sd_configs", ())]
    fixed = [target for scrape in scrapes for found in scrape.get("static_configs", ()) for target in found["targets"]]

    assert {name for found in looked_up for name in found["names"]} == {
        "event-relay",
        "celery-worker",
    } & services.keys()
    assert all(found["type"] == "A" for found in looked_up)
    assert [target for target in fixed if "ports" not in services[target.partition(":")[0]]] == []


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    found = list(panels(DASHBOARD))
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_it(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [promtool(), *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_parses_the_dashboard_s_queries(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool(), "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def promtool() -> str:
    """Prometheus' own checker; without it the test is skipped at home and fails in CI."""
    found = shutil.which("promtool")
    if found is None:
        missing = "promtool is missing; Debian's package prometheus has it, scripts/install-test-servers installs it"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(f"NOT TESTED: {missing}")
    return found
