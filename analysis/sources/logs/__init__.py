"""Rows of names and values -> runs of evaluations: roles, a clock, then runs and settings."""
