"""How often the harm test and the verdicts are wrong, on simulated trials whose truth is known.

Each function is a part of docs/error-rates.md: a table of rows, every row a dict. `scale` 1 is
what the page promises, smaller ones are quicker. Nothing here uses the random numbers that the
cut-offs were made with.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from analysis.calibration.judged import measured
from analysis.calibration.simulate import Scenario, ar1, finite_variance, simulate
from analysis.curves import Curves
from analysis.measures.cutoffs import shipped
from analysis.measures.harm import LEVEL, fall_of_curve, fall_of_seeds
from analysis.stats.trend import segments
from analysis.verdicts.margins import Margins
from analysis.verdicts.rules import verdict

SEED = 20260402
LENGTHS = (15, 20, 30, 60, 120)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
AT_ONCE = 500  # configurations that are simulated at a time
MARGINS = Margins()
_OVERFITS = pl.col("overfit").is_in(["yes", "ends worse"])
_OPTIMIZER = pl.col("noise").is_in(["optimizer", "both"])


def rate(hits: int, num: int) -> dict[str, Any]:
    """A rate and its 95 % confidence interval; None of none.

    Source: Clopper, Pearson 1934, Biometrika 26 (not read by us).
    """
    if not num:
        return {"rate": None, "low": None, "high": None, "num": 0}
    interval = stats.binomtest(hits, num).proportion_ci(0.95, "exact")
    return {"rate": hits / num, "low": interval.low, "high": interval.high, "num": num}


def verdicts(
    scenario: Scenario, num_configs: int, key: Sequence[int], *, losses: bool = True
) -> pl.DataFrame:
    """Verdicts of so many configurations, each judged by itself. `key` seeds the simulation."""
    rng = np.random.default_rng([SEED, *key])
    parts = []
    for first in range(0, num_configs, AT_ONCE):
        made = simulate(scenario, min(AT_ONCE, num_configs - first), rng, losses=losses)
        found = measured(made.curves, scenario.num_seeds)
        found = found.with_columns(pl.lit(0.1).alias("majority_rate"))
        parts.append(verdict(found, adjust=False))
    return pl.concat(parts)


def _claim_rate(frame: pl.DataFrame, condition: pl.Expr) -> dict[str, Any]:
    """How often a claim is made, of all rows."""
    return rate(int(frame.select(condition.fill_null(value=False).sum()).item()), frame.height)


def at_margin(correlation: float) -> float:
    """SD of AR(1) jitter whose high-frequency part, hf_var, is the margin's square."""
    return MARGINS.noise / np.sqrt(1 - 4 / 3 * correlation + correlation**2 / 3)


def _churn_at(variance: float, memory: float) -> float:
    """The churn that makes the set's part so large at n = 1,000."""
    churns = np.linspace(0.01, 3, 3000)
    parts = [finite_variance(0.9, churn, memory) / 1000 for churn in churns]
    return float(np.interp(variance, parts, churns))


# --- parts of the page


def flat_curves(scale: float) -> Iterator[dict[str, Any]]:
    """Harm of one seed on flat curves with AR(1) noise; on mixed noise as well."""
    kinds = [(rho, 0.0) for rho in CORRELATIONS] + [(0.9, 0.2), (0.9, 0.5), (0.8, 0.8)]
    for num_epochs in (*LENGTHS, 25, 50, 100):
        used = segments(np.ones((1, num_epochs)))
        for rho, white in kinds:
            rng = np.random.default_rng([SEED, 1, num_epochs, int(100 * rho + 10 * white)])
            shape = (int(10_000 * scale), num_epochs)
            values = np.sqrt(1 - white) * ar1(rng, shape, rho).astype(float)
            values += np.sqrt(white) * rng.standard_normal(shape)
            found = fall_of_curve(values, np.broadcast_to(used, shape), shipped())
            hits = int((found.p <= LEVEL).sum())
            yield {"epochs": num_epochs, "AR": rho, "white": white, **rate(hits, shape[0])}


def one_seed(scale: float) -> Iterator[dict[str, Any]]:
    """Claims of overfitting without a fall, and of the optimizer with its part at the margin."""
    for num_val in (200, 1000, 5000):
        for num_epochs in LENGTHS:
            for rho in CORRELATIONS:
                scenario = Scenario(
                    num_epochs=num_epochs,
                    num_val=num_val,
                    jitter=at_margin(rho),
                    correlation=rho,
                    num_train_eval=1,
                )
                key = (2, num_val, num_epochs, int(100 * rho))
                found = verdicts(scenario, int(2000 * scale), key, losses=num_val <= 1000)
                cell = {"n": num_val, "epochs": num_epochs, "AR": rho}
                yield {"claim": "yes", **cell, **_claim_rate(found, _OVERFITS)}
                yield {
                    "claim": "optimizer",
                    **cell,
                    **_claim_rate(found, _OPTIMIZER),
                }


