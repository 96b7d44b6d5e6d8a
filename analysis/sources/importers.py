"""Curves that other tools logged -> the tidy frame that `analyze` takes.

Here names are guessed and percentages divided; every guess is told in the notes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from analysis.sources.columns import ACCURACIES, KNOWN, REQUIRED, TYPES, listed, refusals, typed
from analysis.sources.event_files import scalars
from analysis.sources.tables import SUFFIXES, read_table
from raysweep.errors import InputError, shown
from raysweep.plain_yaml import parse_scalars

EpochZero = Literal["first", "untrained"]
# Other tools' names of our columns, best first, in lower case with everything else as "_". What is
# logged while training is taken to be accumulated in train mode, as it nearly always is.
ALIASES: dict[str, list[str]] = {
    ours: theirs.split()
    for ours, theirs in {
        "trial_id": "run_id trial run run_name experiment_id",
        "epoch": "epochs trainer_epoch train_epoch",
        "seed": "random_seed rng_seed manual_seed seed_everything",
        "val_accuracy": """
            val_acc valid_acc valid_accuracy validation_acc validation_accuracy eval_acc
            eval_accuracy val_acc_epoch val_accuracy_epoch val_acc1 val_acc_top1 val_top1
            eval_top1 val_top1_acc metrics_accuracy_top1 test_acc test_accuracy
        """,
        "val_loss": "valid_loss validation_loss eval_loss val_loss_epoch test_loss",
        "train_accuracy_running": """
            train_acc_epoch train_accuracy_epoch train_accuracy train_acc
            training_accuracy training_acc train_top1 train_acc_step accuracy acc
        """,
        "train_loss_running": """
            train_loss_epoch train_loss training_loss train_loss_step loss
        """,
        "learning_rate": "lr train_learning_rate train_lr lr_pg0",
        "num_val": "n_val val_n val_size num_val_examples",
        "num_train": "n_train train_n train_size num_train_examples",
    }.items()
}


class Imported(NamedTuple):
    """A tidy frame, and one line per thing that was guessed or left out."""

    curves: pl.DataFrame
    notes: list[str]


@refusals()
def read_log(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    epoch_zero: EpochZero | None = None,
) -> Imported:
    """Curves of whatever tool wrote them.

    A folder with event files is TensorBoard's, one with metrics.csv (or below it) Lightning's; a
    table with `_step` is wandb's; any other one has a row per trial and epoch.

    Args:
        columns: our name -> theirs, for what is not recognised or not meant.
        epoch_zero: what their epoch 0 is: the `first` one, or the `untrained` network.

    Raises: InputError when nothing is there, or a column can't be told.
    """
    path = Path(path)
    if path.is_dir():
        if _files(path, "*tfevents*"):
            return _read_tensorboard(path, columns, epoch_zero)
        if _files(path, "metrics.csv"):
            return _read_lightning(path, columns)
        raise InputError(
            f"{path} is no store (it has no folder 'sweeps') and holds no curves: no event files, "
            "no metrics.csv"
        )
    if path.name == "metrics.csv":
        return _read_lightning(path, columns)
    return _read_rows(path, columns, epoch_zero)


def is_foreign(path: Path | str) -> bool:
    """Whether a path leads to curves rather than to a store, or would, were it there."""
    path = Path(path)
    if path.is_dir():
        return not (path / "sweeps").is_dir()
    return path.is_file() or path.suffix.lower() in SUFFIXES


def _files(folder: Path, pattern: str) -> list[Path]:
    """Regular files at any depth: reading a pipe would wait for ever."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def _read_table(path: Path, columns: Mapping[str, str] | None) -> pl.DataFrame:
    ids = ["trial_id", (columns or {}).get("trial_id", ""), *ALIASES["trial_id"]]
    rows = read_table(path, texts=ids)
    names = {name: name.strip() for name in rows.columns}
    if len(set(names.values())) < len(names):
        return rows  # the same name with and without a space
    return rows.rename(names)


