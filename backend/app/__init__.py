"""Settings, processes and the HTTP API; `caches` is the heart, `tasks` drives it, `api` shows it."""
