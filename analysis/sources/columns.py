"""The columns of a tidy frame of curves: their names, their types, and what is refused."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from raysweep.errors import InputError, did_you_mean, shown

REQUIRED = ("trial_id", "epoch")
SCORE_ROLE = (
    "val_score"  # of the validation set, in its own unit: a log may have it for an accuracy
)
JUDGED = ("val_accuracy", SCORE_ROLE, "val_loss")  # one of them is needed
ACCURACIES = ("val_accuracy", "train_accuracy", "train_accuracy_running")
LOSSES = (
    "val_loss",
    "val_refined_loss",  # at the temperature fitted to the epoch
    "train_loss",  # eval mode
    "train_loss_running",  # as accumulated while training
    "initial_train_loss",  # eval mode, before the first step
)
COUNTS = (
    "num_val",
    "num_train",
    "num_train_eval",  # examples that train_accuracy was measured on
    "flip_to_wrong",
    "flip_to_right",
)
LISTS = ("val_block_n", "val_block_correct", "val_block_loss_sum")
PER_TRIAL = ("seed", "initial_train_loss", "num_val", "num_train", "num_train_eval")
KNOWN = (*REQUIRED, "seed", "learning_rate", *ACCURACIES, SCORE_ROLE, *LOSSES, *COUNTS, *LISTS)
TYPES: dict[str, pl.DataType] = {
    "trial_id": pl.String(),
    "epoch": pl.Int64(),
    "seed": pl.Int64(),
    "learning_rate": pl.Float64(),
    **dict.fromkeys((*ACCURACIES, SCORE_ROLE, *LOSSES), pl.Float64()),
    **dict.fromkeys(COUNTS, pl.Int64()),
    **dict.fromkeys(LISTS, pl.List(pl.Float64())),
}
_LIKE = 0.87  # how alike a column of somebody and one of ours are where one is meant
_ROUNDED = 1e-3  # how far an accuracy may be from that of its blocks


def checked(curves: pl.DataFrame) -> pl.DataFrame:
    """The same rows with typed columns, sorted by trial and epoch.

    Raises: InputError naming the column, the trial, the epoch and the value.
    """
    _check_names(curves)
    curves = typed(curves)
    _check_epochs(curves)
    _check_values(curves)
    return curves.sort("trial_id", "epoch", maintain_order=True)


def _check_names(curves: pl.DataFrame) -> None:
    if not curves.height:
        raise InputError("the curves have no row")
    # Without an accuracy, another metric of the validation set will do.
    judged = next((name for name in JUDGED if name in curves.columns), JUDGED[0])
    for wanted in (*REQUIRED, judged):
        if wanted not in curves.columns:
            raise InputError(
                f"the curves have no column {wanted!r}{did_you_mean(wanted, curves.columns)} "
                f"Columns: {listed(curves.columns)}"
            )
    for name in curves.columns:
        hint = did_you_mean(name, KNOWN, likeness=_LIKE) if name not in KNOWN else "."
        if hint != "." and not any(repr(known) in hint for known in curves.columns):
            raise InputError(
                f"column {shown(name)} of the curves is not known{hint} Known: {listed(KNOWN)}"
            )


def first_line(error: BaseException) -> str:
    """What Polars says first; the rest is about expressions."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Columns of types that nobody thought of are refused with what Polars says of them."""
    try:
        yield
    except (pl.exceptions.PolarsError, OverflowError) as error:
        raise InputError(f"these columns don't make curves: {first_line(error)}") from error


def listed(names: Sequence[str]) -> str:
    """The first of some names, each on one line and of a bounded length, for an error."""
    return ", ".join(shown(name, 60)[1:-1] for name in names[:30]) + ", ..." * (len(names) > 30)


def typed(curves: pl.DataFrame, kinds: Mapping[str, pl.DataType] = TYPES) -> pl.DataFrame:
    """Known columns with their types. Raises: InputError with the first value that has another."""
    for name, kind in kinds.items():
        if name not in curves.columns:
            continue
        given = curves[name]
        if name in LISTS and given.dtype == pl.String:  # a list in a CSV file
            try:
                given = given.str.json_decode(pl.List(pl.Float64()))
            except pl.exceptions.PolarsError as error:
                wanted = f"a list such as [12, 9, 14] is expected: {first_line(error)}"
                raise InputError(f"column {name!r}: {wanted}") from error
        try:
            cast = given.cast(kind, strict=False)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"column {name!r} holds {given.dtype}, not numbers") from error
        lost = given.is_not_null() & cast.is_null()
        if kind == pl.Int64() and given.dtype.is_float():
            lost |= (given != cast.cast(pl.Float64)).fill_null(False)
        if lost.any():
            what = "whole numbers" if kind == pl.Int64() else "numbers"
            raise InputError(
                f"column {name!r} holds {shown(given.filter(lost)[0])}, where {what} are expected"
            )
        curves = curves.with_columns(cast.alias(name))
    return curves


