"""Some configurations of a grid -> the fewest levels that name them: "lr 0.3 at batch 32"."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

_MOST_AXES = 3  # that a region is named by
_MIN_SIZE = 2  # configurations; a region of one says no more than its name


class Region(NamedTuple):
    """All configurations with these levels, or a single one where it has no levels of its own.

    levels: (axis, label) pairs; config_ids: the configurations, in the order of the plan.
    """

    levels: tuple[tuple[str, str], ...]
    config_ids: tuple[str, ...]


def regions(points: pl.DataFrame, axes: Sequence[str], wanted: Iterable[str]) -> list[Region]:
    """Cover the wanted configurations, and no others, with as few regions as can be found.

    A region by fewer axes comes before one by more, and a larger one before a smaller one.

    Args: points: config_id and a label per axis, a row per planned configuration; axes: columns of
        points; wanted: config_ids.
    Returns: regions without configurations in common; those that no levels name stand alone, last.
    """
    left = set(wanted)
    every = points["config_id"].to_list()
    found: list[Region] = []
    for num in range(1, min(len(axes), _MOST_AXES) + 1):
        while left:
            best = _largest(points, axes, left, set(wanted), num)
            if best is None:
                break
            found.append(best)
            left -= set(best.config_ids)
    return found + [Region((), (name,)) for name in every if name in left]


def _largest(
    points: pl.DataFrame, axes: Sequence[str], left: set[str], wanted: set[str], num: int
) -> Region | None:
    """The region by `num` axes with most of those that are left; all of it is wanted."""
    best, most = None, _MIN_SIZE - 1
    for names in itertools.combinations(axes, num):
        for levels, rows in points.group_by(names, maintain_order=True):
            ids = rows["config_id"].to_list()
            covered = [name for name in ids if name in left]
            if len(covered) > most and wanted.issuperset(ids):
                best = Region(tuple(zip(names, map(str, levels), strict=True)), tuple(covered))
                most = len(covered)
    return best
