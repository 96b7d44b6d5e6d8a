"""Read curves, answer what made them jump, draw the report. Import all of it from `raysweep`.

    from raysweep import analyze, read_curves, write_report

    found = analyze("results/digits")               # a store that `raysweep run` wrote
    found = analyze(read_curves("runs/"))           # or a log that any tool wrote
    print(found.answer)                             # two sentences, what to do, what is open
    found.configurations                            # Polars frames: .trials, .epochs and more
    write_report(found, "report.html")              # one page that opens offline

Accuracies are fractions, epochs count from 1, intervals are two-sided 95 % confidence intervals.
What a user can mend raises `raysweep.errors.InputError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.answer.answer import Answer
    from analysis.diagnosis import diagnose
    from analysis.page.report import write_report
    from analysis.results import Analysis, analyze
    from analysis.sources.logs.reading import read_curves

__all__ = ["Analysis", "Answer", "analyze", "diagnose", "read_curves", "write_report"]

_HOMES = {
    "Analysis": "results",
    "Answer": "answer.answer",
    "analyze": "results",
    "diagnose": "diagnosis",
    "read_curves": "sources.logs.reading",
    "write_report": "page.report",
}


def __getattr__(name: str) -> Any:
    # Polars, SciPy and Altair load when something is asked for, so importing this costs nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
