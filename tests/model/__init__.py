"""The protocol checked: models by SPIN, and the product's own statements in all interleavings on PostgreSQL."""
