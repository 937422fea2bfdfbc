"""The relay as a process, and the log that it fills."""
