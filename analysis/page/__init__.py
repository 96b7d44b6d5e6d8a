"""The report: one HTML page, its charts and its sentences."""
