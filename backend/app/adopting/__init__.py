"""Adopting a catalog that is there already, and letting go of it: plan, triggers, first fill, doctor, release."""
