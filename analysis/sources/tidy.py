"""A tidy frame of curves, made by whatever tool -> the same frames as a store.

Nothing is renamed, scaled or filled in: a frame is what its columns say, or it is refused.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from analysis.sources import bits
from analysis.sources.columns import (
    ACCURACIES,
    KNOWN,
    LOSSES,
    SCORE_ROLE,
    checked,
    listed,
    refusals,
)
from analysis.sources.store import KEY, Frames, epoch_columns, some
from raysweep.errors import InputError, shown
from raysweep.spec import Hyperparameters
from raysweep.store.schema import EPOCHS, TRIALS

# What the analysis knows of a trial besides its hyperparameters.
_FACTS = pa.schema([f for f in TRIALS if f.name not in Hyperparameters().columns()])
RESERVED = frozenset([*_FACTS.names, "outcome", "point"])  # no hyperparameter may have such a name
# Columns of a store's epochs, by those of a tidy frame.
_EPOCH_NAMES = {
    "trial_id": "trial_id",
    "epoch": "epoch",
    "val_accuracy": "val_accuracy",
    "val_score": "val_score",
    "val_loss": "val_loss",
    "val_nll_at_temperature": "val_refined_loss",
    "train_eval_accuracy": "train_accuracy",
    "train_eval_loss": "train_loss",
    "train_eval_n": "num_train_eval",
    "train_accuracy": "train_accuracy_running",
    "train_loss": "train_loss_running",
    "lr": "learning_rate",
    "val_n": "num_val",
    "val_block_n": "val_block_n",
    "val_block_correct": "val_block_correct",
    "val_block_loss_sum": "val_block_loss_sum",
    "flip_to_wrong": "flip_to_wrong",
    "flip_to_right": "flip_to_right",
}
_MEASURED = (*ACCURACIES, SCORE_ROLE, *LOSSES)  # what is not finite has diverged
_DERIVED = (
    "val_accuracy",
    "val_score",
    "val_loss",
    "train_eval_accuracy",
    "train_eval_loss",
    "churn",
)


@refusals()
def read_tidy(
    curves: pl.DataFrame, *, name: str = "curves", config: Sequence[str] | None = None
) -> Frames:
    """The trials and epochs of a tidy frame.

    Args: curves: one row per trial and epoch, columns as columns.KNOWN (accuracies are fractions,
        losses means, epochs count from 1); config: the columns that are hyperparameters, by
        default all others that are constant within every trial.

    Raises: InputError naming the column, the trial, the epoch and the value.
    """
    curves = checked(bits.dealt(curves))
    if "num_val" not in curves.columns and "val_block_n" in curves.columns:
        num_val = pl.col("val_block_n").list.sum().cast(pl.Int64)
        curves = curves.with_columns(num_val.max().over("trial_id").alias("num_val"))
    fields, unused = _hyperparameters(curves, config)
    trials = _trials(curves, fields)
    return Frames(
        _record(name, trials, fields.columns[1:]),
        trials,
        _epochs(curves, trials),
        _quality(curves, trials, fields.columns[1:], unused),
    )


def _hyperparameters(
    curves: pl.DataFrame, config: Sequence[str] | None
) -> tuple[pl.DataFrame, list[str]]:
    """trial_id and a column per hyperparameter, one row per trial; and the columns left unused.

    The learning rate of a trial is the largest one that it reached.
    """
    others = curves.drop(KNOWN, strict=False)
    texts = cs.temporal() | cs.categorical() | cs.enum()
    plain = others.select(cs.numeric() | cs.string() | cs.boolean() | texts).columns
    trials = curves.group_by("trial_id", maintain_order=True)
    most = trials.agg(pl.col(plain).n_unique()).select(pl.col(plain).max())
    constant = [name for name in plain if most[name][0] == 1]
    if "learning_rate" in curves.columns:
        constant.insert(0, "learning_rate")
    chosen = constant if config is None else list(config)
    for name in chosen:
        if name not in constant:
            known = "it changes within a trial" if name in curves.columns else "it is not there"
            raise InputError(
                f"column {shown(name)} can't be a hyperparameter: {known}. "
                f"Constant within every trial: {listed(constant) or 'none'}"
            )
        if name in RESERVED:
            raise InputError(f"column {name!r} has a name that the analysis uses: rename it")
    fields = trials.agg(
        pl.col(name).max() if name == "learning_rate" else pl.col(name).first() for name in chosen
    )
    fields = fields.with_columns(texts.cast(pl.String), cs.float().fill_nan(None))
    return fields, [name for name in others.columns if name not in chosen]


def _trials(curves: pl.DataFrame, fields: pl.DataFrame) -> pl.DataFrame:
    """One row per trial: what a store knows of it, null where a frame can't, and the fields."""
    has = set(curves.columns)
    finite = [pl.col(n).is_finite().fill_null(True).all() for n in _MEASURED if n in has]
    rose = pl.lit(False)
    if {"train_loss", "initial_train_loss"} <= has:
        # Ended above where it began: diverged, without a number that is not finite.
        rose = pl.col("train_loss").last() > pl.col("initial_train_loss").last()
    facts = {
        "seed": "seed",
        "n_train": "num_train",
        "n_val": "num_val",
        "initial_train_eval_loss": "initial_train_loss",
    }
    trials = curves.group_by("trial_id", maintain_order=True).agg(
        pl.when(pl.all_horizontal(*finite) & ~rose.fill_null(False))
        .then(pl.lit("completed"))
        .otherwise(pl.lit("diverged"))
        .alias("status"),
        pl.col("epoch").last().alias("epochs_run"),
        *[pl.col(theirs).first().alias(ours) for ours, theirs in facts.items() if theirs in has],
    )
    trials = trials.join(_config_ids(fields), on="trial_id", maintain_order="left")
    if "seed" in has:
        _check_seeds(trials)
    else:
        trials = trials.with_columns(pl.int_range(pl.len()).over("config_id").alias("seed"))
    trials = trials.with_columns(pl.lit(1).alias("attempt"))
    typed = _with_schema(trials, _FACTS).join(fields, on="trial_id", maintain_order="left")
    return typed.sort(*fields.columns[1:], "seed", "trial_id", nulls_last=False)