def _check_epochs(curves: pl.DataFrame) -> None:
    judged = next(name for name in JUDGED if name in curves.columns)
    for name in (*REQUIRED, judged, "seed"):
        if name in curves.columns and curves[name].null_count():
            row = curves.filter(pl.col(name).is_null()).row(0, named=True)
            hint = (
                "; leave out epochs without an evaluation, and write NaN where it was not finite"
                if name == judged
                else ""
            )
            raise InputError(f"column {name!r} is empty {_where(row)}{hint}")
    first = curves.group_by("trial_id", maintain_order=True).agg(pl.col("epoch").min())
    wrong = first.filter(pl.col("epoch") != 1)
    if wrong.height:
        row = wrong.row(0, named=True)
        raise InputError(
            f"the epochs of trial {shown(row['trial_id'])} start at {row['epoch']}; they are "
            "counted from 1, after one pass over the training set. The training loss before it "
            "belongs into the column 'initial_train_loss'"
        )
    twice = curves.filter(curves.select("trial_id", "epoch").is_duplicated())
    if twice.height:
        row = twice.row(0, named=True)
        raise InputError(f"there is more than one row {_where(row)}: {twice.height} rows in all")


def _where(row: dict[str, Any]) -> str:
    return f"at epoch {row['epoch']} of trial {shown(row['trial_id'])}"


def _refuse(curves: pl.DataFrame, wrong: pl.Expr, name: str, rule: str) -> None:
    """Raises: InputError with the first row in which something is wrong."""
    found = curves.filter(wrong).head(1)
    if found.height:
        row = found.row(0, named=True)
        raise InputError(f"{name} is {shown(row[name])} {_where(row)}: {rule}")


def _check_values(curves: pl.DataFrame) -> None:
    present = set(curves.columns)
    for name in (n for n in ACCURACIES if n in present):
        value = pl.col(name)
        top = curves.select(value.filter(value.is_finite()).max()).item() or 0.0
        rule = "accuracies are fractions between 0 and 1"
        if top > 1.5:
            rule += "; this looks like percent: divide it by 100"
        _refuse(curves, value.is_finite() & (value == top) & (value > 1 + 1e-6), name, rule)
        _refuse(curves, value < 0, name, rule)
    for name in (n for n in COUNTS if n in present):
        least = 0 if name.startswith("flip") else 1
        _refuse(curves, pl.col(name) < least, name, f"at least {least} is expected")
    for name in (n for n in PER_TRIAL if n in present):
        changed = pl.col(name).ne_missing(pl.col(name).first().over("trial_id"))
        _refuse(curves, changed, name, "one value per trial is expected")
    _check_pairs(present)
    if "flip_to_wrong" in present and "num_val" in present:
        flips = pl.col("flip_to_wrong") + pl.col("flip_to_right")
        _refuse(curves, flips > pl.col("num_val"), "flip_to_wrong", "more flips than num_val")
    if "val_block_n" in present:
        _check_blocks(curves)


def _check_pairs(present: set[str]) -> None:
    for one, other in (
        ("flip_to_wrong", "flip_to_right"),
        ("flip_to_right", "flip_to_wrong"),
        ("val_block_n", "val_block_correct"),
        ("val_block_correct", "val_block_n"),
        ("val_block_loss_sum", "val_block_n"),
        ("val_block_n", "val_accuracy"),
    ):
        if one in present and other not in present:
            raise InputError(f"column {one!r} needs {other!r} beside it")


def _check_blocks(curves: pl.DataFrame) -> None:
    length = pl.col("val_block_n").list.len()
    for name in (n for n in LISTS[1:] if n in curves.columns):
        optional = pl.col(name).is_null() & (name == "val_block_loss_sum")
        other = pl.col(name).list.len().ne_missing(length) & ~optional
        _refuse(curves, other, name, "as many blocks as val_block_n are expected")
    size, right = (pl.col(name).list.sum() for name in ("val_block_n", "val_block_correct"))
    off = (right / size - pl.col("val_accuracy")).abs() > _ROUNDED
    rule = "the blocks say another accuracy"
    _refuse(curves, pl.col("val_accuracy").is_finite() & off, "val_accuracy", rule)
    if "num_val" in curves.columns:
        _refuse(curves, size != pl.col("num_val"), "num_val", "the blocks add up to another number")
