"""The compose set-ups on a real container engine: `make containers`."""
