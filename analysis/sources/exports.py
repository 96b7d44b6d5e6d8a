"""A store's live rows for other tools: CSV, Parquet, TensorBoard's event files, MLflow's runs."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from analysis.sources.axes import axes_of, points
from analysis.sources.store import Frames, read_store
from raysweep.errors import InputError
from raysweep.store.files import Store

# A row per trial, epoch and kind of weights has these curves; those of other weights than the raw
# ones go by `<kind>/<name>`.
CURVES = (
    *("train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy"),
    *("val_loss", "val_accuracy", "lr"),
)
_OF_TRAINING = ("train_loss", "train_accuracy", "lr")  # the same whatever weights are looked at
_MLFLOW_AT_ONCE = 1_000  # metrics that MLflow takes in a batch


class _Run(NamedTuple):
    """One trial for a tracker."""

    name: str  # a folder's too
    settings: dict[str, Any]
    finished: dict[str, Any]
    curves: Iterator[tuple[str, int, float]]  # name, epoch, value


def export(store: Store, to: str, place: Path) -> list[str]:
    """Write the latest sweep of a store in another form; each row once.

    Args:
        to: csv, parquet, tensorboard or mlflow.
        place: a folder; of mlflow, a folder for its database. It must not hold an export already.

    Returns: what was written, in words, a line each.
    Raises: InputError when there is nothing to write or no place for it, or a package is missing.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} is there already: name another folder with --out")
    writers: dict[str, Callable[[Frames, Path], list[str]]] = {
        "csv": _csv,
        "parquet": _parquet,
        "tensorboard": _tensorboard,
        "mlflow": _mlflow,
    }
    if to not in writers:
        raise InputError(f"--to {to}: it is {', '.join(writers)}")
    frames = read_store(store)
    try:
        place.mkdir(parents=True, exist_ok=True)
        return writers[to](frames, place)
    except OSError as error:
        raise InputError(f"{place} can't be written: {error.strerror or error}") from error


def _tables(frames: Frames) -> dict[str, pl.DataFrame]:
    return {"trials": frames.trials, "epochs": frames.epochs}


def _csv(frames: Frames, place: Path) -> list[str]:
    """Lists become JSON text, since CSV has none; bits are left out."""
    said: list[str] = []
    for name, table in _tables(frames).items():
        lists = [column for column, kind in table.schema.items() if kind == pl.List]
        bits = [column for column, kind in table.schema.items() if kind == pl.Binary]
        flat = table.drop(bits).with_columns(
            pl.col(column).map_elements(
                lambda values: json.dumps(values.to_list()), return_dtype=pl.String
            )
            for column in lists
        )
        flat.write_csv(place / f"{name}.csv")
        said.append(_line(place / f"{name}.csv", table))
    return said


def _parquet(frames: Frames, place: Path) -> list[str]:
    said: list[str] = []
    for name, table in _tables(frames).items():
        table.write_parquet(place / f"{name}.parquet")
        said.append(_line(place / f"{name}.parquet", table))
    return said


def _line(file: Path, table: pl.DataFrame) -> str:
    return f"{file}: {table.height:,} rows, {table.width} columns"


def _runs(frames: Frames) -> Iterator[_Run]:
    """Every finished trial, in the order of the plan."""
    axes = axes_of(frames.record)
    labels = points(frames.record, axes)
    names = dict(labels.select("config_id", "point").iter_rows())
    values: dict[str, dict[str, Any]] = frames.record["configurations"]
    base = dict(frames.record["spec"]["base"])
    epochs = frames.epochs.partition_by("trial_id", as_dict=True, maintain_order=True)
    for trial in frames.trials.iter_rows(named=True):
        name = f"{names[trial['config_id']]} · seed {trial['seed']}"
        settings = base | values[trial["config_id"]] | {"seed": trial["seed"]}
        kept = ("trial_id", "config_id", "status", "epochs_run", "seconds", "n_train", "n_val")
        finished = {key: trial[key] for key in kept if trial[key] is not None}
        rows = epochs.get((trial["trial_id"],), frames.epochs.clear())
        yield _Run(name, _flat(settings), finished, _curves(rows))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """A nested setting is one per part, `early_stopping.patience`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            flat[name] = value
    return flat


def _curves(rows: pl.DataFrame) -> Iterator[tuple[str, int, float]]:
    for row in rows.iter_rows(named=True):
        kind = row["weights_kind"]
        for name in CURVES:
            value = row.get(name)
            if value is None or (kind != "raw" and name in _OF_TRAINING):
                continue
            yield (name if kind == "raw" else f"{kind}/{name}"), row["epoch"], float(value)


def _folder_name(name: str) -> str:
    return name.replace(" · ", ",").replace("/", "-").replace(" ", "_")


def _tensorboard(frames: Frames, place: Path) -> list[str]:
    """A folder of event files for each trial, with its hyperparameters."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError as error:
        raise InputError(
            "--to tensorboard needs TensorBoard, which is not installed: pip install tensorboard"
        ) from error
    # Made when the package is imported, so that no checker of types knows them.
    event, summary = vars(event_pb2)["Event"], vars(summary_pb2)["Summary"]
    for run in _runs(frames):
        writer = EventFileWriter(str(place / _folder_name(run.name)))
        settings = {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in run.settings.items()
        }
        session = summary_v2.hparams_pb(settings, trial_id=str(run.finished["trial_id"]))
        writer.add_event(event(wall_time=0.0, step=0, summary=session))
        for name, epoch, value in run.curves:
            point = summary(value=[summary.Value(tag=name, simple_value=value)])
            writer.add_event(event(wall_time=float(epoch), step=epoch, summary=point))
        writer.close()
    return [
        f"{place}: {frames.trials.height} runs; look at them with: tensorboard --logdir {place}"
    ]


def _mlflow(frames: Frames, place: Path) -> list[str]:
    """A run for each trial, in an experiment with the sweep's name, in a database of one file."""
    try:
        import mlflow  # noqa: F401 - MLflow's client registers what it needs with this import
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise InputError(
            "--to mlflow needs MLflow, which is not installed: pip install mlflow"
        ) from error
    address = f"sqlite:///{(place / 'mlflow.db').resolve()}"
    client = MlflowClient(tracking_uri=address)
    experiment = client.create_experiment(
        str(frames.record["spec"]["name"]),
        artifact_location=(place.resolve() / "artifacts").as_uri(),
    )
    for run in _runs(frames):
        run_id = client.create_run(experiment, run_name=run.name).info.run_id
        params = [Param(name, str(value)) for name, value in run.settings.items()]
        tags = [RunTag(f"raysweep.{name}", str(value)) for name, value in run.finished.items()]
        client.log_batch(run_id, params=params, tags=tags)
        # MLflow has no number for what is not one; a diverged trial ends where it does.
        metrics = [
            Metric(name, value, epoch, epoch)
            for name, epoch, value in run.curves
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), _MLFLOW_AT_ONCE):
            client.log_batch(run_id, metrics=metrics[start : start + _MLFLOW_AT_ONCE])
        ended = "FAILED" if run.finished["status"] == "failed" else "FINISHED"
        client.set_terminated(run_id, ended)
    look = f"mlflow ui --backend-store-uri {address}"
    return [f"{address}: {frames.trials.height} runs; look at them with: {look}"]
