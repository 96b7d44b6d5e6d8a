"""A table with a column for each run -> the runs: `RUN - METRIC`, `seed0/val_acc`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from analysis.sources import names
from analysis.sources.formats.parts import Part, Row

_EDGE = re.compile(r"(?P<rest>.*?)(?P<edge>__MIN|__MAX)?")
# Before the first of them, or behind the last, stands what tells the runs apart.
_SIGNS = (" - ", ": ", "/", ".", "_", " ")
_IN_BRACKETS = re.compile(r"(?P<metric>.+?)\s*[(\[](?P<run>[^()\[\]]+)[)\]]")
# What a run is called, where the sign between it and the metric stands in other names, too.
_RUN = re.compile(
    r"(?:run|seed|fold|exp|experiment|trial|version|model|rep|repeat|replicate)[-_ ]?\w{1,8}"
    r"|.*=.*",
    re.IGNORECASE,
)


class _Split(NamedTuple):
    run: str
    metric: str


def runs_of(header: Sequence[str], rows: Sequence[Row], name: str) -> list[Part]:
    """Take a table of several runs apart.

    Args: name: of the file, which may be the metric that all of its columns are of.
    Returns: a part for each run; none where the table has one run.
    """
    clock = [one for one in header if names.is_epoch(one) or names.is_step(one)]
    others = [one for one in header if one not in clock]
    if not clock or len(others) < 2:
        return []
    edges = {one: match["edge"] for one in others if (match := _EDGE.fullmatch(one))}
    splits = _splits([one for one in others if not edges[one]]) or _of_file(others, rows, name)
    runs = list(dict.fromkeys(split.run for split in splits.values()))
    if len(runs) < 2:
        return []
    tool = "a panel of Weights & Biases" if any(edges.values()) else "a column for each run"
    return [
        Part(
            tool,
            run,
            [
                {one: row[one] for one in clock}
                | {
                    split.metric: row[one]
                    for one, split in splits.items()
                    if split.run == run and row.get(one) is not None
                }
                for row in rows
            ],
        )
        for run in runs
    ]


def _splits(header: Sequence[str]) -> dict[str, _Split]:
    """Each column's run and metric, where one sign tells them apart in all metrics."""
    measured = [one for one in header if names.meaning(one) is not None]
    for sign in (*_SIGNS, "("):
        for first in (True, False):
            found = {one: split for one in measured if (split := _split(one, sign, first=first))}
            metrics = {split.metric for split in found.values()}
            runs = {split.run for split in found.values()}
            # Every metric is there more than once, and nothing is there twice.
            repeated = all(
                sum(split.metric == metric for split in found.values()) > 1 for metric in metrics
            )
            once = len(found) == len(measured) == len(set(found.values()))
            if len(runs) > 1 and once and repeated:
                return found
    return {}


def _split(name: str, sign: str, *, first: bool) -> _Split | None:
    """The run and the metric in a name. Args: first: whether the run stands before the metric."""
    if sign == "(":
        match = _IN_BRACKETS.fullmatch(name)
        parts = (match["run"], match["metric"]) if match else ("", "")
    elif first:
        # `lr: 0.1 - val_loss`: the last one that leaves a metric.
        run, _, metric = name.rpartition(sign) if sign == " - " else name.partition(sign)
        while sign != " - " and metric and not _RUN.fullmatch(run) and sign in metric:
            more, _, metric = metric.partition(sign)
            run = f"{run}{sign}{more}"
        parts = (run, metric)
    else:
        metric, _, run = name.rpartition(sign)
        while run and not _RUN.fullmatch(run) and sign in metric:
            metric, _, more = metric.rpartition(sign)
            run = f"{more}{sign}{run}"
        parts = (run, metric)
    run, metric = (one.strip(" ()[]") for one in parts)
    said = names.meaning(metric) if metric else None
    is_run = (sign == " - " and first) or bool(_RUN.fullmatch(run))
    return _Split(run, metric) if run and said and is_run else None


def _of_file(header: Sequence[str], rows: Sequence[Row], name: str) -> dict[str, _Split]:
    """All columns as runs, where the file is called by a metric and no column is."""
    said = names.meaning(name)
    numbers = [one for one in header if any(isinstance(row.get(one), float) for row in rows)]
    named = any(names.meaning(one) or names.stage_of(one) for one in header)
    if said is None or said.stage is None or named or len(numbers) != len(header):
        return {}
    return {one: _Split(one, name) for one in header}
