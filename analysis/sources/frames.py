"""What `analyze` takes -> frames: a store, a tidy frame of curves, or several of either united."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import polars as pl

from analysis.sources import censoring
from analysis.sources.formats.opening import STDIN, place_of
from analysis.sources.logs.reading import Log, read_curves
from analysis.sources.store import KEY, Frames, read_store
from analysis.sources.tidy import read_tidy
from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.store.files import Store
from raysweep.store.local_path import local_path


class NamedCurves(NamedTuple):
    """A tidy frame, what to call it, and the columns that are hyperparameters where that is known.

    log: what was read, of a log of another tool
    """

    name: str
    curves: pl.DataFrame
    config: Sequence[str] | None = None
    log: Log | None = None


One: TypeAlias = Store | Path | str | pl.DataFrame | pl.LazyFrame | NamedCurves | Log
Source: TypeAlias = One | Sequence[One]


def open_sources(
    source: Source, *, config: Sequence[str] | None = None
) -> list[Store | NamedCurves]:
    """Open stores, and name tidy frames; logs among the sources are read together.

    Args: config: the settings of logs that tell configurations apart.
    Raises: InputError when something is not there.
    """
    given = [source] if isinstance(source, One) else list(source)
    if not given:
        raise InputError("nothing to analyze: the list of sources is empty")
    logs = [one for one in given if isinstance(one, Path | str) and is_log(one)]
    parts = [_open(one) for one in given if one not in logs] if logs else [*map(_open, given)]
    return [*parts, named(read_curves(logs, config=config))] if logs else parts


def is_log(path: Path | str) -> bool:
    """Tell whether a path leads to a log rather than to a store, or would, were it there."""
    if str(path) != STDIN and local_path(str(path)) is None:
        return False
    place = place_of(path)
    if place is None or not place.is_dir():
        return place is None or place.is_file() or bool(place.suffix)
    return not (place / "sweeps").is_dir()


def named(log: Log) -> NamedCurves:
    """Make a log that was read a part of an analysis."""
    return NamedCurves(log.name, log.curves, log.config, log)


def _open(source: One) -> Store | NamedCurves:
    if isinstance(source, Store | NamedCurves):
        return source
    if isinstance(source, Log):
        return named(source)
    if isinstance(source, pl.DataFrame):
        return NamedCurves("curves", source)
    if isinstance(source, pl.LazyFrame):
        return NamedCurves("curves", source.collect())
    return Store.existing(source)


def read_sources(
    parts: Sequence[Store | NamedCurves], *, config: Sequence[str] | None = None
) -> Frames:
    """The frames of all parts together.

    Args: config: the columns of tidy frames that are hyperparameters, see read_tidy.

    Raises: InputError when a part is not valid, or can't be united with the others.
    """
    stores = [part for part in parts if isinstance(part, Store)]
    given = [part for part in parts if isinstance(part, NamedCurves)]
    if stores and given:
        raise InputError(
            "stores and frames of curves can't be analyzed together: write a report of each, or "
            "make one frame of all"
        )
    if given:
        if config is None and all(part.config is not None for part in given):
            config = list(dict.fromkeys(name for part in given for name in part.config or ()))
        try:
            frames = read_tidy(_stacked(given), name=_joined(t.name for t in given), config=config)
        except InputError as error:
            for part in given:
                if part.log is not None:
                    error.add_note(str(part.log))
            raise
        frames.record["score"] = _score(given)
        return frames
    if config is not None:
        raise InputError("a store knows its hyperparameters: `config` is for frames of curves")
    return united([read_store(store) for store in stores])


def _score(parts: Sequence[NamedCurves]) -> dict[str, Any] | None:
    """What val_score is, where a log says so: its name, and whether a higher one is better."""
    scores = [one for part in parts if part.log for one in part.log.scores[:1]]
    if not scores:
        return None
    return {"name": scores[0].name, "higher_is_better": not scores[0].lower_is_better}


def _stacked(given: Sequence[NamedCurves]) -> pl.DataFrame:
    """Rows of several tidy frames under each other. Raises: InputError on a shared trial_id."""
    if len(given) == 1:
        return given[0].curves
    owner: dict[Any, str] = {}
    for number, table in enumerate(given, 1):
        name = f"{table.name} (no. {number})"
        if "trial_id" not in table.curves.columns:
            raise InputError(f"{name} has no column 'trial_id'")
        for trial_id in table.curves["trial_id"].cast(pl.String).unique(maintain_order=True):
            if trial_id in owner:
                raise InputError(f"trial {trial_id!r} is in {owner[trial_id]} and in {name}")
            owner[trial_id] = name
    try:
        return pl.concat(
            [table.curves.with_columns(pl.col("trial_id").cast(pl.String)) for table in given],
            how="diagonal_relaxed",
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the columns of the frames don't go together: {error}") from error


def united(parts: Sequence[Frames]) -> Frames:
    """The trials of several stores as if they were of one sweep; configurations by config_id.

    A trial that is in several counts once: a completed attempt before another, then the first.
    Axes are all fields in which the configurations differ.

    Raises: InputError when the stores are of different tasks, or hold two configurations with the
        same hyperparameters (other data, or another version of the training).
    """
    if len(parts) == 1:
        return parts[0]
    record = _merged_record([part.record for part in parts])
    order = {trial_id: place for place, (trial_id, *_) in enumerate(record["trials"])}
    rank = {"completed": 0, "diverged": 1, "stopped": 2, "failed": 3}
    trials = (
        pl.concat(part.trials.with_columns(pl.lit(n).alias("part")) for n, part in enumerate(parts))
        .with_columns(
            pl.col("status").replace_strict(rank, return_dtype=pl.Int64).alias("rank"),
            pl.col("trial_id").replace_strict(order, return_dtype=pl.Int64).alias("place"),
        )
        .sort("place", "rank", "part")
        .unique("trial_id", keep="first", maintain_order=True)
    )
    source_of = trials.select("trial_id", "part")
    epochs = pl.concat(
        part.epochs.join(source_of.filter(pl.col("part") == n), on="trial_id", how="semi")
        for n, part in enumerate(parts)
    ).sort(KEY)
    trials = trials.drop("part", "rank", "place")
    return Frames(record, trials, epochs, _merged_quality(parts, record, trials))


def _merged_record(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One sweep's record of several. Raises: InputError where they can't be compared."""
    specs = [record["spec"] for record in records]
    tasks = _distinct(spec["task"] for spec in specs)
    if len(tasks) > 1:
        raise InputError(
            f"stores of different tasks can't be compared: {', '.join(map(str, tasks))}. Analyze "
            "them apart"
        )
    levels = _levels(records)
    axes = {name: _ordered(values) for name, values in levels.items() if len(values) > 1}
    points = _points(records, axes)
    planned = _planned(records, axes, points)
    commands = (" ".join(record.get("command", [])) for record in records)
    return {
        "spec": {
            "name": _joined(spec["name"] for spec in specs),
            "task": tasks[0],
            "base": {name: values[0] for name, values in levels.items() if len(values) == 1},
            "axes": axes,
            "seeds": sorted({seed for _, _, seed in planned}),
        },
        "trials": planned,
        "configurations": points,
        "versions": _versions(records),
        "git_commit": _joined(record.get("git_commit") for record in records) or None,
        "hardware": {"nodes": _distinct(n for r in records for n in r["hardware"]["nodes"])},
        "command": [_joined(commands, "; ")],
        "started_at": _joined((record.get("started_at") for record in records), "; "),
    }


