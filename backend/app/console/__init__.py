"""The console: a page that shows how right, how fresh and how alive the caches are, and what to do about it."""
