"""Measured error rates -> the page docs/error-rates.md."""


def page(rows: dict[str, list[dict[str, object]]]) -> str:
    """Args: rows of each part of analysis.error_rates."""
    return str(len(rows))
