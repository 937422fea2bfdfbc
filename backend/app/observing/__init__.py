"""How right and how fresh the caches are: a canary, an auditor, and the history of both."""
