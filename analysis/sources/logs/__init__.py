"""Any training log -> runs of evaluations: records, roles, a clock, then runs and settings."""