def _configurations(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """config_id -> all its hyperparameters, as the first store that has it says."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for config_id, point in record["configurations"].items():
            found.setdefault(config_id, {**record["spec"]["base"], **point})
    return found


def _levels(records: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Hyperparameter -> the values that it has in some configuration; None where it is not set."""
    configurations = _configurations(records).values()
    names = [n for n in Hyperparameters.model_fields if any(n in c for c in configurations)]
    return {name: _distinct(c.get(name) for c in configurations) for name in names}


def _points(
    records: Sequence[dict[str, Any]], axes: dict[str, list[Any]]
) -> dict[str, dict[str, Any]]:
    """config_id -> its value on each axis. Raises: InputError where two have the same ones."""
    points = {
        config_id: {name: values.get(name) for name in axes}
        for config_id, values in _configurations(records).items()
    }
    texts = Counter(repr(point) for point in points.values())
    for text, count in texts.items():
        if count > 1:
            raise InputError(
                f"two configurations have the same hyperparameters, {text}, and another task file, "
                "data set, world size or version: analyze the stores apart"
            )
    return points


def _planned(
    records: Sequence[dict[str, Any]], axes: dict[str, list[Any]], points: dict[str, dict[str, Any]]
) -> list[Any]:
    """[trial_id, config_id, seed] of every trial, in the order of the axes' levels and seeds."""

    def place(trial: Sequence[Any]) -> tuple[list[int], int]:
        _, config_id, seed = trial
        return [axes[name].index(value) for name, value in points[config_id].items()], seed

    trials = {trial[0]: trial for record in records for trial in record["trials"]}
    return sorted(trials.values(), key=place)


def _versions(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Package -> its versions in all stores."""
    names = dict.fromkeys(name for record in records for name in record["versions"])
    return {name: _joined(record["versions"].get(name) for record in records) for name in names}


def _merged_quality(
    parts: Sequence[Frames], record: dict[str, Any], trials: pl.DataFrame
) -> pl.DataFrame:
    """Counts of the united trials; whatever else was found, added up."""
    planned = record["trials"]
    detail = f"{len(record['configurations'])} configurations of {len(parts)} stores"
    found = [("trials planned", len(planned), detail)]
    for status in ("completed", "diverged", "failed"):
        number = trials.filter(pl.col("status") == status).height
        found.append((f"trials {status}", number, ""))
    found.append(censoring.check(trials))
    found.append(("trials missing", len(planned) - trials.height, ""))
    shared = sum(len(part.record["trials"]) for part in parts) - len(planned)
    found.append(("trials that are in several stores", shared, "counted once"))
    digests = trials["val_digest"].drop_nulls().n_unique()
    if digests > 1:
        found.append(("validation sets", digests, "their own errors do not cancel between them"))
    counted = [name for name, *_ in found]
    rest = pl.concat(part.quality for part in parts).filter(~pl.col("check").is_in(counted))
    rest = rest.group_by("check", maintain_order=True).agg(
        pl.col("count").sum(),
        pl.col("detail").filter(pl.col("detail") != "").unique(maintain_order=True).str.join("; "),
    )
    kept = [row for row in found if row[1] or row[0] in counted[:2]]
    return pl.concat([pl.DataFrame(kept, schema=rest.schema, orient="row"), rest])


def _distinct(values: Iterable[Any]) -> list[Any]:
    """In the order of appearance; values may be lists and dicts."""
    return list({repr(value): value for value in values}.values())


def _ordered(values: list[Any]) -> list[Any]:
    """Numbers ascending, off first; anything else in the order of appearance."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) + (None in values) < len(values):
        return values
    return [None] * (None in values) + sorted(numbers)


def _joined(words: Iterable[Any], separator: str = ", ") -> str:
    return separator.join(dict.fromkeys(str(word) for word in words if word))
