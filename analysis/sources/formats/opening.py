"""Paths, or standard input -> parts: what each file is, by its content, and which run it is of."""

import contextlib
import json
import os
import re
import sqlite3
import stat
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from analysis.sources import names
from analysis.sources.formats import databases, documents, event_files, tables, texts
from analysis.sources.formats.parts import Part, flat, number, scalars_only
from raysweep.errors import InputError, RaysweepError, shown
from raysweep.plain_yaml import parse_scalars
from raysweep.store.local_path import check_readable, local_path

STDIN = "-"
_NAMES_OF_A_METRIC = 3  # in a file of one metric: time, step, value
_MOST_BYTES = 2_000_000_000
# What a folder of runs holds beside its logs.
_SKIPPED, _JUNK = names.words("skipped"), names.words("junk")
_SETTINGS = ("params.json", "hparams.json", "config.json", "args.json", "hparams.yaml")
_SETTINGS_YAML = ("hparams.yaml", "args.yaml", "config.yaml", "params.yaml", "hparams.yml")
# Folders inside a run's that hold its logs: plots/metrics of DVCLive, metrics of MLflow.
_INNER = names.words("inner")


def parts_of(paths: Sequence[Path | str]) -> list[Part]:
    """Read every file, in the order of the paths.

    Args: paths: files and folders; "-" is standard input.
    Raises: InputError naming the path where nothing can be read.
    """
    found: list[Part] = []
    places = [place_of(path) for path in paths]
    for place in places:
        if place is None:
            found += parts_of_bytes(_typed(), "standard input")
        else:
            found += _of_folder(place) if place.is_dir() else _of_file(place)
    if len(places) > 1 or (places and places[0] is not None and places[0].is_dir()):
        _name_by_path(found)
    return found


def place_of(path: Path | str) -> Path | None:
    """Find the file or folder that a path names; None for standard input.

    Raises: InputError for a path that can't be looked up, and for a URI of another machine.
    """
    if str(path) == STDIN:
        return None
    place, shown_path = local_path(str(path)), shown(str(path), 200)
    if place is None:
        raise InputError(f"{shown_path} is no file here: a log is read from a file or a folder")
    check_readable(place, shown_path)
    return place


def parts_of_bytes(content: bytes, name: str, path: Path | None = None) -> list[Part]:
    """Read the runs in the content of a file. Raises: InputError where it holds no records."""
    where = str(path or name)
    if not content.strip():
        raise InputError(f"{where} is empty: there is no log in it")
    try:
        found = _binary(content, name, path)
        if found is None:
            found = _text(_decoded(content, where), name)
    except RecursionError:
        raise InputError(f"{where} can't be read: it is nested too deeply") from None
    except (IndexError, ValueError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise InputError(f"{where} can't be read: {_first(error)}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, sqlite3.Error) as error:
        raise InputError(f"{where} can't be read: {_first(error)}") from error
    found = [part for part in found if part.rows]
    if not found:
        raise InputError(f"{where} holds no log: no table, no JSON, no line with a name and number")
    for part in found:
        part.path = path
    return found


def _first(error: BaseException) -> str:
    return " ".join((str(error).splitlines() or [type(error).__name__])[0].split())[:300]


def _binary(content: bytes, name: str, path: Path | None) -> list[Part] | None:
    """What magic bytes tell; None where the content is text."""
    if content.startswith(b"SQLite format 3\x00"):
        return databases.parts_of_sqlite(content, name)
    if content.startswith(b"PAR1"):
        return tables.of_frame(tables.frame_of_parquet(content), "Parquet", name)
    if content.startswith(b":W&B"):
        return [databases.part_of_wandb(content, name)]
    if b"brain.Event:" in content[:64] or (path and "tfevents" in path.name):
        return [event_files.part_of_events(content, name)]
    return None


def _decoded(content: bytes, where: str) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "")):
        if content.startswith(mark):
            return content.decode(encoding or "utf-8-sig", errors="replace")
    if b"\x00" in content[:4000]:
        raise InputError(f"{where} holds no log: it is neither text nor a format that is known")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _text(text: str, name: str) -> list[Part]:
    """JSON, a table, or printed lines."""
    start = text.lstrip()[:1]
    if start in ("{", "["):
        found = documents.parts_of_json(text, name)
        if found is not None:
            return _notebook(text, name) or found
        if (told := documents.literal(text.strip())) is not None:
            return documents.of_document(told, name)
    metric = _metric_file(text, name)
    if metric:
        return [metric]
    table = tables.parts_of_text(text, name)
    if table and any(names.meaning(one) for part in table for one in part.names()):
        return table
    printed = texts.part_of_text(text, name)
    return [printed] if printed else table


