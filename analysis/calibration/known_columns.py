"""What can be learnt from the columns that one has: the share of labels that say something, on
simulated configurations with plausible effects."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from analysis.calibration.judged import judged
from analysis.calibration.simulate import Scenario, Simulated, simulate
from analysis.curves import Curves
from analysis.labels import Noise, Overfit

SEED = 20260403
NOTHING = (Overfit.UNDETERMINED,)
HARM = (Overfit.YES, Overfit.ENDS_WORSE)
SPARED = (
    *(Overfit.NO, Overfit.NO_ACCURACY, Overfit.LOSS_ALONE, Overfit.OVER_CONFIDENT),
    Overfit.LITTLE,
)
OPTIMIZER = (Noise.OPTIMIZER, Noise.BOTH)
_FALL = 0.01  # of the population's accuracy: what power is told of
# Seeds, epochs and validation examples of the table.
SHAPES = (
    *((1, 30, 500), (1, 60, 1000), (1, 60, 5000), (1, 100, 5000)),
    *((3, 60, 1000), (5, 60, 1000)),
)
# What is known besides the columns before: the fields of Curves.
COLUMNS = {
    "accuracy": ("val_n", "train_accuracy", "train_n"),
    "+ loss": ("val_loss",),
    "+ flips": ("to_wrong", "to_right"),
    "+ blocks": ("block_accuracy", "block_loss", "block_weight"),
    "+ refined loss": ("refined_loss", "block_refined"),
}


class Truth(NamedTuple):
    """What a simulated configuration was made of."""

    lost: float  # of the population's accuracy
    loss: float  # rise, a share of the smallest
    refined: float


def plausible(rng: np.random.Generator) -> Scenario:
    """Draw what trials may be made of: jitter of 0.05 to 1.5 pp, AR of 0 to 0.9; half of them fall
    by 0.3 to 5 pp, half grow over-confident."""
    fall = rng.uniform(0.003, 0.05) if rng.random() < 0.5 else 0.0
    confident = rng.uniform(0.2, 1.5) if rng.random() < 0.5 else 0.0
    correlation = rng.uniform(0, 0.9)
    high = np.exp(rng.uniform(np.log(0.0005), np.log(0.015)))
    return Scenario(
        accuracy=rng.uniform(0.7, 0.95),
        churn=rng.uniform(0.1, 0.5),
        memory=rng.uniform(0.0, 0.9),
        shared=rng.uniform(0.0, 0.5),
        jitter=high / np.sqrt(1 - 4 / 3 * correlation + correlation**2 / 3),
        correlation=correlation,
        fall=fall,
        over_confidence=confident,
    )


def known(curves: Curves, fields: set[str]) -> Curves:
    """The curves as if only their accuracy and these fields had been recorded."""
    given = {name: getattr(curves, name) for name in (*fields, "lr")}
    return Curves.of_accuracy(curves.val_accuracy, trial_ids=curves.trial_ids, **given)


def made(
    shape: tuple[int, int, int], num: int, key: int = 0
) -> Iterator[tuple[Simulated, Scenario]]:
    """Simulate so many configurations of a shape: seeds, epochs, examples. Each is of its own
    kind."""
    seeds, epochs, examples = shape
    rng = np.random.default_rng([SEED, key, *shape])
    for _ in range(num):
        scenario = replace(
            plausible(rng), num_seeds=seeds, num_epochs=epochs, num_val=examples, num_train_eval=500
        )
        yield simulate(scenario, 1, rng), scenario


def labels(shape: tuple[int, int, int], num: int) -> dict[str, pl.DataFrame]:
    """Labels by the columns that are known, a row per configuration, beside their truth."""
    some = list(made(shape, num))
    truth = pl.DataFrame(
        [Truth(one.fall, one.loss_rise, one.refined_rise)._asdict() for one, _ in some]
    )
    whole = joined([one.curves for one, _ in some])
    fields: set[str] = set()
    found: dict[str, pl.DataFrame] = {}
    for name, more in COLUMNS.items():
        fields |= set(more)
        found[name] = truth.hstack(judged(known(whole, fields), shape[0]))
    return found


def joined(parts: list[Curves]) -> Curves:
    """Curves of one shape below each other, with ids of their own."""
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Curves.__dataclass_fields__
        if name != "trial_ids"
    }
    ids = [f"{number:06d}" for number in range(len(fields["val_accuracy"]))]
    return Curves(trial_ids=ids, **fields)


def known_columns(scale: float) -> Iterator[dict[str, Any]]:
    """The table: a row per shape and columns that are known."""
    for shape in SHAPES:
        found = labels(shape, max(int(300 * scale), 10))
        for name, rows in found.items():
            yield {
                "seeds": shape[0],
                "epochs": shape[1],
                "n": shape[2],
                "columns": name,
                "num": rows.height,
                "overfit": 1 - share(rows, pl.col("overfit").is_in(NOTHING)),
                "power": share(rows.filter(pl.col("lost") >= _FALL), pl.col("overfit").is_in(HARM)),
                "spared": share(rows.filter(pl.col("lost") <= 0), pl.col("overfit").is_in(SPARED)),
                "false": share(rows.filter(pl.col("lost") <= 0), pl.col("overfit").is_in(HARM)),
                "noise": 1 - share(rows, pl.col("noise") == Noise.UNDETERMINED),
            }


def share(rows: pl.DataFrame, holds: pl.Expr) -> float:
    """Share of the rows where something holds; NaN of none."""
    return rows.select(holds.mean()).item() if rows.height else float("nan")
