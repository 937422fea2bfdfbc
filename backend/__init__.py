"""The marketplace's back end: the catalog, its city caches, and everything that keeps them right."""

__version__ = "0.2.0"