def _notebook(text: str, name: str) -> list[Part]:
    """The outputs of a Jupyter notebook's cells: tables, and what they printed."""
    if '"cells"' not in text:
        return []
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        return []
    found: list[Part] = []
    for cell in content["cells"]:
        printed, pages = "", ""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" in data:
                pages += "".join(data["text/html"])
            printed += "".join(output.get("text", data.get("text/plain", "")))
        parts = tables.parts_of_html(pages, name) if "<table" in pages else []
        if not parts and printed.strip():
            with contextlib.suppress(InputError):
                parts = parts_of_bytes(printed.encode(), name)
        found += [part for part in parts if any(map(names.meaning, part.names()))]
    if not found:
        raise ValueError("the outputs of this notebook hold no log")
    return found


def _metric_file(text: str, name: str) -> Part | None:
    """A metric of MLflow: `time value step` a line, and the name is the file's."""
    lines = text.splitlines()
    rows = [line.split() for line in lines[:3]]
    if not all(len(row) >= 3 and number(row[1]) is not None for row in rows):
        return None
    if not all(re.fullmatch(r"\d{12,14}", row[0]) and row[2].isdigit() for row in rows):
        return None
    pairs = [line.split() for line in lines if line.strip()]
    return Part(
        "MLflow",
        name,
        [{"step": int(row[2]), "value": number(row[1])} for row in pairs if len(row) >= 3],
        is_piece=True,
    )


def _of_file(path: Path) -> list[Part]:
    if not path.is_file():
        raise InputError(f"no file at {path}")
    found = parts_of_bytes(_content(path), _stem(path), path)
    for part in found:
        part.settings |= _settings_beside(path.parent)
    return found


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error


def _stem(path: Path) -> str:
    return path.name if "tfevents" in path.name else path.stem


def _typed() -> bytes:
    """Standard input to its end; what comes through a pipe goes on to standard output as it comes,
    so that a training can still be watched."""
    if sys.stdin.isatty():
        print("paste the log, then Ctrl-D on a line of its own", file=sys.stderr)  # noqa: T201
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return sys.stdin.buffer.read()
    read = bytearray()
    while piece := os.read(sys.stdin.fileno(), 65_536):
        read += piece
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return bytes(read)


def _of_folder(folder: Path) -> list[Part]:
    """All files below a folder that hold records, put together by run."""
    found: list[Part] = []
    refused = ""
    for path in _files(folder):
        try:
            found += parts_of_bytes(_content(path), _stem(path), path)
        except RaysweepError as error:
            refused = refused or str(error)
    found = [part for part in found if any(names.meaning(n) or part.roles for n in _told(part))]
    if not found:
        why = f"; {refused}" if refused else ""
        raise InputError(f"{folder} is no store (it has no folder 'sweeps') and holds no logs{why}")
    return _by_run(found, folder)


def _told(part: Part) -> list[str]:
    """What may name the metrics of a part: one of MLflow's is named by its file."""
    return [*part.names(), part.name] if part.is_piece else part.names()


