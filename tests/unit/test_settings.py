"""Settings that mean nothing are refused with a sentence that names the variable; no sentence shows a secret."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Final

import pytest

from backend.app.errors import BadSetting
from backend.app.settings import Settings, settings
from tests.servers import ROOT

NUMBERS: Final = ("nan", "inf", "-inf", "-1", "1e400", "", " ", "many", "0x10", "9" * 400, "1,5", "None", "٣x")
TEXTS: Final = ("\t", "nonsense value", "a\nb", "x" * 100_000, "\udcff")
KEY, OTHER = "0123456789abcdef-key", "fedcba9876543210-key"
NONSENSE: Final[dict[str, tuple[str, ...]]] = {
    "DATABASE_URL": (
        "postgresql://", "postgresql://h", "postgresql://h/", "postgresql://h:0/d", "postgresql://h:99999/d",
        "postgresql://h:port/d", "postgresql://a b/d", "postgresql://[::1/d", "mysql://h/d", "h", "postgresql://h,/d",
        "postgresql://u:p/ss@h/d", "postgresql://h/d?sslmode=some", "postgresql://h/d?target_session_attrs=best",
        "postgresql://h/d?require_auth=any", "postgresql://h/d?channel_binding=1", "postgresql:///d?host=a:1&host=b:c",
        "postgresql:///d?host=a:²", "postgresql:///d?host=a,b,c&port=1,2", "postgresql://h/d?port=٣", *TEXTS,
    ),
    "DATABASE_READ_URL": ("postgresql://h", "postgresql://h:0/d", "mysql://h/d", "h", *TEXTS),
    "CELERY_BROKER_URL": (
        "", "amqp://", "amqp:///", "amqp://h:0//", "amqp://h:99999//", "amqp://h//;", ";", "redis://h", "amqp://u:p@",
        "amqp://[::1//", "amqps://h//?unknown=1", "amqp://h//?heartbeat=x", "amqp://h//;amqp://i//?x=1", *TEXTS,
    ),
    "CELERY_RESULT_BACKEND": ("rpc", ":", "//", *TEXTS),
    "API_KEY": (" ", " a", "a ", "schlüssel", "x" * 10_000, "\t", "a\nb", "\udcff"),
    "INCIDENT_WEBHOOK_URL": ("h/x", "ftp://h/x", "http://", "https://h:99999", *TEXTS),
    "INCIDENT_WEBHOOK_KEY": (" ", " a", "a ", "schlüssel", "x" * 10_000, "\t", "a\nb", "\udcff"),
    "API_KEYS": (
        ",", ",,", " ", ":", "::", f"a:read:{KEY},", f",a:read:{KEY}", f"a:read:{KEY},a:read:{OTHER}", f"a:root:{KEY}",
        f"a:read:{KEY},b:admin:{KEY}", "a:read:short", f"default:read:{KEY}", f"a b:read:{KEY}", *TEXTS,
    ),
    "ALLOWED_HOSTS": (",", "a,,b", "http://a", "a:80", "a/b", "*", "-a", "a b", "a..b", "x" * 300, *TEXTS),
    "TRUSTED_PROXIES": (",", "*", "localhost", "10.0.0.1/8", "10.0.0.0/33", "1.2.3", "127.0.0.1:80", *TEXTS),
    "APP_ENV": ("prod", "Production ", "", *TEXTS),
    "LOG_FORMAT": ("xml", "", *TEXTS),
    "LOG_LEVEL": ("loud", "", "10", *TEXTS),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector:4318", "http://", "https://h:99999", *TEXTS),
    "METRICS_PORT": ("65535",),  # the worker of `up` takes the next one
    "METRICS_HOST": ("", "a b", "http://a", "0.0.0.0:1", *TEXTS),
    "OBSERVER": ("maybe", "", "2", *TEXTS),
    "DEMO": ("maybe", "", "2", *TEXTS),
}  # fmt: skip
ELSEWHERE: Final = {"CATALOG_FILE", "EVENT_LOG", "DATABASE_READ_URL", "CITYCACHE_SCHEMA"}  # with tests of their own
TOGETHER: Final = (
    {"API_KEY": KEY, "API_KEYS": f"a:read:{KEY}"},
    {"RELAY_POLL_MS_MIN": "50", "RELAY_POLL_MS_MAX": "5"},
    {"INCIDENT_WEBHOOK_URL": "https://h/x", "INCIDENT_WEBHOOK_KEY": "short"},
)


def cases() -> list[tuple[str, str]]:
    found = []
    for name, field in Settings.model_fields.items():
        variable = name.upper()
        values = (*(NUMBERS if field.annotation in (int, float) else ()), *NONSENSE.get(variable, ()))
        if not values and variable in ELSEWHERE:
            continue
        assert values, f"{variable}: say here which values of it mean nothing"
        found += [(variable, value) for value in values]
    return found


def refusal(**variables: str) -> str:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(name, value)
        settings.cache_clear()
        try:
            with pytest.raises(BadSetting) as caught:
                settings()
        finally:
            settings.cache_clear()
    return str(caught.value)


@pytest.mark.parametrize(("variable", "value"), cases())
def test_a_value_that_means_nothing_is_refused_by_name(variable: str, value: str) -> None:
    said = refusal(**{variable: value})
    assert variable in said
    assert len(said) < 500
    assert KEY not in said
    assert "p/ss" not in said


@pytest.mark.parametrize("url", ["nosuchbackend://h", "http://hidden-word@[::1"])
def test_a_result_backend_that_celery_does_not_have_is_refused_before_the_first_task(url: str) -> None:
    """By whoever imports the app: API, worker and beat."""
    done = subprocess.run(
        [sys.executable, "-c", "import backend.app.celery_app"],
        env={**os.environ, "CELERY_RESULT_BACKEND": url}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith("backend.app.errors.BadSetting: CELERY_RESULT_BACKEND: ")
    assert "hidden-word" not in done.stderr


@pytest.mark.parametrize("variables", TOGETHER)
def test_values_that_contradict_each_other_are_refused(variables: dict[str, str]) -> None:
    assert any(name in refusal(**variables) for name in variables)


@pytest.mark.parametrize(
    "variables",
    [
        {"DATABASE_URL": "postgresql://u:p%40@a:5432,b:5433/d?target_session_attrs=read-write"},
        {"DATABASE_URL": "postgresql:///d?host=/var/run/postgresql"},
        {"DATABASE_URL": "postgres://[::1]:5432/d"},
        {"CELERY_BROKER_URL": "amqp://a:b@one:5672//;amqp://a:b@two:5672//"},
        {"CELERY_BROKER_URL": "memory://"},
        {"API_KEY": KEY, "API_KEYS": f" a:read:{OTHER} "},
        {"ALLOWED_HOSTS": "a.example, B-1.example,[::1],10.0.0.1,backend"},
        {"TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1,2001:db8::/32"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        {"METRICS_HOST": "::"},
        {"RATE_LIMIT_PER_SECOND": "0.5"},
    ],
)
def test_values_that_mean_something_are_taken(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    own: Any = Settings()
    assert own.hosts >= set()
    assert isinstance(own.proxies, tuple)
