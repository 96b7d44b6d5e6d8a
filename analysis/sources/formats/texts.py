"""What a program printed -> rows: names and numbers, under the epoch that was told last."""

import re
from collections.abc import Iterator
from typing import Any

from analysis.sources import names
from analysis.sources.formats import documents
from analysis.sources.formats.parts import PRINTED, Part, Row, flat, number

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_EPOCH = re.compile(
    r"\bep(?:och)?s?\b\s*(?:\(\s*(?P<stage>\w+)\s*\))?\s*(?:no\.?|num(?:ber)?)?\s*[:=#]?\s*[\[(]?\s*"
    r"(?P<epoch>\d+(?:\.\d+)?)",
    re.I,
)
_STEP = re.compile(
    r"\b(?:global[ _]?step|step|iter(?:ation)?s?)\b\s*[:=#]?\s*[\[(]?\s*(?P<step>\d+)", re.I
)
_NUMBER = r"(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b)"
_WORD = r"[A-Za-z@][\w@./%\-']*"
_PAIR = re.compile(
    rf"(?P<name>{_WORD}(?:[ ]{_WORD}){{0,8}})\s*(?:\((?P<unit>[\w %@.,/\-]*)\))?['\"]?"
    rf"(?P<sign>\s*[:=]\s*|\s+)(?P<value>{_NUMBER})"
    rf"(?P<rest>\s*/\s*\d+|\s*%|\s*\(\s*{_NUMBER}\s*\))?"
)
_BAR = re.compile(r"(?<![\d.])(?P<percent>\d{1,3})%\|")
_KERAS = re.compile(r"\d+/\d+ .*\[[=>.\s]*\]|\d+/\d+\s+\S*━|^\s*\d+m?s\b.* - |\d+m?s/step")
_TAIL = re.compile(r":?\s*\d{1,3}\s*%\s*\|.*")  # a progress bar behind a line
_EXAMPLES = re.compile(r"validat\w*\s+on\s+(\d+)\s+(?:samples|examples|images)", re.I)
# The pace of an epoch, `[3][ 40/100]`: a line of training, unless it says otherwise.
_PACE = re.compile(r"\]\s*\[\s*\d+\s*/\s*\d+")
_BATCH = re.compile(r"\[\s*\d+\s*/\s*\d+")
_IMAGES = re.compile(
    r"\bon (?:the |all )?(\d+) ((?:test|val\w*|eval\w*)?\s*(?:images|examples|samples))", re.I
)
_KEEP_WORDS = 3  # of a name of which nothing is known


def part_of_text(text: str, name: str) -> Part | None:
    """Read the rows of a printed log. Returns: None where no line of it has a name and a number."""
    rows: list[Row] = []
    epoch: float | int | None = None
    num_val: int | None = None
    keras = False
    header: list[str] = []
    bar: Row | None = None
    for line in _lines(text):
        if match := _EXAMPLES.search(line):
            num_val = int(match[1])
        if (found := documents.literal(line)) is not None:
            rows.append(dict(flat(found)))
            continue
        if match := _EPOCH.search(line):
            epoch = number(match["epoch"])
        if told := _under(header, line):
            epoch = told.pop("epoch", epoch)
            row: Row = told
        else:
            row, size = _row(line)
            num_val = size or num_val
        header = _header(line)
        if not any(names.meaning(one) for one in row):
            continue
        keras = keras or bool(_KERAS.search(line))
        if epoch is not None:
            row = {"epoch": epoch} | row
        if _BATCH.search(line) and _goes_on(rows, row):
            rows.pop()  # of the batches of one evaluation, the last has the mean of all
        elif _BAR.search(line):
            if bar and rows and rows[-1] is bar and _repeats(bar, row):
                rows.pop()  # a bar that was drawn again, when its validation was done
            bar = row
        rows.append(row)
    if not rows:
        return None
    # Keras prints validation metrics with `val_` before them, and training metrics plainly.
    stage = names.TRAIN if keras else None
    return Part(PRINTED, name, rows, num_val=num_val, stage=stage)


