"""Input that nobody who means well sends."""
