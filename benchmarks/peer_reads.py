"""Peers of the reads, one application under the same server: an empty route, a live JOIN, and that JOIN kept for a
minute in the process or in Redis, which is what one writes first, as bytes that are ready to be sent."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Response
from psycopg2.pool import ThreadedConnectionPool

SECONDS: Final = 60.0  # that an answer is kept
LIVE_JOIN: Final = "LIVE_JOIN"  # of the environment: the statement, where it is another one
REDIS_PORT: Final = "REDIS_PORT"  # of the environment, where there is a Redis
JOIN: Final = """
SELECT city.id, city.external_id, city.name, city.latitude, city.longitude,
       count(product.id) FILTER (WHERE product.kind = 'product') AS products_count,
       count(product.id) FILTER (WHERE product.kind = 'service') AS services_count,
       count(DISTINCT company.id) AS companies_count
  FROM cities AS city
  JOIN companies AS company ON company.city_id = city.id AND company.is_active
  JOIN products AS product ON product.company_id = company.id AND product.is_active
 GROUP BY city.id
 ORDER BY products_count DESC, city.id DESC
 LIMIT 50"""
app = FastAPI()
_pool: list[ThreadedConnectionPool] = []
_kept: list[tuple[float, bytes]] = []
_idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []  # connections to Redis


@app.get("/empty")
async def empty() -> dict[str, str]:
    """Nothing at all."""
    return {}


@app.get("/join")
def join() -> Response:
    """The cities with most products, counted now."""
    return Response(_counted(), media_type="application/json")


@app.get("/kept")
def kept() -> Response:
    """The same, counted within the last minute."""
    if not _kept or time.monotonic() - _kept[0][0] > SECONDS:
        _kept[:] = [(time.monotonic(), _counted())]
    return Response(_kept[0][1], media_type="application/json")


@app.get("/redis")
async def redis() -> Response:
    """The same, kept in Redis."""
    found = await _ask(b"GET", b"cities")
    if found is None:
        found = await asyncio.to_thread(_counted)
        await _ask(b"SET", b"cities", found, b"EX", b"%d" % SECONDS)
    return Response(found, media_type="application/json")


async def _ask(*words: bytes) -> bytes | None:
    """A command of Redis in its own protocol; a string that it answers with."""
    reader, writer = _idle.pop() if _idle else await asyncio.open_connection("127.0.0.1", int(os.environ[REDIS_PORT]))
    writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
    said = (await reader.readline()).rstrip()
    if said[:1] not in (b"$", b"+"):
        raise RuntimeError(f"Redis said {said!r}")
    found = None if said[:1] == b"+" or said == b"$-1" else (await reader.readexactly(int(said[1:]) + 2))[:-2]
    _idle.append((reader, writer))
    return found


def _counted() -> bytes:
    if not _pool:
        _pool.append(ThreadedConnectionPool(1, 40, os.environ["DATABASE_URL"]))
    connection: Any = _pool[0].getconn()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(os.environ.get(LIVE_JOIN, JOIN))
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        _pool[0].putconn(connection)
    return msgspec.json.encode({"items": rows, "next": None})
