"""The shared language of the catalog: what happened, and how it travels. Knows nothing of `backend`."""
