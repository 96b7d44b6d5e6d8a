"""Tables of docs/method/within-run.md: the fall within a run, its truth known.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.within_run
"""

from dataclasses import replace

import numpy as np

from analysis.calibration.measured.tables import PP, Table, cells, write_all
from analysis.calibration.simulate import Scenario, simulate
from analysis.measures.within_run import measure_within_run
from analysis.stats.windows import window_length, window_means

SEED = 20261101
NUM_RUNS = 2000
STILL = Scenario(jitter=0.0)
# What a cell changes in a still network's run of 60 epochs with 1,000 validation examples.
CELLS: dict[str, dict[str, float]] = {
    "still": {},
    "still, flips with memory 0.9": {"memory": 0.9},
    "still, 60 % right": {"accuracy": 0.6, "churn": 1.0},
    "still, 98 % right": {"accuracy": 0.98},
    "still, 5 blocks": {"num_blocks": 5},
    "still rising": {"slope": 0.0003},
    "jitter of 0.4 pp": {"jitter": 0.004},
    "jitter of 0.8 pp, AR 0.8": {"jitter": 0.008, "correlation": 0.8},
    "wave of 0.5 pp": {"wander": 0.005},
    "falls by 1.2 pp": {"fall": 0.012},
    "falls by 1.2 pp, jitter of 0.4 pp": {"fall": 0.012, "jitter": 0.004},
    "falls by 3 pp, jitter of 0.4 pp": {"fall": 0.03, "jitter": 0.004},
}
SIZES = ((200, 25), (200, 60), (1000, 25), (1000, 60), (5000, 60))


def accuracy(rng: np.random.Generator) -> Table:
    """How often the limits of the accuracy's fall miss, and how often a fall is told."""
    rows: list[str] = []
    for name, changed in CELLS.items():
        too_high, too_low, told = [], [], []
        for n, T in SIZES:
            scenario = replace(STILL, num_val=n, num_epochs=T, **changed)
            made = simulate(scenario, NUM_RUNS if n < 5000 else NUM_RUNS // 4, rng, losses=False)
            means = window_means(made.accuracy, window_length(T))
            truth = means.max(axis=1) - means[:, -1]
            found = measure_within_run(made.curves)
            low, high, p = (
                found[f"within_drop{end}"].to_numpy() for end in ("_low", "_high", "_p")
            )
            too_high.append(np.mean(low > truth + 1e-9))
            too_low.append(np.mean(high < truth - 1e-9))
            told.append(
                f"{truth.mean() / PP:.2f}: {np.mean(p <= 0.05):.2f} (≤ {np.median(high) / PP:.2f})"
            )
        worst = (max(too_high), max(too_low))
        rows.append(f"{name} | {cells('.3f', worst)} | {' | '.join(told)}")
    sizes = " | ".join(f"n = {n:,}, T = {T}" for n, T in SIZES)
    head = f"population | lower limit too high, at most | upper too low, at most | {sizes}"
    return "True fall in pp: share with p ≤ 0.05 (median upper limit)", head, rows


def losses(rng: np.random.Generator) -> Table:
    """How often the lower limits of the losses' rises are too high."""
    rows: list[str] = []
    for name, changed in (
        ("still", {}),
        ("still, 98 % right", {"accuracy": 0.98}),
        ("grows over-confident", {"over_confidence": 0.5}),
    ):
        for n, T in ((200, 25), (1000, 25), (1000, 60)):
            scenario = replace(STILL, num_val=n, num_epochs=T, **changed)
            made = simulate(scenario, NUM_RUNS // 2, rng)
            found = measure_within_run(made.curves)
            for kind, truth in (("loss", made.loss_rise), ("refined_loss", made.refined_rise)):
                part = found.select(f"^within_{kind}_rise.*$").drop_nulls()
                if part.height < NUM_RUNS // 20:
                    continue
                low, high, p = (
                    part[f"within_{kind}_rise{end}"].to_numpy() for end in ("_low", "_high", "_p")
                )
                rows.append(
                    f"{name} | {kind.replace('_', ' ')} | {n:,} | {T} | {100 * truth:.1f} | "
                    f"{np.mean(p <= 0.05):.3f} | {np.mean(low > truth + 1e-9):.3f} | "
                    f"{np.mean(high < truth - 1e-9):.3f}"
                )
    head = (
        "population | loss | n | T | true rise, % | p ≤ 0.05 | lower limit too high | upper limit "
        "too low"
    )
    return "Rise of the losses within a run", head, rows


if __name__ == "__main__":
    write_all({0: accuracy, 1: losses}, SEED)
