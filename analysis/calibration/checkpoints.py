"""Which rule for the checkpoint to keep loses least, on curves whose true accuracies are known.

python -m analysis.calibration.checkpoints              # 400 curves a cell; prints the section
python -m analysis.calibration.checkpoints --scale 0.1
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from analysis.answer.checkpoints import kept, levels
from analysis.calibration.error_rates import rate
from analysis.calibration.simulate import Scenario, ar1, observe, population_losses
from analysis.curves import Floats

SEED = 20260404
SHAPES = ("learns to the end", "plateau", "falls by 2 pp", "over-confident", "decayed rate")
SIZES = (500, 1000, 5000)
JITTERS = (0.001, 0.004, 0.012)
LENGTHS = (30, 100)
_NUM = 400  # curves a cell
_WINDOW = 20
SINGLE, MIDDLE, LEVEL, LOSS, LAST, OURS = (
    "best single evaluation",
    "middle of the best window",
    "best level (a line through a window)",
    "lowest smoothed loss",
    "last evaluation",
    "halfway between level and value (what is told)",
)
RULES = (SINGLE, MIDDLE, LEVEL, LOSS, LAST, OURS, f"{OURS}, n known")
_TIED = ("tied", "tied, n not known")
Rows = list[dict[str, Any]]


def truth(shape: str, num: int, length: int, jitter: float, key: list[int]) -> tuple[Floats, ...]:
    """Simulate the accuracies that the weights of each epoch truly have, and a learning rate.

    A decayed rate lowers the network's own movement with it and lifts the accuracy at its end.

    Returns: accuracies (num, T), rates (T,), over-confidence (T,): how much too sharp the network
        is.
    """
    rng = np.random.default_rng(key)
    scenario = Scenario(
        num_epochs=length,
        slope=0.03 / length if shape == SHAPES[0] else 0.0,
        fall=0.02 if shape == SHAPES[2] else 0.0,
        learning_epochs=length / 15,
    )
    rates, loud = np.ones(length), np.ones(length)
    trend = scenario.trend()
    if shape == SHAPES[4]:
        rates = 0.5 * (1 + np.cos(np.pi * np.arange(length) / length)) + 1e-3
        loud = np.sqrt(rates)
        trend = trend - 0.03 * rates
    rising = shape in SHAPES[2:4]
    sharp = (2.0 if rising else 0.0) * scenario.past_peak()
    movement = jitter * loud * ar1(rng, (num, length), 0.3)
    return trend + movement, rates, sharp


def measure_checkpoints(scale: float, lengths: tuple[int, ...] = LENGTHS) -> Iterator[dict]:
    """A row for each cell and rule: its mean regret; and one for the evaluations that are tied.

    Args: scale: 1 is what the page promises; lengths: evaluations.
    """
    num = max(20, int(_NUM * scale))
    cells = product(SHAPES, lengths, SIZES, JITTERS)
    for number, (shape, length, n, jitter) in enumerate(cells):
        cell = {"shape": shape, "evaluations": length, "n": n, "jitter": jitter}
        accuracy, rates, sharp = truth(shape, num, length, jitter, [SEED, number])
        shown, loss = _shown(accuracy, sharp, n, [SEED, number, 1])
        logged = np.tile(rates, (num, 1))
        p = shown.mean(axis=1)
        found = kept(shown, logged, p * (1 - p) / n)
        without_n = kept(shown, logged)
        chosen = {
            SINGLE: found.best,
            MIDDLE: _middle(shown),
            LEVEL: found.level.argmax(axis=1),
            LOSS: (-levels(loss, logged)[0]).argmax(axis=1),
            LAST: np.full(num, length - 1),
            OURS: without_n.keep,
            f"{OURS}, n known": found.keep,
        }
        best = accuracy.max(axis=1)
        rows = np.arange(num)
        for rule, at in chosen.items():
            regret = best - accuracy[rows, at]
            yield cell | {
                "rule": rule,
                "regret": float(regret.mean()),
                "error": float(regret.std() / np.sqrt(num)),
            }
        for rule, one in zip(_TIED, (found, without_n), strict=True):
            missed = ~one.tied[rows, accuracy.argmax(axis=1)]
            share = float(one.tied.mean())
            yield cell | {"rule": rule, "share": share} | rate(int(missed.sum()), num)
        # What the best single value says above what its weights are worth, on fresh examples.
        own = shown[rows, found.best] - accuracy[rows, found.best]
        # What is of the set itself, the same in every late epoch, is no luck of one evaluation.
        fixed = (shown - accuracy)[:, length // 2 :].mean(axis=1)
        yield cell | {
            "rule": "flatters",
            "true": float((own - fixed).mean()),
            "told": float(found.flatters.mean()),
        }


def _shown(accuracy: Floats, sharp: Floats, n: int, key: list[int]) -> tuple[Floats, Floats]:
    """What a validation set of n shows of them: accuracy, and the loss of a network as sharp."""
    rng = np.random.default_rng(key)
    scenario = Scenario(num_epochs=accuracy.shape[1], num_val=n)
    parts = []
    for first in range(0, len(accuracy), 50):
        some = accuracy[first : first + 50, None, :]
        parts.append(observe(scenario, some, n, 20, None, rng)["accuracy"][:, 0])
    shown = np.concatenate(parts)
    # The loss moves with the accuracy that is shown, and rises where the network is too sharp.
    right = np.clip(shown, 0.02, 0.98)
    losses = [population_losses(row, scenario.churn, _sharpness(row, sharp))[1] for row in right]
    return shown, np.array(losses)


def _sharpness(accuracy: Floats, sharp: Floats) -> Floats:
    from scipy import special

    churn = Scenario().churn
    best = np.maximum(2 * special.ndtri(accuracy) / np.sqrt(1 + churn**2), 0.05)
    return best * (1 + sharp)


def _middle(shown: Floats) -> np.ndarray:
    width = max(3, shown.shape[1] // _WINDOW)
    means = np.lib.stride_tricks.sliding_window_view(shown, width, axis=1).mean(axis=-1)
    return means.argmax(axis=1) + width // 2


def section(rows: Rows) -> str:
    """The section of docs/error-rates.md, in Markdown. Args: rows: of measure_checkpoints()."""
    lines = [
        "| rule | " + " | ".join(SHAPES) + " | worst cell |",
        "|---|" + "---|" * (len(SHAPES) + 1),
    ]
    for rule in RULES:
        own = [row for row in rows if row["rule"] == rule]
        means = [
            100 * float(np.mean([row["regret"] for row in own if row["shape"] == shape]))
            for shape in SHAPES
        ]
        worst = 100 * max(row["regret"] for row in own)
        lines.append(f"| {rule} | " + " | ".join(f"{m:.2f}" for m in means) + f" | {worst:.2f} |")
    flatters = [row for row in rows if row["rule"] == "flatters"]
    below = min(row["told"] - row["true"] for row in flatters)
    known = ("Where n is known", "Where n is not known")
    return "\n".join(
        [
            "## Which checkpoint to keep",
            "",
            "Accuracy, in pp, by which the weights that a rule keeps are truly worse than the best "
            f"ones of their run: means over {len(LENGTHS)} lengths, {len(SIZES)} sizes of the "
            f"validation set and {len(JITTERS)} sizes of the network's own movement.",
            "",
            *lines,
            "",
            *[f"{_missed(rows, rule, words)}" for rule, words in zip(_TIED, known, strict=True)],
            "",
            "By how much the best single value flatters is told as a bound: in the mean of each "
            f"cell the truth is {100 * below:.2f} pp below it or more.",
        ]
    )


def _missed(rows: Rows, rule: str, words: str) -> str:
    tied = [row for row in rows if row["rule"] == rule]
    worst = max(tied, key=lambda row: row["rate"])
    share = float(np.mean([row["share"] for row in tied]))
    return (
        f"- {words}, the truly best evaluation is missing among those that can't be told from the "
        f"best one in {100 * worst['rate']:.1f} % ({100 * worst['low']:.1f} to "
        f"{100 * worst['high']:.1f}) of the curves of the worst of {len(tied)} cells; they are "
        f"{100 * share:.0f} % of a run's evaluations in the mean."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m analysis.calibration.checkpoints")
    parser.add_argument("--scale", type=float, default=1.0, help="1: 400 curves a cell")
    sys.stdout.write(section(list(measure_checkpoints(parser.parse_args().scale))) + "\n")
