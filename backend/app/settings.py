"""All settings of all processes, read from the environment once and validated before anything starts."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend.app.access import addresses
from backend.app.access.api_keys import SHORTEST, Key, all_of, check, find, parse
from backend.app.database import address
from backend.app.errors import BadSetting
from events import tls

SECRET = ("_URL", "_KEY", "_KEYS", "_BACKEND", "_ENDPOINT")  # ends of names whose values no message shows
LONGEST_SHOWN = 100  # characters of a bad value in a message
_SCHEME = re.compile(r"[a-z][a-z0-9+]{1,40}://")
LONGEST_DAYS = 36_500  # that anything is kept
DEFAULT_PASSWORDS = ("admin123", "citycache")  # what the compose files ship with


class Settings(BaseSettings):
    """Settings; the environment variable is the field's name in capitals unless an alias says otherwise."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False, allow_inf_nan=False)

    database_url: str = ""  # several hosts: a:5432,b:5432; empty means that `citycache up` embeds one
    database_read_url: str = ""  # replicas that serve the API's reads of caches; empty: DATABASE_URL does
    read_lag_seconds: Annotated[float, Field(gt=0, le=86_400)] = 10.0  # that what they show may be old
    catalog_file: str = ""  # a definition of tables that are there already; empty: the built-in catalog
    celery_broker_url: str = "amqp://admin:admin123@rabbitmq:5672//"  # several, separated by ';', for a cluster
    event_log: Literal["stream", "table", "auto"] = "auto"  # kept for replay; auto: the stream where the broker has any
    event_log_days: Annotated[float, Field(gt=0, le=LONGEST_DAYS)] = 7.0  # of the table; the stream's are a policy
    celery_result_backend: str = "rpc://"  # passed on to Celery; nothing here reads results from it
    api_key: str = ""  # guards what changes something; empty: open in development, closed in production
    api_keys: str = ""  # more keys, "name:role:key,…" with the roles read, operate, admin
    allowed_hosts: str = ""  # Host names that are answered besides loopback ones; empty: all, once a key is set
    trusted_proxies: str = ""  # addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are believed
    rate_limit_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = (
        500.0  # requests of one key or address; 0: no limit
    )
    shared_cache_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0  # for which a proxy in front may give an answer of
    # the caches to others; 0: it asks each time whether it still holds
    app_env: Literal["development", "production"] = "development"
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    patch_lanes: Annotated[int, Field(ge=1, le=1024)] = 64  # keys of one lane are patched one after the other; three
    # times as many locks may be held at once, and PostgreSQL has room for some 6,400
    batch_keys: Annotated[int, Field(ge=1, le=50_000)] = 2_000  # most keys of one patch of events; a full batch has two
    batch_linger_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0  # how long a lone event waits for company
    batches_in_flight: Annotated[int, Field(ge=1, le=64)] = 2  # event batches a worker patches side by side
    event_prefetch: Annotated[int, Field(ge=1, le=65_535)] = 1_000  # unacknowledged messages a worker may hold
    wide_patch_keys: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000  # a company with more products is patched apart
    rebuild_chunk_keys: Annotated[int, Field(ge=1, le=1_000_000)] = (
        5_000  # most keys that a rebuild patches in one transaction
    )
    drift_grace_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0  # how long a rebuild waits for events under way
    stall_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0  # events that stand still so long: not ready
    freshness_target_ms: Annotated[float, Field(gt=0, le=3_600_000)] = 1_000.0  # for 99 of 100 changes of a minute
    watchdog_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0  # who stands still so long ends; 0: never
    relay_batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 4_000  # outbox rows of one claim
    relay_poll_ms_min: Annotated[float, Field(gt=0, le=10_000)] = 3.0
    relay_poll_ms_max: Annotated[float, Field(gt=0, le=10_000)] = 25.0
    run_history_days: Annotated[float, Field(gt=0, le=LONGEST_DAYS)] = 30.0  # refreshes, replays, clears
    audit_log_days: Annotated[float, Field(gt=0, le=LONGEST_DAYS)] = 180.0
    event_run_history_hours: Annotated[float, Field(gt=0, le=24 * LONGEST_DAYS)] = 6.0  # runs of apply_catalog_events
    patch_history_days: Annotated[float, Field(gt=0, le=LONGEST_DAYS)] = (
        3.0  # for how long a cached row can name its patches
    )
    observer: bool = True  # canary, auditor and history, in one API process of all
    canary_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0  # between two canaries; 0: none
    # of one core for the auditor, but where looks at what was written would come later than a minute; 0: no auditor
    audit_core_share: Annotated[float, Field(ge=0, le=1)] = 0.0075
    audit_grace_seconds: Annotated[float, Field(ge=0, le=600)] = 3.0  # the M of "N nines within M seconds"
    worker_concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    incident_webhook_url: str = ""  # is told of incidents as they begin and end; empty: nobody is
    incident_webhook_key: str = ""  # signs what it is told
    demo: bool = False  # `citycache up --demo` says so; the console tells
    otel_exporter_otlp_endpoint: str = ""  # where traces go; OpenTelemetry's other variables count as well
    metrics_port: Annotated[int, Field(ge=0, le=65_534)] = 0  # of relay or worker; 0: none; `up` takes the next as well
    metrics_host: str = "127.0.0.1"  # 0.0.0.0 in a container, whose network says who may ask

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _database(cls, url: str) -> str:
        if url:
            address.check_scheme(url)
            addresses.check_database_url(url)
            address.check_values(url)
        return url

    @field_validator("celery_broker_url")
    @classmethod
    def _broker(cls, url: str) -> str:
        for part in url.split(";"):
            if not part.startswith(("amqp://", "amqps://", "pyamqp://", "memory://")):
                raise ValueError("must be amqp://, amqps:// or memory:// (several separated by ';')")
            if not part.startswith("memory://"):
                addresses.check_broker_url(part)
        tls.split(url)
        return url

    @field_validator("celery_result_backend")
    @classmethod
    def _result_backend(cls, url: str) -> str:
        if url and not _SCHEME.match(url):
            raise ValueError("must be a URL such as rpc://, or empty")
        return url

    @field_validator("otel_exporter_otlp_endpoint", "incident_webhook_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if url:
            addresses.check_broker_url(url)
        return url

    @field_validator("incident_webhook_url")
    @classmethod
    def _signed(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc:
            raise ValueError("must have no user or password: what is told is signed by INCIDENT_WEBHOOK_KEY")
        return url

    @field_validator("metrics_host")
    @classmethod
    def _metrics_host(cls, host: str) -> str:
        addresses.check_host(host)
        return host

    @field_validator("allowed_hosts")
    @classmethod
    def _allowed_hosts(cls, text: str) -> str:
        addresses.hosts(text)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies(cls, text: str) -> str:
        addresses.networks(text)
        return text

    @field_validator("api_key", "incident_webhook_key")
    @classmethod
    def _key(cls, key: str) -> str:
        if key:
            check(key)
        return key

    @field_validator("api_keys")
    @classmethod
    def _api_keys(cls, text: str) -> str:
        parse(text)
        return text

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.relay_poll_ms_min > self.relay_poll_ms_max:
            raise ValueError("RELAY_POLL_MS_MIN is larger than RELAY_POLL_MS_MAX")
        if self.incident_webhook_url and len(self.incident_webhook_key) < SHORTEST:
            raise ValueError(
                f"INCIDENT_WEBHOOK_URL needs an INCIDENT_WEBHOOK_KEY of at least {SHORTEST} characters, which signs"
            )
        if self.event_log == "stream" and self.in_process:
            raise ValueError("EVENT_LOG=stream needs RabbitMQ, and CELERY_BROKER_URL names none: set EVENT_LOG=auto")
        if self.api_key and find(self.api_key.encode(), parse(self.api_keys)):
            raise ValueError("API_KEYS: one of its keys is API_KEY as well, so nobody could tell who used it")
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """Of ALLOWED_HOSTS."""
        return addresses.hosts(self.allowed_hosts)

    @property
    def proxies(self) -> tuple[addresses.Network, ...]:
        """Of TRUSTED_PROXIES."""
        return addresses.networks(self.trusted_proxies)

    @property
    def keys(self) -> tuple[Key, ...]:
        """All API keys; none: nobody has set one."""
        return all_of(self.api_key, self.api_keys)

    @property
    def in_process(self) -> bool:
        """Whether events and tasks stay inside one process, without RabbitMQ."""
        return self.celery_broker_url.startswith("memory://")


@cache
def settings() -> Settings:
    """The process's settings; raises BadSetting that names each variable and its bad value (never a secret's)."""
    try:
        return Settings()
    except ValidationError as failure:
        raise BadSetting("; ".join(_sentence(dict(error)) for error in failure.errors())) from None


def _sentence(error: dict[str, object]) -> str:
    location = error.get("loc")
    said = str(error.get("msg")).removeprefix("Value error, ")
    if not (isinstance(location, tuple) and location):  # of several together: it names them
        return said
    name = str(location[0]).upper()
    shown = "" if name.endswith(SECRET) else f"={str(error.get('input'))[:LONGEST_SHOWN]!r}"
    return f"{name}{shown}: {said}"
