"""Two sweeps side by side: what changed between them, and what that did where trials match."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.claims.measures import KINDS, measured_differences
from analysis.labels import Outcome
from analysis.results import Analysis
from analysis.sources.axes import label, title
from raysweep.spec import Hyperparameters

MEASURES = ("final_accuracy", "kept_accuracy", "late_jitter", "gap", "drop", "loss_rise")


@dataclass(frozen=True)
class Comparison:
    """What two sweeps have in common, and how they differ.

    changed: what is not the same in both, a line each
    notes: what to mind in reading the differences
    num_pairs: trials of the second sweep that match one of the first, seed included
    differences: measure, words, unit, first, second (means over the pairs), change, low, high
        (second minus first, or of a jitter second over first), reason (why there are no limits)
    """

    changed: list[str]
    notes: list[str]
    num_pairs: int
    differences: pl.DataFrame


def compare_sweeps(first: Analysis, second: Analysis) -> Comparison:
    """Compare two sweeps, trial by trial where all that varies within either is the same.

    Fields that each sweep holds fixed may differ: they are what changed.
    """
    fields = _fields(first, second)
    fixed = [_fixed(analysis, fields) for analysis in (first, second)]
    moved = [
        name
        for name in fields
        if name in fixed[0] and name in fixed[1] and fixed[0][name] != fixed[1][name]
    ]
    keys = [name for name in fields if name not in moved]
    rows = [_rows(analysis, keys) for analysis in (first, second)]
    pairs = rows[1].join(rows[0], on=["key", "seed"], suffix="_first", nulls_equal=True)
    pairs = pairs.sort("key", "seed")
    return Comparison(
        changed=[
            *(
                f"{title(name)}: {_word(fixed[0][name])} → {_word(fixed[1][name])}"
                for name in moved
            ),
            *_changed_records(first, second),
        ],
        notes=_notes(first, second, pairs, rows[1].height),
        num_pairs=pairs.height,
        differences=measured_differences(pairs, MEASURES),
    )


def _fields(first: Analysis, second: Analysis) -> list[str]:
    """The names of all hyperparameters that either sweep has, in the order of a trial's fields."""
    known = list(Hyperparameters().columns())
    foreign = [axis.name for analysis in (first, second) for axis in analysis.axes]
    own = [name for analysis in (first, second) for name in analysis.record["spec"]["base"]]
    return list(dict.fromkeys([*known, *foreign, *own]))


def _values(analysis: Analysis, name: str) -> pl.Series | None:
    """A field of every trial, as JSON-like text; None where the sweep does not have it."""
    trials = analysis.trials
    if name in trials.columns and trials[name].dtype != pl.Null:
        return trials[name].cast(pl.String)
    base, axes = analysis.record["spec"]["base"], {axis.name for axis in analysis.axes}
    if name in axes:
        levels = analysis.record["configurations"]
        return pl.Series([label(levels[config][name]) for config in trials["config_id"]])
    if name in base and not isinstance(base[name], dict):
        return pl.Series([label(base[name])] * trials.height, dtype=pl.String)
    return None


def _fixed(analysis: Analysis, fields: list[str]) -> dict[str, str | None]:
    """The fields that have one value in all trials of a sweep."""
    found: dict[str, str | None] = {}
    for name in fields:
        values = _values(analysis, name)
        if values is not None and values.n_unique() == 1:
            found[name] = values[0]
    return found


def _rows(analysis: Analysis, keys: list[str]) -> pl.DataFrame:
    """Completed trials with `key`, all fields in one text by which the sweeps are matched."""
    texts = [_values(analysis, name) for name in keys]
    height = analysis.trials.height
    parts = [
        pl.Series(name, [None] * height, pl.String) if text is None else text.alias(name)
        for name, text in zip(keys, texts, strict=True)
    ]
    key = pl.DataFrame(parts).select(pl.struct(pl.all()).struct.json_encode().alias("key"))
    wanted = ["trial_id", "outcome", "seed", "final_accuracy", "kept_accuracy", "late_hf_sd"]
    wanted += ["hf_sd", "gap", "drop", "drop_crossfit", "loss_rise"]
    table = analysis.trials.select(wanted).hstack(key)
    return table.filter(pl.col("outcome") == Outcome.COMPLETED)