def _read_rows(
    path: Path, columns: Mapping[str, str] | None, epoch_zero: EpochZero | None
) -> Imported:
    """A table, or rows of wandb's `run.scan_history()`, which have `_step`.

    Without a trial's column it is one trial. wandb's rows of one epoch are put together: the last
    value of each column, the mean of what is logged while training.
    """
    rows = _read_table(path, columns)
    history = "_step" in rows.columns
    as_it_is = not history and not columns and epoch_zero is None
    if as_it_is and set(REQUIRED) <= set(rows.columns):
        return Imported(rows, [])  # ours already
    rows, notes = _renamed(rows, columns)
    if "trial_id" not in rows.columns:
        rows = rows.with_columns(pl.lit(path.stem).alias("trial_id"))
    if history:
        rows = _one_per_epoch(rows.drop("_runtime", "_timestamp", strict=False), "_step")
    return _finished(rows, notes, epoch_zero)


def _read_lightning(path: Path, columns: Mapping[str, str] | None) -> Imported:
    """PyTorch Lightning's CSVLogger: a metrics.csv, or a folder of versions with theirs.

    Its epochs count from 0. Hyperparameters are the plain values of the hparams.yaml beside it.
    """
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else _files(path, "metrics.csv")
    if not files:
        raise InputError(f"no metrics.csv at {path}")
    parts: list[pl.DataFrame] = []
    for file in files:
        rows = _read_table(file, columns)
        name = str(file.parent.relative_to(root)) if file.parent != root else root.name
        rows = rows.drop("trial_id", strict=False).with_columns(pl.lit(name).alias("trial_id"))
        fields = {k: v for k, v in _hparams(file).items() if k not in rows.columns}
        parts.append(rows.with_columns(pl.lit(v).alias(k) for k, v in fields.items()))
    rows, notes = _renamed(pl.concat(parts, how="diagonal_relaxed"), columns)
    return _finished(_one_per_epoch(rows, "step"), notes, "first")


def _hparams(metrics: Path) -> Mapping[str, object]:
    path = metrics.with_name("hparams.yaml")
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    return parse_scalars(text, source=str(path))


def _read_tensorboard(
    folder: Path, columns: Mapping[str, str] | None, epoch_zero: EpochZero | None
) -> Imported:
    """Scalars of event files, one trial per folder that holds some.

    An epoch is what lies between two values of the validation accuracy: steps are no epochs.
    """
    found: list[tuple[str, int, str, float]] = []
    for file in _files(folder, "*tfevents*"):
        name = str(file.parent.relative_to(folder)) if file.parent != folder else folder.name
        found += [(name, one.step, one.tag, one.value) for one in scalars(file)]
    if not found:
        raise InputError(f"no scalars in the event files of {folder}")
    schema = {"trial_id": pl.String, "step": pl.Int64, "tag": pl.String, "value": pl.Float64}
    long = pl.DataFrame(found, schema=schema, orient="row")
    for name in ("trial_id", "step"):
        long = long.with_columns(pl.col("tag").replace(name, f"{name}_logged"))
    rows, notes = _renamed(
        long.pivot("tag", index=["trial_id", "step"], values="value", aggregate_function="last")
        .drop("epoch", strict=False)
        .sort("trial_id", "step"),
        columns,
    )
    if "val_accuracy" not in rows.columns:
        raise _not_found("val_accuracy", rows.drop("trial_id", "step").columns)
    # The rows up to and with the k-th validation are epoch k.
    done = pl.col("val_accuracy").is_not_null().cast(pl.Int64).cum_sum().over("trial_id")
    here = pl.col("val_accuracy").is_not_null().cast(pl.Int64)
    first = 0 if epoch_zero == "untrained" else 1
    rows = rows.with_columns((done - here + first).alias("epoch"))
    notes.append("epoch k is the k-th value of val_accuracy")
    return _finished(_one_per_epoch(rows, "step"), notes, epoch_zero)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _renamed(
    rows: pl.DataFrame, columns: Mapping[str, str] | None
) -> tuple[pl.DataFrame, list[str]]:
    """Columns under our names; what nothing is known of keeps its own."""
    names: dict[str, str] = {}
    notes: list[str] = []
    for ours, theirs in (columns or {}).items():
        if ours not in KNOWN:
            raise InputError(f"{shown(ours)} is no column of a curve: {', '.join(KNOWN)}")
        if theirs not in rows.columns:
            raise _not_found(theirs, rows.columns)
        names[theirs] = ours
    for ours, aliases in ALIASES.items():
        taken = ours in names.values()
        if taken or (ours in rows.columns and ours not in names):
            continue
        by_plain = {_plain(name): name for name in reversed(rows.columns) if name not in names}
        if ours == "learning_rate":
            rates = [name for name in by_plain if re.match(r"lr_(adam|sgd|rmsprop|adagrad)", name)]
            aliases = [*aliases, *(rates if len(rates) == 1 else ())]
        theirs = next((by_plain[a] for a in (ours, *aliases) if a in by_plain), None)
        if theirs is not None:
            names[theirs] = ours
            notes.append(f"{ours} is {theirs!r}")
    hidden = [ours for ours in names.values() if ours in rows.columns and ours not in names]
    # Numbers from here on; epochs may still be fractions.
    return typed(rows.drop(hidden).rename(names), {**TYPES, "epoch": pl.Float64()}), notes


