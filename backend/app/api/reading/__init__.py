"""How the caches are read over HTTP: each answer shows what was committed before its request came, and what many ask at
the same moment is asked of the database once."""
