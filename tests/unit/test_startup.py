"""The warning about default passwords."""

from __future__ import annotations

import logging

import pytest

from backend.app.settings import Settings
from backend.app.startup import warn_on_default_passwords

GOOD_DATABASE = "postgresql+psycopg2://operator:a-good-password@postgres:5432/shop"
GOOD_BROKER = "amqp://operator:a-good-password@rabbitmq:5672//"
DEFAULT_DATABASE = "postgresql+psycopg2://citycache:citycache@postgres:5432/citycache"
DEFAULT_BROKER = "amqp://admin:admin123@rabbitmq:5672//"


def settings(app_env: str = "production", database: str = GOOD_DATABASE, broker: str = GOOD_BROKER) -> Settings:
    return Settings(app_env=app_env, database_url=database, celery_broker_url=broker)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (settings(), ()),
        (settings(database=DEFAULT_DATABASE), ("DATABASE_URL",)),
        (settings(broker=DEFAULT_BROKER), ("CELERY_BROKER_URL",)),
        (settings(broker=f"{GOOD_BROKER};{DEFAULT_BROKER}"), ("CELERY_BROKER_URL",)),
        (settings(broker="amqp://admin:adm%69n123@rabbitmq:5672//"), ("CELERY_BROKER_URL",)),
        (settings(database=DEFAULT_DATABASE, broker=DEFAULT_BROKER), ("DATABASE_URL", "CELERY_BROKER_URL")),
        (settings(database="", broker="memory://"), ()),
    ],
)
def test_production_warns_of_each_default_password(
    given: Settings, named: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert warn_on_default_passwords(given) == named

    assert len(caplog.messages) == len(named)
    for message, name in zip(caplog.messages, named, strict=True):
        assert message.startswith(name)
        assert "admin123" not in message


def test_development_does_not_mind(caplog: pytest.LogCaptureFixture) -> None:
    assert warn_on_default_passwords(settings("development", DEFAULT_DATABASE, DEFAULT_BROKER)) == ()
    assert caplog.messages == []
