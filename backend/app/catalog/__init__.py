"""The catalog: cities, companies, products, and the import of change feeds."""
