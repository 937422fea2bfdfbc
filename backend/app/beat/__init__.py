"""Beat: what is due when, once in all processes."""
