"""Plan, run and record a sweep; `analysis` reads what it leaves behind."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysweep.running.sweep import run_sweep
    from raysweep.spec import SweepSpec

__all__ = ["SweepSpec", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Lazy: reading a store or printing --help must not import Ray and torch.
    if name == "run_sweep":
        from raysweep.running.sweep import run_sweep

        return run_sweep
    if name == "SweepSpec":
        from raysweep.spec import SweepSpec

        return SweepSpec
    raise AttributeError(f"module 'raysweep' has no attribute {name!r}")
