"""Self-made certificates for tests, by the openssl command."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DAYS = "2"


@dataclass(frozen=True)
class Certificate:
    """Files in PEM."""

    authority: Path  # of whoever signed it
    certificate: Path
    key: Path


def authority(place: Path, name: str = "ca") -> Certificate:
    """A certificate authority."""
    place.mkdir(parents=True, exist_ok=True)
    made = Certificate(place / f"{name}.pem", place / f"{name}.pem", place / f"{name}.key")
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS, "-subj", f"/CN={name}",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(made.key), "-out", str(made.certificate),
    )  # fmt: skip
    return made


def certificate(by: Certificate, name: str, *names: str) -> Certificate:
    """A server's certificate for these names ('DNS:localhost', 'IP:127.0.0.1'), signed by an authority."""
    place = by.certificate.parent
    made = Certificate(by.certificate, place / f"{name}.pem", place / f"{name}.key")
    request, extensions = place / f"{name}.csr", place / f"{name}.ext"
    extensions.write_text(f"subjectAltName={','.join(names)}\nbasicConstraints=CA:FALSE\n")
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(request)
    )
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(by.certificate), "-CAkey", str(by.key), "-CAcreateserial",
        "-days", DAYS, "-extfile", str(extensions), "-out", str(made.certificate),
    )  # fmt: skip
    return made


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        missing = "openssl is missing; scripts/install-test-servers installs it"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(f"NOT TESTED: {missing}")
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60)
