"""Prometheus' text format, read as a scraper would."""

from __future__ import annotations

import urllib.request
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(url: str) -> Series:
    """Every series by name and labels; {} when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, HTTPException):
        return {}
    return series_of(text)


def series_of(text: str) -> Series:
    """Every series of an answer."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    """The sum of all series of this name that have these labels; None when there is none."""
    wanted = set(labels.items())
    found = [number for (said, own), number in series.items() if said == name and wanted <= set(own)]
    return sum(found) if found else None
