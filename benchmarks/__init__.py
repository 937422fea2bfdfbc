"""Benchmarks: one module a figure, each measured beside its peers in the same run; `benchmarks.suite` runs all."""
