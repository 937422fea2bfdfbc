"""The import of change feeds."""
