"""Tests of catalogs that were there before."""