def five_seeds(scale: float) -> Iterator[dict[str, Any]]:
    """The same of five seeds that share a validation set and half of each example's movement."""
    for num_val in (200, 1000):
        for num_epochs in LENGTHS:
            for rho in CORRELATIONS:
                scenario = Scenario(
                    num_epochs=num_epochs,
                    num_val=num_val,
                    num_seeds=5,
                    jitter=at_margin(rho),
                    correlation=rho,
                    num_train_eval=1,
                    shared=0.5,
                    memory=max(rho, 0.5),
                )
                key = (3, num_val, num_epochs, int(100 * rho))
                found = verdicts(scenario, int(2000 * scale), key, losses=num_val <= 200)
                cell = {"n": num_val, "epochs": num_epochs, "AR": rho}
                yield {"claim": "yes", **cell, **_claim_rate(found, _OVERFITS)}
                harmed = pl.col("harm_p") <= LEVEL
                yield {"claim": "harm_p", **cell, **_claim_rate(found, harmed)}
                yield {
                    "claim": "optimizer",
                    **cell,
                    **_claim_rate(found, _OPTIMIZER),
                }


def seeds_alone(scale: float) -> Iterator[dict[str, Any]]:
    """Harm of several seeds whose population moves much more than their validation set does.

    The jitter is 1 pp and the blocks add 0.22 pp an epoch, all normal.
    """
    num_configs = int(4000 * scale)
    for num_seeds in (3, 4, 5, 10):
        for num_epochs in (15, 30, 60, 120):
            for rho in (0.0, 0.6, 0.9):
                rng = np.random.default_rng([SEED, 7, num_seeds, num_epochs, int(100 * rho)])
                hits = 0
                for first in range(0, num_configs, AT_ONCE):
                    num = min(AT_ONCE, num_configs - first)
                    curves = _moving(rng, num * num_seeds, num_epochs, rho)
                    ends = np.full((num, num_seeds), num_epochs)
                    found = fall_of_seeds(curves, ends, shipped())[0]
                    hits += int((found["harm_p"] <= LEVEL).sum())
                cell = f"{num_seeds} | {num_epochs}"
                yield {"cell": cell, "AR": rho, **rate(hits, num_configs)}


def _moving(rng: np.random.Generator, num: int, num_epochs: int, correlation: float) -> Curves:
    accuracy = 0.8 + 0.01 * ar1(rng, (num, num_epochs), correlation).astype(float)
    blocks = 0.01 * rng.standard_normal((num, num_epochs, 20), dtype=np.float32)
    blocks = blocks + accuracy[:, :, None]
    weight = np.full((num, 20), 1 / 20)
    return Curves.of_accuracy(blocks.mean(axis=2), block_accuracy=blocks, block_weight=weight)


def validation_part(scale: float) -> Iterator[dict[str, Any]]:
    """Claims of the validation set with its part at the margin, n = 1,000."""
    for num_epochs in LENGTHS:
        for memory in (0.0, 0.5, 0.9):
            churn = _churn_at(MARGINS.noise**2, memory)
            scenario = Scenario(
                num_epochs=num_epochs,
                churn=churn,
                memory=memory,
                jitter=0.002,
                num_train_eval=1,
                learning_epochs=0,  # the set's part is larger while the accuracy is lower
            )
            key = (4, num_epochs, int(100 * memory))
            found = verdicts(scenario, int(2000 * scale), key, losses=False)
            label = pl.col("noise").is_in(["validation set", "both"])
            found = _claim_rate(found, label)
            yield {"epochs": num_epochs, "memory": memory, **found}


class Known(NamedTuple):
    """A class of trials: the label that is right, and what the trials are made of.

    enough: the fewest of SEEDS with which it is given in 0.9 or more; found by trying. None: with
    none of them.
    """

    label: str
    truth: str
    made_of: str
    scenario: Scenario
    enough: int | None