def _word(value: str | None) -> str:
    return "none" if value is None else value


def _changed_records(first: Analysis, second: Analysis) -> list[str]:
    """What differs in the records: task, versions, axes and seeds."""
    one, other = first.record, second.record
    lines = [
        f"{name}: {one['spec'].get(name)} → {other['spec'].get(name)}"
        for name in ("task", "data")
        if one["spec"].get(name) != other["spec"].get(name)
    ]
    for name in sorted({*one["versions"], *other["versions"]}):
        here, there = one["versions"].get(name), other["versions"].get(name)
        if here != there:
            lines.append(f"{name}: {here} → {there}")
    if one.get("git_commit") != other.get("git_commit"):
        lines.append(f"git commit: {one.get('git_commit')} → {other.get('git_commit')}")
    levels = [{axis.name: list(axis.labels) for axis in found.axes} for found in (first, second)]
    for name in dict.fromkeys([*levels[0], *levels[1]]):
        if levels[0].get(name) != levels[1].get(name):
            said = (", ".join(side[name]) if name in side else "no axis" for side in levels)
            lines.append(f"axis {title(name)}: {' → '.join(said)}")
    seeds = [len(record["spec"].get("seeds", [])) for record in (one, other)]
    if seeds[0] != seeds[1]:
        lines.append(f"seeds: {seeds[0]} → {seeds[1]}")
    return lines


def _notes(first: Analysis, second: Analysis, pairs: pl.DataFrame, num_second: int) -> list[str]:
    notes: list[str] = []
    sets = [set(found.trials["val_digest"].drop_nulls().unique()) for found in (first, second)]
    if pairs.height and sets[0] != sets[1]:
        notes.append(
            "The validation sets differ, so each difference of accuracies holds the difference "
            "between the sets, too, which no interval here counts."
        )
    same = (pairs["trial_id"] == pairs["trial_id_first"]).sum()
    if same:
        notes.append(f"{same} of these trials have the same id: they are one training done twice.")
    if 0 < pairs.height < num_second:
        notes.append(f"{num_second - pairs.height} completed trials of the second match none.")
    return notes


def as_dict(found: Comparison) -> dict[str, Any]:
    """Give a comparison as plain values."""
    return {
        "changed": found.changed,
        "notes": found.notes,
        "num_pairs": found.num_pairs,
        "differences": found.differences.to_dicts(),
    }


def as_lines(found: Comparison) -> list[str]:
    """Say a comparison in lines: what changed, then what that did."""
    lines = ["changed: " + ("; ".join(found.changed) or "nothing that is recorded")]
    if not found.num_pairs:
        return [
            *lines,
            "no completed trial of one matches a trial of the other, so none are paired",
        ]
    lines.append(f"{found.num_pairs} pairs of trials match in seed and in all else:")
    for row in found.differences.iter_rows(named=True):
        if row["change"] is None:
            lines.append(f"  {row['words']}: not known: {row['reason']}")
            continue
        lines.append(f"  {row['words']}: {_difference_words(row)}")
    return [*lines, *found.notes]


def _difference_words(row: dict[str, Any]) -> str:
    """`54.60 → 56.10 %, +1.50 pp (+0.70 to +2.30)`, or of a jitter `x 0.55 (0.45 to 0.68)`."""
    kind = KINDS[row["measure"]]
    factor, sign, unit = (1.0, "", "") if kind.is_ratio else (kind.scale, "+", f" {kind.unit}")
    change = f"{factor * row['change']:{sign}.2f}{unit}"
    levels = f"{kind.scale * row['first']:.2f} → {kind.scale * row['second']:.2f}"
    levels += " pp" if kind.is_ratio else " %"
    said = f"{levels}, {'x ' if kind.is_ratio else ''}{change}"
    if row["low"] is None:
        return f"{said}, without limits: {row['reason']}"
    nothing = 1.0 if kind.is_ratio else 0.0
    is_clear = row["low"] > nothing or row["high"] < nothing
    limits = f"({factor * row['low']:{sign}.2f} to {factor * row['high']:{sign}.2f})"
    return f"{said} {limits}{'' if is_clear else ', no clear change'}"
