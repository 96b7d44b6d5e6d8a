"""What a callback says in a terminal after an epoch."""

import sys

from raysweep.loops.report import Report


def tell(report: Report) -> None:
    """Write what the validation set alone makes of the last report, where a person reads along."""
    if report.rank == 0 and sys.stderr.isatty():
        sys.stderr.write(f"epoch {report.epoch}: {report.said}\n")
