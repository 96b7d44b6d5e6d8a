"""A name in a log -> what its words say: the stage, the quantity, how special it is."""

import re
from functools import cache
from importlib import resources
from typing import NamedTuple

TRAIN, VALIDATION, TEST = "train", "val", "test"
ACCURACY, LOSS, ERROR, RATE, SCORE = "accuracy", "loss", "error", "learning rate", "score"


def _table() -> dict[str, tuple[str, ...]]:
    """words.tsv: the words of each kind."""
    text = resources.files("analysis.sources").joinpath("words.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines()[1:]]
    return {kind: tuple(words.split()) for kind, words in lines}


_WORDS = {kind: frozenset(words) for kind, words in _table().items()}
_TRIALS = _table()["trial"]  # the likeliest first
_STAGES = {word: stage for stage in (TRAIN, VALIDATION, TEST) for word in _WORDS[stage]}
_QUANTITIES = {
    **dict.fromkeys(_WORDS["higher"] | _WORDS["lower"], SCORE),
    **{word: kind for kind in (ACCURACY, LOSS, ERROR) for word in _WORDS[kind]},
    "lr": RATE,
}
_TOP = ("top5", "top3", "acc5")
# Words that people write without a sign between them.
_TOGETHER = re.compile(
    r"^(tr|trn|train|training|val|valid|validation|eval|test|v|t)"
    r"(acc|accuracy|loss|top1|acc1|err|error|f1|auc|map|miou|iou|dice)$"
)
_LETTER = {"v": "val", "t": "train"}
_ODD_CASE = (("mAP", "_map"), ("mIoU", "_miou"), ("IoU", "_iou"), ("rougeL", "rougel"))
# Several words that make one.
_PHRASES = {
    ("learning", "rate"): "lr",
    ("cross", "entropy"): "crossentropy",
    ("log", "loss"): "logloss",
    ("error", "rate"): "errorrate",
    ("top", "1"): "top1",
    ("top", "5"): "top5",
    ("top", "3"): "top3",
    ("acc", "1"): "acc1",
    ("acc", "5"): "acc5",
    ("accuracy", "1"): "accuracy1",
    ("prec", "1"): "prec1",
    ("prec", "5"): "acc5",
    ("precision", "1"): "prec1",
    ("f", "1"): "f1",
    ("r", "2"): "r2",
    ("exact", "match"): "em",
    ("mean", "squared", "error"): "mse",
    ("mean", "absolute", "error"): "mae",
    ("mean", "absolute", "percentage", "error"): "mape",
    ("root", "mean", "squared", "error"): "rmse",
    ("word", "error"): "wer",
    ("word", "errorrate"): "wer",
    ("character", "errorrate"): "cer",
    ("equal", "errorrate"): "eer",
    ("success", "rate"): "success",
    ("roc", "auc"): "rocauc",
    ("auc", "roc"): "rocauc",
    ("map50", "95"): "map5095",
    ("map", "50", "95"): "map5095",
    ("map", "50"): "map50",
    ("mean", "iou"): "miou",
    ("average", "precision"): "ap",
    ("mean", "average", "precision"): "map",
}


class Meaning(NamedTuple):
    """What the words of a metric's name say."""

    quantity: str  # ACCURACY, LOSS, ERROR, RATE or SCORE
    stage: str | None
    word: str  # of a score: which one
    extras: int  # words beyond stage and quantity: fewer are plainer
    stepwise: bool  # of single batches
    percent: bool  # the name says so


def plain(name: str) -> str:
    """Write a name in lower case, with every other sign as one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@cache
def words_of(name: str) -> tuple[str, ...]:
    """Split a name into words in lower case: `valAcc`, `Val/Acc@1` and `val_acc1` hold the same."""
    for odd, even in _ODD_CASE:
        name = name.replace(odd, even)
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    found: list[str] = []
    for word in plain(apart).split("_"):
        match = _TOGETHER.match(word)
        if match and word not in _STAGES:
            found += [_LETTER.get(match[1], match[1]), match[2]]
        elif word:
            found.append(word)
    found = _joined(found)
    if len(found) > 1 and found[0] in _LETTER and found[1] in _QUANTITIES:
        found[0] = _LETTER[found[0]]
    return tuple(found)


def _joined(words: list[str]) -> list[str]:
    """With phrases of several words as one."""
    for length in (4, 3, 2):
        place = 0
        while place + length <= len(words):
            one = _PHRASES.get(tuple(words[place : place + length]))
            if one:
                words[place : place + length] = [one]
            place += 1
    return words


def stage_of(name: str) -> str | None:
    """Find the stage that a name says: train, val or test. Returns: None where it says none."""
    found = [_STAGES[word] for word in words_of(name) if word in _STAGES]
    kinds = set(found)
    if VALIDATION in kinds:  # `train/val_acc`, `test_eval_acc`: what was evaluated
        return VALIDATION
    return found[-1] if found else None


def is_stage(name: str) -> bool:
    """Tell whether a name holds a stage and nothing else: a folder `train`, a mode `val`."""
    words = words_of(name)
    return bool(words) and all(word in _STAGES for word in words)


@cache
def meaning(name: str) -> Meaning | None:
    """Read a metric's name. Returns: None where it is no metric that is known."""
    words = words_of(name)
    if _WORDS["never"] & set(words):
        return None
    kinds = [(word, _QUANTITIES.get(word)) for word in words]
    quantities = [(word, kind) for word, kind in kinds if kind]
    if not quantities:
        return None
    # `metrics/mAP50-95(B)`, `mse_loss`, `f1_score`: what is special names the quantity.
    order = (RATE, LOSS, ERROR, ACCURACY, SCORE)
    word, quantity = min(quantities, key=lambda one: order.index(str(one[1])))
    scores = [w for w, kind in quantities if kind == SCORE]
    if quantity in (ERROR, ACCURACY) and any(w in _TOP for w in scores):
        word, quantity = next(w for w in scores if w in _TOP), SCORE
    if quantity == SCORE:
        word = next((w for w in scores if w != "score"), "score")
    used = {word, "score"} | (_WORDS[ACCURACY] if quantity == ACCURACY else set())
    aside = used | _WORDS["filler"] | _WORDS["step"] | set(_STAGES)
    rest = [other for other in words if other not in aside]
    stepwise = "step" in words or "batch" in words or "iteration" in words or "iter" in words
    percent = "%" in name or "percent" in words or "pct" in words
    return Meaning(str(quantity), stage_of(name), word, len(rest), stepwise, percent)


def words(kind: str) -> frozenset[str]:
    """Look up the words of a kind, as words.tsv has them."""
    return _WORDS[kind]


def lower_is_better(word: str) -> bool:
    """Tell whether a score is better where it is lower, by the word that names it."""
    return word in _WORDS["lower"]


def is_epoch(name: str) -> bool:
    """Tell whether a column counts epochs."""
    words = set(words_of(name))
    return bool(words & _WORDS["epoch"]) and words <= _WORDS["epoch"] | _WORDS["clock"]


def is_step(name: str) -> bool:
    """Tell whether a column counts steps, iterations or rounds."""
    words = set(words_of(name))
    return bool(words & _WORDS["step"]) and words <= _WORDS["step"] | _WORDS["clock"]


def trial_rank(name: str) -> int | None:
    """Rank a column that may name the run of a row, 0 first. Returns: None where it does not."""
    return _TRIALS.index(plain(name)) if plain(name) in _TRIALS else None


def is_seed(name: str) -> bool:
    """Tell whether a setting is a seed."""
    return plain(name) in _WORDS["seed"] or plain(name.rpartition("/")[2]) in _WORDS["seed"]


def is_mode(name: str) -> bool:
    """Tell whether a column may tell the stage of its row."""
    return plain(name) in _WORDS["mode"]


def is_size(name: str) -> bool:
    """Tell whether a column tells how many validation examples there are."""
    return plain(name) in _WORDS["size"]


def is_machine(name: str) -> bool:
    """Tell whether a name describes the machine, a moment or a place, which is never a setting."""
    return bool(_WORDS["machine"] & set(words_of(name))) or is_epoch(name) or is_step(name)
