"""The ledger's table: one row for each run of a task, whoever started it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.app.catalog.models import Base, Instant

TRIGGERS = ("api", "beat", "event", "replay", "cli")
FINAL = ("SUCCESS", "FAILURE", "REVOKED", "EXPIRED", "SKIPPED")
ACTIVE = ("PENDING", "STARTED", "RETRY")
STATES = (*ACTIVE, *FINAL)


class TaskRun(Base):
    """One run. A final state never changes again."""

    __tablename__ = "task_runs"
    __table_args__ = (
        CheckConstraint(f"trigger IN {TRIGGERS}", name="task_runs_trigger_check"),
        CheckConstraint(f"state IN {STATES}", name="task_runs_state_check"),
        Index("task_runs_queued_at_idx", text("queued_at DESC"), text("task_id DESC")),
        Index("task_runs_task_idx", "task", text("queued_at DESC")),
        Index("task_runs_active_idx", "queued_at", postgresql_where=text(f"state IN {ACTIVE}")),
        Index(
            "task_runs_unsuccessful_idx",
            "task",
            text("queued_at DESC"),
            postgresql_where=text("state <> 'SUCCESS'"),
        ),
        Index(
            "task_runs_state_idx",
            "state",
            text("queued_at DESC"),
            text("task_id DESC"),
            postgresql_where=text("state <> 'SUCCESS'"),
        ),
        Index(
            "task_runs_schedule_idx",
            "task",
            "scheduled_for",
            unique=True,
            postgresql_where=text("scheduled_for IS NOT NULL"),
        ),
    )

    task_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    trigger: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    arguments: Mapped[Any | None] = mapped_column(JSONB)
    progress: Mapped[Any | None] = mapped_column(JSONB)
    result: Mapped[Any | None] = mapped_column(JSONB)
    error: Mapped[str | None] = mapped_column(Text)
    queued_at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    scheduled_for: Mapped[datetime | None] = mapped_column(Instant)  # of beat's runs: one run for each due instant