SEEDS = (1, 3, 5, 8)
# The set's part is 0.84 pp at n = 1,000.
_LOUD = Scenario(accuracy=0.85, churn=0.7, memory=0.1, jitter=0.0)
_QUIET = Scenario(jitter=0.001, churn=0.1)
CLASSES = (
    Known(
        "noise",
        "optimizer",
        "population 0.8 pp (twice the margin), set 0.28 pp",
        Scenario(jitter=0.008, churn=0.1),
        1,
    ),
    Known("noise", "validation set", "set 0.84 pp (twice), population 0", _LOUD, 1),
    Known("noise", "both", "population and set 0.84 pp (twice)", replace(_LOUD, jitter=0.0084), 5),
    Known(
        "noise",
        "both",
        "population 1.2 pp (three times), set 0.84 pp",
        replace(_LOUD, jitter=0.012),
        1,
    ),
    Known(
        "noise",
        "slow wander",
        "wave of SD 0.8 pp (twice), period 15; set 0.2 pp",
        Scenario(jitter=0.0, wander=0.008, accuracy=0.95, churn=0.1),
        1,
    ),
    Known(
        "noise",
        "no",
        "population 0.05 pp, set 0.16 pp",
        Scenario(accuracy=0.97, churn=0.1, jitter=0.0005),
        3,
    ),
    Known("overfit", "yes", "1.1 pp lost (twice the margin)", Scenario(fall=0.012), 5),
    Known("overfit", "yes", "1.8 pp lost (four times)", Scenario(fall=0.02), 3),
    Known("overfit", "yes", "2.8 pp lost (six times)", Scenario(fall=0.03), 1),
    Known(
        "overfit",
        "over-confident",
        "sharpness doubles, nothing lost; jitter 0.1 pp",
        replace(_QUIET, over_confidence=1.0),
        5,
    ),
    Known("overfit", "no", "nothing lost; jitter 0.1 pp, set 0.25 pp", _QUIET, 5),
    Known("overfit", "no", "nothing lost; jitter 0.4 pp, set 0.43 pp", Scenario(), None),
    Known(
        "status",
        "still learning",
        "as many epochs again would add 4 pp (twice the margin)",
        Scenario(slope=0.04 / 60),
        3,
    ),
    Known("status", "still learning", "6 pp (three times)", Scenario(slope=0.001), 3),
    Known("status", "still learning", "9 pp (more than four times)", Scenario(slope=0.0015), 1),
    Known("status", "ok", "nothing rises", Scenario(), 1),
)


def confusion(scale: float) -> Iterator[dict[str, Any]]:
    """Verdicts on 2,000 trials of each known class, T = 60, n = 1,000, by number of seeds: a row
    per label given."""
    for number, (label, truth, made_of, scenario, _) in enumerate(CLASSES):
        for num_seeds in SEEDS:
            known = replace(scenario, num_seeds=num_seeds)
            key, losses = (5, number, num_seeds), label != "noise"
            found = verdicts(known, int(2000 / num_seeds * scale), key, losses=losses)
            cell = {"label": label, "truth": truth, "made_of": made_of, "seeds": num_seeds}
            for given, num in sorted(found[label].value_counts().iter_rows()):
                yield cell | {"given": given, **rate(int(num), found.height)}


def power(scale: float) -> Iterator[dict[str, Any]]:
    """Power of harm_p <= 0.05 against a linear fall that begins at 30 % of training."""
    falls = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06)
    for num_epochs in (15, 30, 60, 120):
        for num_seeds in (1, 3, 5):
            for fall in falls:
                scenario = Scenario(
                    num_epochs=num_epochs, fall=fall, num_seeds=num_seeds, num_train_eval=1
                )
                key = (6, num_epochs, num_seeds, int(1000 * fall))
                found = verdicts(scenario, int(400 * scale), key, losses=False)
                true = simulate(scenario, 1, np.random.default_rng(0), losses=False).fall
                below = pl.col("drop_high") < true
                yield {
                    "epochs": num_epochs,
                    "seeds": num_seeds,
                    "fall": fall,
                    "true": true,
                    "missed_high": found.select(below.mean()).item(),
                    **_claim_rate(found, pl.col("harm_p") <= LEVEL),
                }


PARTS: dict[str, Callable[[float], Iterator[dict[str, Any]]]] = {
    "flat_curves": flat_curves,
    "one_seed": one_seed,
    "five_seeds": five_seeds,
    "seeds_alone": seeds_alone,
    "validation_part": validation_part,
    "confusion": confusion,
    "power": power,
}
