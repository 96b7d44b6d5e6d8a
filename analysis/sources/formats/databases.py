"""What trackers keep in binary files: Optuna's and MLflow's SQLite, W&B's offline runs."""

import contextlib
import json
import sqlite3
import struct
from collections.abc import Iterator
from typing import Any

from analysis.sources.formats import optuna
from analysis.sources.formats.parts import Part, Row, cell, flat, plain_value, scalars_only
from analysis.sources.formats.protobuf import fields

_BLOCK = 32_768  # bytes of a block of LevelDB's log
_OBJECT = 16  # HistoryItem and ConfigItem: the value as JSON


def parts_of_sqlite(content: bytes, name: str) -> list[Part]:
    """Read the trials of Optuna, or the runs of MLflow. Raises: sqlite3.Error, ValueError."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        # A file that was written ahead says so in two bytes; the copy has no such log.
        database.deserialize(content[:18] + b"\x01\x01" + content[20:])
        tables = {one for (one,) in database.execute("SELECT name FROM sqlite_master")}
        if "trial_intermediate_values" in tables:
            return optuna.parts_of_tables(database)
        if {"runs", "metrics", "params"} <= tables:
            return _mlflow(database)
    raise ValueError(f"none of its tables is Optuna's or MLflow's: {', '.join(sorted(tables))}")


def _mlflow(database: sqlite3.Connection) -> list[Part]:
    names = dict(database.execute("SELECT run_uuid, name FROM runs"))
    found: list[Part] = []
    for run, name in names.items():
        rows: list[Row] = [
            {"step": step, "wall": wall, str(key): float("nan") if is_nan else value}
            for key, value, wall, step, is_nan in database.execute(
                "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? "
                "ORDER BY timestamp, step, rowid",
                (run,),
            )
        ]
        query = "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key"
        if rows:
            told = database.execute(query, (run,))
            settings = {str(key): cell(str(value)) for key, value in told}
            found.append(Part("MLflow", str(name or run), rows, settings))
    return found


def part_of_wandb(content: bytes, name: str) -> Part:
    """Read a run that Weights & Biases kept offline. Raises: IndexError, ValueError, struct.error.

    Record {2: History {1: Item}, 5: Config, 17: Run {1: id, 4: Config, 8: name}}, Config
    {1: Item}, Item {1: key, 2: nested key, 16: JSON}.
    """
    rows: list[Row] = []
    settings: dict[str, Any] = {}
    for record in _records(content):
        for number, value in fields(record):
            if not isinstance(value, bytes):
                continue
            if number == 2:
                rows.append(dict(flat(_items(value))))
            elif number == 5:
                settings |= dict(flat(_items(value)))
            elif number == 17:
                run = dict(fields(value))
                told = run.get(8) or run.get(1)
                name = told.decode() if isinstance(told, bytes) and told else name
                config = run.get(4)
                settings |= dict(flat(_items(config))) if isinstance(config, bytes) else {}
    settings = {k: v for k, v in settings.items() if not k.startswith("_wandb")}
    return Part("Weights & Biases, offline", name, rows, scalars_only(settings.items()))


def _items(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, item in fields(message):
        if number != 1 or not isinstance(item, bytes):
            continue
        parts = list(fields(item))
        path = [one.decode() for field, one in parts if field in (1, 2) and isinstance(one, bytes)]
        text = next((one for field, one in parts if field == _OBJECT), b"null")
        if isinstance(text, bytes):
            found["/".join(filter(None, path))] = plain_value(json.loads(text))
    return found


def _records(content: bytes) -> Iterator[bytes]:
    """LevelDB's log: pieces of records behind headers of 7 bytes, none across a block's end."""
    place, record = 7, b""
    while place + 7 <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        piece = content[place + 7 : place + 7 + length]
        if len(piece) < length or kind not in (1, 2, 3, 4):
            return  # still being written
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4):
            yield record
        place += 7 + length