def _goes_on(rows: list[Row], row: Row) -> bool:
    """Tell whether a row is the same evaluation as the last one, some batches later."""
    if not rows or rows[-1].keys() != row.keys() or rows[-1].get("epoch") != row.get("epoch"):
        return False
    stages = {names.stage_of(name) for name in row if names.meaning(name)}
    return bool(stages & {names.VALIDATION, names.TEST})


def _repeats(bar: Row, row: Row) -> bool:
    """Tell whether a progress bar shows the same epoch as before, and all that it did."""
    return bar.get("epoch") == row.get("epoch") and bar.keys() <= row.keys()


def _header(line: str) -> list[str]:
    """The names in a line of names, as tools print them above numbers; else nothing."""
    words = _TAIL.sub("", line).split()
    named = [word for word in words if number(word) is None and re.match(r"[A-Za-z]", word)]
    known = any(names.meaning(word) for word in words)
    return words if len(words) > 1 and len(named) == len(words) and known else []


def _under(header: list[str], line: str) -> Row:
    """The numbers under the names of the line before."""
    words = _TAIL.sub("", line).split()
    if not header or len(words) != len(header):
        return {}
    row: Row = {}
    for name, word in zip(header, words, strict=True):
        count = re.fullmatch(r"(\d+)/\d+", word)
        value = number(count[1]) if count else number(word)
        if value is not None:
            row["epoch" if names.is_epoch(name) else name] = value
    return row


def _lines(text: str) -> Iterator[str]:
    """Lines as a terminal leaves them: of what a progress bar wrote over itself, the last of each
    epoch."""
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    text = re.sub(r"\x08+", "\r", text)
    for line in text.split("\n"):
        last: dict[str, str] = {}
        for piece in line.split("\r"):
            bar = _BAR.search(piece)
            if not piece.strip() or (bar and int(bar["percent"]) < 100):
                continue
            match = _EPOCH.search(piece)
            last[match["epoch"] if match else ""] = piece
        yield from last.values()


def _row(line: str) -> tuple[Row, int | None]:
    """The names and numbers of a line, and how many examples it counts.

    What has no stage of its own has that of the words before it: `Test set: loss 0.1, acc 0.9`.
    """
    row: Row = {}
    num_val: int | None = None
    epoch = _EPOCH.search(line)
    stage = names.stage_of(epoch["stage"]) if epoch and epoch["stage"] else None
    if stage is None and epoch and _PACE.search(line):
        stage = names.TRAIN
    if images := _IMAGES.search(line):
        num_val = int(images[1])
        line = line.replace(images[0], f"on {images[2]}")
    if step := _STEP.search(line):
        row["step"] = int(step["step"])
    place = 0
    for pair in _PAIR.finditer(line):
        before, name = line[place : pair.start()], pair["name"].strip(" .-'\"")
        place = pair.end()
        stage = names.stage_of(before) or stage
        if names.is_epoch(name) or names.is_step(name) or name.lower().startswith("epoch "):
            continue
        said = names.meaning(name)
        own = names.stage_of(name)
        known = said or names.is_size(name) or names.trial_rank(name) is not None
        if not known and (":" not in pair["sign"] or len(name.split()) > _KEEP_WORDS):
            stage = own or stage
            continue
        value: Any = number(pair["value"])
        rest = (pair["rest"] or "").strip()
        if rest.startswith("/") and said and said.quantity == names.ACCURACY:
            size = int(rest.strip("/ ")) or 1
            value, num_val = value / size, size
        elif rest.startswith("("):
            value = number(rest.strip("()"))  # the mean so far, behind the batch's own
        elif rest == "%" or "%" in (pair["unit"] or ""):
            name += " (%)"
        if said and not own and stage:
            name = f"{stage} {name}"
        stage = own or stage
        if value is not None and name not in row:
            row[name] = value
    return row, num_val if row and stage != names.TRAIN else None
