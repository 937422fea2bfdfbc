"""The heart: one truth (`truth.sql`), one writer (`patch`), one diff (`diff`)."""
