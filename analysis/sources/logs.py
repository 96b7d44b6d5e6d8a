"""Curves that other tools logged, read for `analyze`: what `raysweep report` reads, in Python."""

from collections.abc import Mapping
from pathlib import Path

from analysis.sources import importers
from analysis.sources.importers import EpochZero, Imported
from raysweep.errors import InputError


def read_curves(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    epoch_zero: EpochZero | None = None,
) -> Imported:
    """Read training curves that PyTorch Lightning, TensorBoard, Weights & Biases or a table holds.

    Args:
        path: a folder of TensorBoard event files or of Lightning's metrics.csv; or a table (.csv,
            .parquet, .jsonl) with a row per trial and epoch, or wandb's rows with `_step`.
        columns: our column name -> theirs, for a column that is not recognised or not meant.
        epoch_zero: what the log's epoch 0 is: the "first" epoch or the "untrained" network.

    Returns: (curves, notes), which `analyze` takes as it is. curves is a tidy Polars frame: one row
        per trial and epoch, accuracies as fractions, epochs counted from 1. notes holds one line
        for each column that was guessed, scaled or left out.

    Raises: InputError when nothing readable is there, or a needed column can't be told.
    """
    if not importers.is_foreign(path):
        raise InputError(f"{path} is a store, or nothing is there: analyze(path) reads a store")
    return importers.read_log(path, columns=columns, epoch_zero=epoch_zero)
