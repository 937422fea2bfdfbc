"""Peers of the reads, one application under the same server: an empty route, a live JOIN, and that JOIN kept for a
minute in the process, which is what one writes first, as bytes that are ready to be sent."""

from __future__ import annotations

import os
import time
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Response
from psycopg2.pool import ThreadedConnectionPool

SECONDS: Final = 60.0  # that an answer is kept
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


def _counted() -> bytes:
    if not _pool:
        _pool.append(ThreadedConnectionPool(1, 40, os.environ["DATABASE_URL"]))
    connection: Any = _pool[0].getconn()
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(JOIN)
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        _pool[0].putconn(connection)
    return msgspec.json.encode({"items": rows, "next": None})
