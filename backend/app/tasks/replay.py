"""Replay from the log."""
