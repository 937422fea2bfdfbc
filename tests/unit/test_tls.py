"""TLS parameters in the broker's URL."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from backend.app.errors import BadSetting
from backend.app.settings import settings
from events.tls import split


@pytest.mark.parametrize("url", ["amqp://a:b@h//", "amqp://h:5672/v?heartbeat=5;amqp://i//", "memory://"])
def test_leaves_urls_without_tls_alone(url: str) -> None:
    assert split(url) == (url, False)


def test_checks_the_server_s_name_unless_told_otherwise() -> None:
    plain, options = split("amqps://a:b@rabbit.example:5671//")

    assert plain == "amqps://a:b@rabbit.example:5671//"
    assert options == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "rabbit.example"}
    assert split("amqps://h//?verify=verify_none") == ("amqps://h//", {"cert_reqs": ssl.CERT_NONE})


def test_takes_files_and_a_name_that_all_hosts_have(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    files = "&".join(
        f"{name}file={tmp_path}/{file}" for name, file in (("cacert", "ca"), ("cert", "cert"), ("key", "key"))
    )

    plain, options = split(f"amqps://h1/v?{files}&server_name_indication=rabbit;amqps://h2/v")

    assert plain == "amqps://h1/v;amqps://h2/v"
    assert isinstance(options, dict)
    assert options["server_hostname"] == "rabbit"
    assert [options[name] for name in ("ca_certs", "certfile", "keyfile")] == [
        str(tmp_path / name) for name in ("ca", "cert", "key")
    ]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqps://u:hidden@h//?ssl_cert_reqs=none", "there is an unknown parameter; known ones: cacertfile"),
        ("amqps://u:hidden@h//;amqp://u:hidden@i//", "all of them must be amqps://"),
        ("amqps://u:hidden@h//;amqps://u:hidden@i//", "server_name_indication"),
        ("amqps://u:hidden@h//?cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("amqps://u:a?hidden@h//", "has a port that is not from 1 to 65,535"),
        ("amqps://u:hidden@h//?verify=maybe", "verify='maybe'"),
    ],
)
def test_says_what_is_wrong_without_the_password(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    settings.cache_clear()
    try:
        with pytest.raises(BadSetting) as failure:
            settings()
    finally:
        settings.cache_clear()
    assert says in str(failure.value)
    assert "hidden" not in str(failure.value)