def _config_ids(fields: pl.DataFrame) -> pl.DataFrame:
    """trial_id, config_id: a digest of the hyperparameters that are not null, 1 being 1.0."""
    names = fields.columns[1:]
    if not names:
        return fields.with_columns(pl.lit(_digest({})).alias("config_id"))
    distinct = fields.select(names).unique(maintain_order=True)
    ids = distinct.with_columns(
        pl.Series("config_id", [_digest(row) for row in distinct.iter_rows(named=True)])
    )
    joined = fields.join(ids, on=names, nulls_equal=True, maintain_order="left")
    return joined.select("trial_id", "config_id")


def _digest(values: dict[str, Any]) -> str:
    known = {name: value for name, value in values.items() if value is not None}
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in known.items()
    }
    text = json.dumps(whole, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _check_seeds(trials: pl.DataFrame) -> None:
    same = trials.filter(trials.select("config_id", "seed").is_duplicated())
    if same.height:
        one = same.row(0, named=True)
        other = same.filter(
            (pl.col("config_id") == one["config_id"]) & (pl.col("seed") == one["seed"])
        )["trial_id"][1]
        raise InputError(
            f"trials {one['trial_id']!r} and {other!r} have the same hyperparameters and the same "
            f"seed, {one['seed']}: a column that tells them apart is missing, or `seed` is no seed "
            "and must go"
        )


def _with_schema(rows: pl.DataFrame, schema: pa.Schema) -> pl.DataFrame:
    """The columns of a schema, null where the rows don't have them."""
    empty = pl.from_arrow(schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in empty.schema.items()
    )


def _epochs(curves: pl.DataFrame, trials: pl.DataFrame) -> pl.DataFrame:
    """Epochs as a store's frames have them; what is not finite is null, and `status` tells why."""
    has = set(curves.columns)
    bad = [~pl.col(n).is_finite().fill_null(True) for n in _MEASURED if n in has]
    named = curves.select(
        pl.when(pl.any_horizontal(*bad))
        .then(pl.lit("diverged"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        pl.lit("raw").alias("weights_kind"),
        pl.lit(1).alias("attempt"),
        pl.lit(1).alias("start_epoch"),
        *[pl.col(theirs).alias(ours) for ours, theirs in _EPOCH_NAMES.items() if theirs in has],
    )
    measured = [
        pl.col(name) if name in named.columns else pl.lit(None, pl.Float64).alias(name)
        for name in _DERIVED
    ]
    if {"flip_to_wrong", "num_val"} <= has:
        flips = (pl.col("flip_to_wrong") + pl.col("flip_to_right")) / pl.col("val_n")
        measured[-1] = flips.alias("churn")
    recorded = _with_schema(named, pa.schema([EPOCHS.field(name) for name in epoch_columns()]))
    epochs = pl.concat([recorded, named.select(measured)], how="horizontal")
    values = pl.col(pl.Float64)
    return (
        epochs.with_columns(pl.when(values.is_finite()).then(values).name.keep())
        .join(trials.select("trial_id", "config_id", "seed"), on="trial_id", maintain_order="left")
        .sort(KEY)
    )


def _record(name: str, trials: pl.DataFrame, names: list[str]) -> dict[str, Any]:
    """A sweep's record, as far as a frame tells."""
    levels = {column: trials[column].unique().sort(nulls_last=False).to_list() for column in names}
    axes = {column: values for column, values in levels.items() if len(values) > 1}
    configurations = trials.unique("config_id", keep="first", maintain_order=True)
    return {
        "spec": {
            "name": name,
            "task": "",
            "base": {column: values[0] for column, values in levels.items() if len(values) == 1},
            "axes": axes,
            "seeds": trials["seed"].unique().sort().to_list(),
        },
        "trials": [list(row) for row in trials.select("trial_id", "config_id", "seed").rows()],
        "configurations": {
            row.pop("config_id"): row
            for row in configurations.select("config_id", *axes).iter_rows(named=True)
        },
        "versions": {},
        "hardware": {"nodes": []},
        "command": [],
    }


def _quality(
    curves: pl.DataFrame, trials: pl.DataFrame, names: list[str], unused: list[str]
) -> pl.DataFrame:
    num_configs = trials["config_id"].n_unique()
    diverged = trials.filter(pl.col("status") == "diverged")["trial_id"].to_list()
    rows_of = curves.group_by("trial_id", maintain_order=True).agg(pl.len(), pl.col("epoch").last())
    holes = rows_of.filter(pl.col("len") < pl.col("epoch"))["trial_id"].to_list()
    found = [
        ("trials", trials.height, f"{num_configs} configurations"),
        ("trials diverged", len(diverged), f"left out of every estimate: {some(diverged)}"),
        ("trials with missing epochs", len(holes), some(holes)),
        ("columns not used", len(unused), some(unused, 20)),
    ]
    if "val_loss" in curves.columns:
        partly = pl.col("val_loss").is_null().any() & pl.col("val_loss").is_not_null().any()
        some_only = curves.group_by("trial_id", maintain_order=True).agg(partly.alias("partly"))
        trials_with = some_only.filter("partly")["trial_id"].to_list()
        detail = f"no rise of it is told: {some(trials_with)}; write NaN where it was not finite"
        found.append(
            ("trials with a validation loss at some epochs only", len(trials_with), detail)
        )
    if "seed" not in curves.columns:
        found.append(("seeds not given", trials.height, "numbered within a configuration"))
    if "learning_rate" not in curves.columns:
        found.append(("learning rates not given", trials.height, "taken as constant"))
    if not {"train_loss", "initial_train_loss"} <= set(curves.columns):
        detail = "diverged means a number that is not finite; a trial that only ended worse is kept"
        found.append(("training losses before training not given", trials.height, detail))
    texts = [n for n in names if trials[n].dtype == pl.String and n != "trial_id"]
    labels = [n for n in texts if trials.height > 3 and trials[n].n_unique() == trials.height]
    if labels and num_configs == trials.height:
        detail = f"{some(labels)} differ in every trial: labels, and no hyperparameters?"
        found.append(("configurations of one trial", num_configs, detail))
    return pl.DataFrame(
        [row for row in found if row[1]],
        schema={"check": pl.String, "count": pl.Int64, "detail": pl.String},
        orient="row",
    )