def _not_found(name: str, columns: Sequence[str]) -> InputError:
    return InputError(
        f"no column {shown(name)}, and none that is known to mean it; say which one it is. "
        f"Columns: {listed(columns)}"
    )


def _one_per_epoch(rows: pl.DataFrame, step: str) -> pl.DataFrame:
    """Puts the rows of each trial's epoch together, and leaves out those without a validation."""
    if "epoch" not in rows.columns:
        raise _not_found("epoch", rows.columns)
    if step in rows.columns:
        rows = rows.sort("trial_id", step, maintain_order=True)
    # A row without an epoch (a learning rate, say) belongs to the next one that has it.
    rows = rows.with_columns(
        pl.col("epoch").cast(pl.Float64).fill_null(strategy="backward").over("trial_id").ceil()
    ).drop_nulls("epoch")
    means = [name for name in rows.columns if name.endswith("_running")]
    rest = [name for name in rows.columns if name not in ("trial_id", "epoch", step, *means)]
    together = rows.group_by("trial_id", "epoch", maintain_order=True).agg(
        pl.col(rest).drop_nulls().last(), pl.col(means).mean()
    )
    if "val_accuracy" not in together.columns:
        raise _not_found("val_accuracy", rows.columns)
    return together.filter(pl.col("val_accuracy").is_not_null())


def _finished(rows: pl.DataFrame, notes: list[str], epoch_zero: EpochZero | None) -> Imported:
    """Fractions, epochs from 1, and no trial without validation accuracy."""
    for wanted in REQUIRED:
        if wanted not in rows.columns:
            raise _not_found(wanted, rows.columns)
    known = rows.filter(pl.col("val_accuracy").is_not_null().any().over("trial_id"))
    if known.height < rows.height:
        num_empty = rows["trial_id"].n_unique() - known["trial_id"].n_unique()
        notes.append(f"{num_empty} trials without any val_accuracy are left out")
        rows = known
    for name in ACCURACIES:
        if name in rows.columns and rows[name].dtype.is_numeric():
            top = rows.select(pl.col(name).filter(pl.col(name).is_finite()).max()).item()
            if top is not None and top > 1.5:
                rows = rows.with_columns(pl.col(name) / 100)
                notes.append(f"{name} is taken to be in percent: its largest value is {top:g}")
    return Imported(_from_one(rows, notes, epoch_zero), notes)


def _from_one(rows: pl.DataFrame, notes: list[str], epoch_zero: EpochZero | None) -> pl.DataFrame:
    """Epochs that count from 1, in steps of 1."""
    first = rows["epoch"].min()
    if first == 0 and epoch_zero is None:
        raise InputError(
            "the epochs start at 0: say whether that is the first epoch of training (epoch_zero = "
            "'first') or the network before it ('untrained')"
        )
    if first == 0 and epoch_zero == "first":
        return rows.with_columns(pl.col("epoch") + 1)
    if first == 0:
        if "train_loss" in rows.columns:
            initial = pl.col("train_loss").filter(pl.col("epoch") == 0).first().over("trial_id")
            rows = rows.with_columns(initial.alias("initial_train_loss"))
        return rows.filter(pl.col("epoch") > 0)
    apart = rows.sort("trial_id", "epoch").select(
        pl.col("epoch").diff().over("trial_id").fill_null(pl.col("epoch"))
    )["epoch"]
    step = float(first) if isinstance(first, int | float) else math.nan
    if step > 1 and apart.n_unique() == 1:
        notes.append(f"there is a validation every {step:g} epochs: one is counted as one epoch")
        return rows.with_columns(pl.col("epoch") // step)
    return rows
