"""Is a validation curve that jumps noise or overfitting, and which knob helps?

A log that any tool wrote becomes a report:

    from raysweep import analyze, read_curves, write_report

    log = read_curves("runs/")
    print(log)                                      # what was understood of it
    found = analyze(log)
    write_report(found, "report.html")

A sweep is trained, and its results become a report (this needs `pip install 'raysweep[run]'`):

    from raysweep import SweepSpec, run_sweep

    axes = {"dropout": [0.0, 0.5], "batch_size": [32, 512]}
    spec = SweepSpec.from_mapping({"name": "mine", "task": "digits", "axes": axes})
    run_sweep(spec, "results/mine")
    write_report("results/mine", "report.html")

`Analysis` holds what `analyze` found, as Polars frames. `Task`, `Data`, `Arrays` and `Loader`
describe a model and a data set of your own; a subclass of `Hyperparameters` adds fields of your own
to a trial. Accuracies are fractions, times are seconds. What a user can mend raises
`raysweep.errors.InputError`, whose message names the thing, the value, and what is allowed.
"""

import importlib.util
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import Analysis, analyze, read_curves, write_report
    from raysweep.running.sweep import run_sweep
    from raysweep.spec import Hyperparameters, SweepSpec
    from raysweep.tasks import Arrays, Data, Loader, Task

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Arrays",
    "Data",
    "Hyperparameters",
    "Loader",
    "SweepSpec",
    "Task",
    "analyze",
    "read_curves",
    "run_sweep",
    "write_report",
]

_HOMES = {
    "SweepSpec": "raysweep.spec",
    "Hyperparameters": "raysweep.spec",
    "Arrays": "raysweep.tasks",
    "Data": "raysweep.tasks",
    "Loader": "raysweep.tasks",
    "Task": "raysweep.tasks",
    "run_sweep": "raysweep.running.sweep",
}
_NEED_TORCH = {"Arrays", "Data", "Loader", "Task", "run_sweep"}


def __getattr__(name: str) -> Any:
    # Lazy: reading a store or printing --help must not import Ray and torch.
    if name not in __all__:
        raise AttributeError(f"module 'raysweep' has no attribute {name!r}")
    from raysweep.installed import load_analysis, needs_run

    if name not in _HOMES:
        return getattr(load_analysis(), name)
    with needs_run(f"raysweep.{name}"):
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    missing = _NEED_TORCH if importlib.util.find_spec("torch") is None else set[str]()
    return ["__version__", *(name for name in __all__ if name not in missing)]