def _files(folder: Path) -> Iterable[Path]:
    """Regular files at any depth: reading a pipe would wait for ever."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        hidden = any(one.startswith(".") or one in _JUNK for one in inner)
        named = path.name in _SETTINGS or path.suffix.lower() in _SKIPPED
        if not hidden and not named and path.is_file() and path.stat().st_size:
            yield path


def _by_run(parts: list[Part], root: Path) -> list[Part]:
    """One part a run: pieces joined, and of several logs of one run the one with most rows."""
    groups: dict[Path, list[Part]] = {}
    for part in parts:
        groups.setdefault(_home(part, root), []).append(part)
    found: list[Part] = []
    for home, group in groups.items():
        pieces = [part for part in group if part.is_piece and part.tool != "TensorBoard's download"]
        kinds: dict[str, list[Part]] = {}
        for part in group:
            kinds.setdefault(part.tool, []).append(part)
        if pieces:
            kinds[pieces[0].tool] = [replace(joined(pieces), name=home.name)]
        if states := kinds.get(documents.STATE):  # every checkpoint has the log up to it
            kinds[documents.STATE] = [max(states, key=_evaluations)]
        best = max(kinds.values(), key=lambda some: max(map(_evaluations, some)))
        for part in best:
            part.settings = {**_settings_above(home, root), **part.settings}
            if len(best) == 1:
                part.path = home
        found += best
    return found


def _evaluations(part: Part) -> int:
    """How many rows hold what may be a validation metric, and how many hold anything."""
    said = [name for name in part.names() if part.roles.get(name) or _validates(name)]
    return sum(any(row.get(name) is not None for name in said) for row in part.rows)


def _validates(name: str) -> bool:
    found = names.meaning(name)
    return bool(found) and found.quantity != names.RATE and found.stage != names.TRAIN


def _home(part: Part, root: Path) -> Path:
    """The folder of the run that a file belongs to; what lies between becomes part of names."""
    assert part.path is not None
    home = part.path.parent
    inner: list[str] = []
    if part.tool.startswith(("a table", "CSV")) and "metrics" in home.relative_to(root).parts:
        part.is_piece = len(part.names()) <= _NAMES_OF_A_METRIC
    while home != root and (_is_inner(home, part) or (part.is_piece and _is_stage(home, part))):
        inner.insert(0, home.name)
        home = home.parent
    stage = next((names.stage_of(one) for one in inner if names.stage_of(one)), None)
    if part.tool == "MLflow" and part.names() == ["step", "value"]:
        told = "/".join([*[one for one in inner if one not in _INNER], part.path.name])
        part.rows = [{"step": row["step"], told: row["value"]} for row in part.rows]
    elif stage:
        part.stage = stage
    return home


def _is_inner(folder: Path, part: Part) -> bool:
    if part.tool == documents.STATE and re.fullmatch(r"checkpoint-\d+", folder.name):
        return True
    inside = folder.name in _INNER or (part.tool == "MLflow" and "metrics" in folder.parts)
    return inside and (part.is_piece or folder.name in ("vis_data", "files"))


def _is_stage(folder: Path, part: Part) -> bool:
    """Tell whether a folder is named for a stage, and no name in it speaks of another one."""
    stage = names.stage_of(folder.name)
    quantity = names.meaning(folder.name)
    if not stage or not (names.is_stage(folder.name) or quantity):
        return False
    return all(names.stage_of(name) in (None, stage) for name in part.names())


def joined(pieces: Sequence[Part]) -> Part:
    """Join files of one run that hold a metric or a stage each: rows of one step become one row.

    A step that falls starts anew, in every piece alike.
    """
    rows: dict[tuple[int, Any, int], dict[str, Any]] = {}
    for part in pieces:
        falls, last, again = 0, -1, 0
        clock = next((n for n in part.names() if names.is_step(n)), None) or "step"
        for row in part.rows:
            step = row.get(clock)
            step = step if isinstance(step, int | float) else last
            falls += step < last
            again = again + 1 if step == last else 0
            last = step
            staged = {
                f"{part.stage}/{name}" if part.stage and name != clock else name: value
                for name, value in row.items()
            }
            place = rows.setdefault((falls, step, 0), {"step": step})
            if again and staged.keys() & place.keys() - {clock}:
                place = rows.setdefault((falls, step, again), {"step": step})
            place.update(staged)
    settings = {k: v for part in pieces for k, v in part.settings.items()}
    first = pieces[0]
    return Part(first.tool, first.name, [rows[key] for key in sorted(rows)], settings)


def _settings_above(folder: Path, root: Path) -> dict[str, Any]:
    return _settings_beside(folder)


def _settings_beside(folder: Path) -> dict[str, Any]:
    """The plain values of files of settings in a run's folder, and of MLflow's params."""
    found: dict[str, Any] = {}
    readers: list[tuple[Sequence[str], Callable[[str, str], dict[str, Any]]]] = [
        (_SETTINGS, lambda text, _: scalars_only(flat(json.loads(text)))),
        (_SETTINGS_YAML, lambda text, source: dict(parse_scalars(text, source=source))),
    ]
    for files, read in readers:
        for path in (folder / name for name in files):
            if path.is_file():
                with contextlib.suppress(ValueError, AttributeError, RecursionError, OSError):
                    found |= read(path.read_text(encoding="utf-8"), str(path))
    for path in sorted((folder / "params").glob("*")) if (folder / "params").is_dir() else ():
        if path.is_file() and (folder / "meta.yaml").is_file():
            value = path.read_text(encoding="utf-8", errors="replace").strip()
            found[path.name] = value if number(value) is None else number(value)
    return found


def _name_by_path(parts: Sequence[Part]) -> None:
    """Names by which several files' runs are told apart: what differs of their paths."""
    several = {part.path for part in parts if part.path}
    if len(several) < 2:
        return
    shared = 0
    split = {path: path.with_suffix("").parts for path in several}
    while len({one[: shared + 1] for one in split.values()}) == 1:
        shared += 1
    own = Counter(part.name for part in parts)
    for part in parts:
        # A name that the content tells is better than a path.
        if part.path is None or (own[part.name] == 1 and part.name not in _stems(part.path)):
            continue
        told = "/".join(split[part.path][shared:]) or part.path.name
        # Files of one name in many folders, and one file a folder.
        if len({one[-1] for one in split.values()}) == 1 and "/" in told:
            told = told.rpartition("/")[0]
        inner = [one for one in parts if one.path == part.path]
        part.name = told if len(inner) == 1 else f"{told}: {part.name}"


def _stems(path: Path) -> tuple[str, str]:
    return path.stem, path.name
