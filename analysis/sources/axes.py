"""A sweep's record -> its axes, their levels, and the words for them."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from raysweep.spec import Hyperparameters


@dataclass(frozen=True)
class Axis:
    """One varied field of a trial; `levels` in the order of the spec, `labels` as shown."""

    name: str
    levels: tuple[Any, ...]
    labels: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name for a person."""
        return title(self.name)


# In the label of a whole configuration, where space is short and readers know the words.
_SHORT = {"batch_size": "batch", "learning_rate": "lr", "weight_decay": "wd"}


def title(name: str) -> str:
    """A field's name for a person."""
    return name.replace("_", " ")


def short(name: str) -> str:
    """The same in a label of several axes."""
    return _SHORT.get(name, title(name))


def label(value: Any) -> str:
    """One value of an axis for a person, short."""
    if value is None:
        return "off"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        short_form = f"{value:g}"
        # Six digits are a value that somebody chose; more come out of a logarithmic grid.
        return short_form if float(short_form) == value else f"{value:.3g}"
    if isinstance(value, dict):  # early stopping
        parts = [str(value.get("metric", "on"))]
        parts += [f"{title(key)} {label(value[key])}" for key in ("patience",) if key in value]
        parts += [f"min delta {label(value['min_delta'])}"] if value.get("min_delta") else []
        parts += ["not restored"] if value.get("restore_best") is False else []
        return ", ".join(parts)
    return " ".join(str(value).split())  # one line: charts put labels into expressions


def axes_of(record: dict[str, Any]) -> tuple[Axis, ...]:
    """The axes with more than one level, in the order of a trial's fields, foreign ones last."""
    axes = record["spec"]["axes"]
    return tuple(
        Axis(name, tuple(axes[name]), _distinct(axes[name]))
        for name in dict.fromkeys([*Hyperparameters.model_fields, *axes])
        if len(axes.get(name, ())) > 1
    )


def _distinct(levels: list[Any]) -> tuple[str, ...]:
    """Labels of an axis; where the short ones coincide, the whole values."""
    labels = tuple(label(level) for level in levels)
    return labels if len(set(labels)) == len(labels) else tuple(json.dumps(v) for v in levels)


def points(record: dict[str, Any], axes: tuple[Axis, ...]) -> pl.DataFrame:
    """One row per planned configuration, in the order of the plan.

    Columns: config_id, point (the whole label), and per axis `<axis>` (label, an ordered Enum).
    """
    order = list(dict.fromkeys(config_id for _, config_id, _ in record["trials"]))
    rows: list[dict[str, str]] = []
    for config_id in order:
        values = record["configurations"][config_id]
        row = {axis.name: axis.labels[_level(axis, values[axis.name])] for axis in axes}
        words = " · ".join(f"{short(name)} {level}" for name, level in row.items())
        rows.append({"config_id": config_id, "point": words or record["spec"]["name"], **row})
    schema: dict[str, Any] = {"config_id": pl.String, "point": pl.String}
    schema |= {axis.name: pl.Enum(list(axis.labels)) for axis in axes}
    return pl.DataFrame(rows, schema=schema)


def _level(axis: Axis, value: Any) -> int:
    return axis.levels.index(value)
