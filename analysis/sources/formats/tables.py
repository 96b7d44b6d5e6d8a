"""Delimited text, Markdown and HTML tables -> rows, whatever the delimiter and the decimal sign."""

import csv
import html
import io
import re
from collections.abc import Callable, Sequence

import polars as pl

from analysis.sources.formats import wide
from analysis.sources.formats.parts import Part, Row, cell

_DECIMAL_COMMA = re.compile(r"^\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*%?\s*$")
_RULE = re.compile(r"\s*\|(\s*:?-+:?\s*\|)+\s*")  # under a Markdown table's header
# A name and a number, and no name alone: a name may hold a number, with words or a bracket behind.
_PAIR = re.compile(r"[:=]\s*[-\d][^\s,;)\]]*\s*$|\w\s+[-+]?\d+\.\d+\s*$|:$")
_HAS_LETTER = re.compile(r"[^\W\d_]")
_MOST_STARTS = 40  # lines above a table
_TOOLS = {"\t": "a table with tabs", ",": "CSV", ";": "CSV with semicolons"}
_DOWNLOAD = re.compile(r"(?:run-)?(?P<run>.+?)-tag-(?P<tag>.+)")


def parts_of_text(text: str, name: str) -> list[Part]:
    """Find the table in a text, below whatever stands above it. Returns: none, or one or
    more runs."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if any(_RULE.fullmatch(line) for line in lines):
        return _part("a Markdown table", name, _markdown(lines))
    best: list[list[str]] = []
    sign = ","
    for delimiter in (",", "\t", ";", "|", " "):
        found = _delimited(lines, delimiter)
        if sum(map(len, found)) > sum(map(len, best)):
            best, sign = found, delimiter
    if len(best) < 2 or len(best) < 0.5 * len(lines):
        return _without_header(lines, name)
    return _part(_TOOLS.get(sign, "a table"), name, best)


def _without_header(lines: Sequence[str], name: str) -> list[Part]:
    """Rows of numbers alone, whose columns have numbers for names."""
    for delimiter in (",", "\t", ";", " "):
        rows = _fields(lines, delimiter)
        if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
            continue
        if all(isinstance(cell(one), int | float) for row in rows for one in row):
            header = [f"column {place}" for place in range(1, len(rows[0]) + 1)]
            return _part(_TOOLS.get(delimiter, "a table"), name, [header, *rows])
    return []


def parts_of_html(text: str, name: str) -> list[Part]:
    """Read every table of a page, as a notebook shows them."""
    found: list[Part] = []
    for table in re.findall(r"<table.*?</table>", text, re.S | re.I):
        rows = [
            [
                html.unescape(re.sub(r"<[^>]+>", "", one)).strip()
                for one in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S | re.I)
            ]
            for row in re.findall(r"<tr.*?</tr>", table, re.S | re.I)
        ]
        found += _part("a table", name, [row for row in rows if row])
    return found


def of_frame(frame: pl.DataFrame, tool: str, name: str) -> list[Part]:
    """Take the rows of a Polars frame."""
    return _shaped(tool, name, frame.rename(str.strip, strict=False).to_dicts())


def _delimited(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The header and the rows under the first line that looks like a header, or nothing."""
    best: list[list[str]] = []
    for start, line in enumerate(lines[:_MOST_STARTS]):
        header = _fields([line], delimiter)[0]
        if len(header) < (3 if delimiter == " " else 2) or not _is_header(header, delimiter):
            continue
        rest = _fields(lines[start + 1 :], delimiter)
        # A frame that pandas printed has no name above its index.
        index = sum(len(row) == len(header) + 1 for row in rest)
        if delimiter in " ," and rest and index > 0.8 * len(rest):
            header = ["", *header]
        rows = [row for row in rest if len(row) == len(header)]
        if len(rows) * 2 >= len(rest) and len(rows) >= len(best):
            best = [header, *rows]
            if len(rows) == len(rest):
                break
    return best


def _fields(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        return [line.split() for line in lines]
    try:
        return list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return [line.split(delimiter) for line in lines]


def _is_header(cells: Sequence[str], delimiter: str) -> bool:
    """Names, and no pairs of name and number."""
    named = [one for one in cells if _HAS_LETTER.search(one) and cell(one) is not None]
    numbers = sum(isinstance(cell(one), int | float) for one in cells)
    pairs = any(_PAIR.search(one) for one in cells)
    texts = delimiter == " " and any(one in ("-", "|") for one in cells)
    return bool(named) and numbers == 0 and not pairs and not texts


def _markdown(lines: Sequence[str]) -> list[list[str]]:
    """The rows of all tables that have the first one's header."""
    tables = [
        [one.strip().strip("*`") for one in line.strip().strip("|").split("|")]
        for line in lines
        if line.lstrip().startswith("|") and not _RULE.fullmatch(line)
    ]
    return [row for row in tables if len(row) == len(tables[0])] if tables else []


def _part(tool: str, name: str, rows: list[list[str]]) -> list[Part]:
    """Rows of cells under a header, which may stand there again."""
    if len(rows) < 2:
        return []
    header = [one.strip().strip('"') for one in rows[0]]
    body = [row for row in rows[1:] if [one.strip().strip('"') for one in row] != header]
    header = _distinct(header)
    if any(_DECIMAL_COMMA.match(one) for row in body[:50] for one in row):
        body = [
            [one.replace(",", ".") if _DECIMAL_COMMA.match(one) else one for one in row]
            for row in body
        ]
    percent = {
        header[place]
        for row in body[:50]
        for place, one in enumerate(row[: len(header)])
        if one.strip().endswith("%") and isinstance(cell(one), int | float)
    }
    header = [f"{one} (%)" if one in percent else one for one in header]
    return _shaped(tool, name, [dict(zip(header, map(cell, row), strict=False)) for row in body])


def _distinct(header: list[str]) -> list[str]:
    """With a number behind a name that stands there twice."""
    seen: dict[str, int] = {}
    for place, name in enumerate(header):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            header[place] = f"{name} ({seen[name]})"
    return header


def _shaped(tool: str, name: str, rows: list[Row]) -> list[Part]:
    """Rows as they are, or as one of the shapes that tools download."""
    names = list(rows[0]) if rows else []
    for shape in (_download, wide.runs_of):
        if found := shape(names, rows, name):
            return found
    return [Part(tool, name, rows)] if rows else []


def _download(names: list[str], rows: list[Row], name: str) -> list[Part]:
    """TensorBoard's download of one tag: Wall time, Step, Value."""
    if [one.lower() for one in names] != ["wall time", "step", "value"]:
        return []
    return [download([(row[names[1]], row[names[2]]) for row in rows], name)]


def download(pairs: Sequence[tuple[object, object]], name: str) -> Part:
    """Make a part of one tag of one run, both named by the file: `run-NAME-tag-TAG`."""
    match = _DOWNLOAD.fullmatch(name)
    run, tag = (match["run"], match["tag"]) if match else (name, name)
    rows: list[Row] = [{"step": step, tag: value} for step, value in pairs]
    return Part("TensorBoard's download", run, rows, is_piece=True)


def frame_of_parquet(content: bytes) -> pl.DataFrame:
    """Read the table in the bytes of a Parquet file."""
    read: Callable[..., pl.DataFrame] = pl.read_parquet
    return read(io.BytesIO(content))
