"""The page and its parts, as files; nothing in it comes from elsewhere, and its policy lets nothing else in."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

from backend.app.console.scripts import one_script

router = APIRouter(include_in_schema=False)
FOLDER: Final = Path(__file__).with_name("static")
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
EARLY: Final = "early.js"  # no module: it runs before the first paint
SCRIPT: Final = "app.js"  # all modules
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # kept, and asked for again with its ETag: an update is never half old
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class Asset:
    """One file, ready to be sent."""

    body: bytes
    zipped: bytes
    media_type: str
    etag: str


@router.get("/")
async def page(request: Request) -> Response:
    """The console."""
    return _answer(request, "index.html")


@router.get("/console/{name}")
async def part(request: Request, name: str) -> Response:
    """Script, style or icon."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404)
    headers = HEADERS | {"ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = asset.body
    if takes_gzip(request.headers.get("accept-encoding", "")):
        body, headers = asset.zipped, headers | {"Content-Encoding": "gzip"}
    return Response(body, headers=headers, media_type=asset.media_type)


def takes_gzip(accepted: str) -> bool:
    """Whether a header Accept-Encoding names gzip, with any weight but zero."""
    for coding in accepted.lower().split(","):
        name, _, weight = "".join(coding.split()).partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False


@cache
def assets() -> dict[str, Asset]:
    """All files by name, read once. The page asks for one script, with all modules in it; each is there as well."""
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}
    modules = {name: files[name].decode() for name in sorted(files) if name.endswith(".js") and name != EARLY}
    files[SCRIPT] = one_script(modules).encode()
    return {name: _asset(name, body) for name, body in files.items()}


def _asset(name: str, body: bytes) -> Asset:
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Asset(body, gzip.compress(body, 9), TYPES[Path(name).suffix], etag)
