"""Measures `analysis.fluctuation` on curves whose truth is known; prints Markdown tables.

OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 .venv/bin/python docs/measure/fluctuation.py
"""

import numpy as np
import polars as pl
from known import (
    PP,
    SEED,
    Population,
    Table,
    ar1,
    holds,
    of_accuracy,
    share,
    simulate,
    trials_of,
    write,
)  # fmt: skip

from analysis import contrasts, fluctuation
from analysis.contrasts import SECOND, THIRD, contrast_variance
from analysis.curves import curves
from analysis.stats import detectable_ratio, sd_ratio


def main() -> None:
    """All tables."""
    for number, table in enumerate((trend, jitter, blocks, ratio)):
        write(*table(np.random.default_rng([SEED, number])))


def trend(rng: np.random.Generator) -> Table:
    """What a rise alone adds to variance estimates."""
    rows = []
    for length in (20, 50, 100):
        for scale in (4, 8):
            rise = 0.9 - 0.5 * np.exp(-np.arange(length) / scale)
            values = rise + PP * rng.standard_normal((4000, length))
            usable = contrasts.segments(np.ones_like(values))
            cells: list[str] = []
            for labels in (np.zeros_like(usable), usable):
                for stencil in ((1.0, -1.0), SECOND, THIRD):
                    found = contrast_variance(values, labels, stencil)[0].mean() / PP**2
                    cells.append(f"{found:.2f}")
            rows.append((length, scale, *cells))
    head = ["T", "time constant", "all epochs: first", "second (GSJS)", "third",
            "after burn-in: first", "second (GSJS)", "third"]  # fmt: skip
    return "Table 1. Estimated variance over true variance, rise of 50 pp", head, rows


def jitter(rng: np.random.Generator) -> Table:
    """Interval of hf_sd, and what autocorrelation hides from it."""
    rows = []
    for length in (20, 50, 100):
        for phi in (-0.3, 0.0, 0.3, 0.6):
            values = 0.9 + PP * ar1(rng, (4000, length), phi).astype(float)
            found = fluctuation.summarise(fluctuation.components(of_accuracy(values)))
            target = PP * np.sqrt(1 - 4 / 3 * phi + phi**2 / 3)
            mean_square = np.sqrt(float(found["hf_var"].mean())) / PP  # pyright: ignore[reportArgumentType]
            plateau = np.sqrt(np.mean(found["plateau_sd"].to_numpy() ** 2)) / PP
            rows.append(
                (length, found["num_usable_epochs"][0], f"{found['hf_df'][0]:.1f}", f"{phi:g}",
                 f"{target / PP:.2f}", f"{mean_square:.2f}", share(found, holds("hf_sd", target)),
                 share(found, holds("hf_sd", PP)), f"{plateau:.2f}")
            )  # fmt: skip
    head = ["T", "usable", "df", "AR", "target, pp", "hf_sd, pp", "coverage of target",
            "coverage of total SD", "plateau_sd, pp"]  # fmt: skip
    return "Table 2. Jitter of total SD 1 pp without a trend", head, rows


def blocks(rng: np.random.Generator) -> Table:
    """Population variance and finite share from blocks."""
    rows = []
    for num_val in (200, 1000, 5000):
        for num_seeds in (1, 3):
            for process in (0.0, 0.05):
                population = Population(40, num_val, num_seeds, process)
                raw, truth = simulate(rng, population, 1000 if num_val < 5000 else 300)
                parts = pl.concat([fluctuation.components(group) for group in curves(raw)])
                grouped = fluctuation.pool(parts.join(trials_of(raw), on="trial_id"), "config_id")
                found = fluctuation.summarise(grouped)
                flat = truth.reshape(-1, population.num_epochs)
                own = contrast_variance(flat, contrasts.segments(np.ones_like(flat)))[0]
                target, v = float(own.mean()), float(grouped["finite_var"].mean())  # pyright: ignore[reportArgumentType]
                excess = (grouped["hf_var"] - grouped["finite_var"]).to_numpy()
                excess = (excess - own.reshape(len(excess), -1).mean(axis=1)) / PP**2
                error = excess.std(ddof=1) / np.sqrt(len(excess))
                shown = found.drop_nulls("pop_var")
                rows.append(
                    (f"{num_val:,}", num_seeds, "moves" if process else "still",
                     f"{found['pop_var'].null_count() / found.height:.2f}",
                     f"{target / PP**2:.3f}", f"{v / PP**2:.3f}",
                     f"{excess.mean():+.3f} ± {1.96 * error:.3f}",
                     share(shown, holds("pop_var", target)),
                     share(shown, holds("finite_share", v / (v + target))),
                     share(shown, pl.col("pop_var_low") > 0),
                     f"{float(shown['finite_share'].mean()):.2f}",  # pyright: ignore[reportArgumentType]
                     f"{v / (v + target):.2f}")
                )  # fmt: skip
    head = ["n", "seeds", "population", "null", "true s²_pop, pp²", "v, pp²", "bias of s²_pop, pp²",
            "coverage s²_pop", "coverage f", "s²_pop low > 0", "mean f", "true f"]  # fmt: skip
    return "Table 3. Finite-set part from 20 blocks, T = 40", head, rows


def ratio(rng: np.random.Generator) -> Table:
    """Ratio of two jitters; power at the detectable ratio."""
    rows = []
    for slices, truth in ((1, 2.0), (4, 2.0), (1, 1.0), (4, 1.0), (1, detectable_ratio(48))):
        df = 48 if slices == 1 and truth not in (1.0, 2.0) else 20
        scale = np.geomspace(1, 100, slices)
        covered = clear = 0
        for _ in range(2000):
            ours = truth**2 * scale * rng.chisquare(df, slices) / df
            theirs = scale * rng.chisquare(df, slices) / df
            _, low, high = sd_ratio(ours, np.full(slices, df), theirs, np.full(slices, df))
            covered += low < truth < high
            clear += low > 1 or high < 1
        rows.append((slices, df, f"{truth:.2f}", f"{covered / 2000:.3f}", f"{clear / 2000:.3f}"))
    head = ["slices", "df per arm", "true ratio", "coverage", "leaves out 1"]
    return "Table 8. Ratio of two jitters (normal noise)", head, rows


if __name__ == "__main__":
    main()
