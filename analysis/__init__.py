"""Read a store, answer, draw."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.page.report import write_report
    from analysis.results import Analysis, analyze

__all__ = ["Analysis", "analyze", "write_report"]

_HOMES = {"Analysis": "results", "analyze": "results", "write_report": "page.report"}


def __getattr__(name: str) -> Any:
    # Polars, SciPy and Altair load when something is asked for, so importing this costs nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_HOMES[name]}"), name)
