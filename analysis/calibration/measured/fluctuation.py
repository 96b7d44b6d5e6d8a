"""Measures the fluctuation part of `analysis` on curves whose truth is known; prints Markdown
tables.

    python -m analysis.calibration.measured.fluctuation

The curves are those of `analysis.calibration.simulate`, or normal noise around a trend.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from analysis.calibration.measured.known import PP, SEED, Floats, Table, ar1, holds, share, write
from analysis.calibration.simulate import Scenario, Simulated, simulate
from analysis.curves import Curves
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.stats.intervals import detectable_ratio, sd_ratio, variance_factors
from analysis.stats.trend import SECOND, THIRD, Labels, contrast_variance, segments


def main() -> None:
    """All tables."""
    tables = {0: trend, 1: jitter, 2: plateau, 4: blocks, 5: flips, 6: movement, 8: ratio}
    for number, table in tables.items():  # a table's number is part of its seed
        write(*table(np.random.default_rng([SEED, number])))


def published(curves: Curves, num_seeds: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Components of all trials, and the published columns of each `num_seeds` of them pooled."""
    parts = jitter_components(curves)
    parts = parts.with_columns((pl.int_range(pl.len()) // num_seeds).alias("group"))
    return parts, measure_jitter(pool_jitter(parts, "group"))


def mean(values: pl.Series) -> float:
    """Of what is not null."""
    return float(values.drop_nulls().to_numpy().mean())


def own_variance(made: Simulated) -> float:
    """Of the population, by the contrasts that the curves are judged with."""
    return float(contrast_variance(made.accuracy, segments(np.ones_like(made.accuracy)))[0].mean())


def trend(rng: np.random.Generator) -> Table:
    """What a rise alone adds to variance estimates."""
    rows = []
    for length in (20, 50, 100):
        for scale in (4, 8):
            rise = 0.9 - 0.5 * np.exp(-np.arange(length) / scale)
            values = rise + PP * rng.standard_normal((4000, length))
            usable = segments(np.ones_like(values))
            cells: list[str] = []
            for labels in (np.zeros_like(usable), usable):
                for stencil in ((1.0, -1.0), SECOND, THIRD):
                    found = contrast_variance(values, labels, stencil)[0].mean() / PP**2
                    cells.append(f"{found:.2f}")
            rows.append((length, scale, *cells))
    head = (
        "T | time constant | all epochs: first | second (GSJS) | third | after burn-in: first | "
        "second (GSJS) | third"
    )
    return "Table 1. Estimated variance over true variance, rise of 50 pp", head, rows


def jitter(rng: np.random.Generator) -> Table:
    """Interval of hf_sd, and what autocorrelation hides from it."""
    rows = []
    for length in (20, 50, 100):
        for phi in (-0.3, 0.0, 0.3, 0.6, 0.9):
            values = 0.9 + PP * ar1(rng, (4000, length), phi).astype(float)
            labels = np.zeros(values.shape, np.int64)
            whole = share(_hf_limits(values, labels), holds("hf", _hf_share(phi)))
            found = measure_jitter(jitter_components(Curves.of_accuracy(values)))
            target = PP * np.sqrt(_hf_share(phi))
            mean_square = np.sqrt(mean(found["hf_var"])) / PP
            rows.append(
                (
                    length,
                    f"{phi:g}",
                    f"{target / PP:.2f}",
                    whole,
                    found["num_usable_epochs"][0],
                    f"{found['hf_df'][0]:.1f}",
                    f"{mean_square:.2f}",
                    share(found, holds("hf_sd", target)),
                    share(found, holds("hf_sd", PP)),
                )
            )
    head = (
        "T | AR | target, pp | coverage, all epochs | usable | df | hf_sd, pp | coverage | of the "
        "total SD"
    )
    return "Table 2. Jitter of total SD 1 pp without a trend", head, rows


def _hf_share(phi: float) -> float:
    """What the contrasts see of AR(1) noise of variance 1."""
    return 1 - 4 / 3 * phi + phi**2 / 3


def _hf_limits(values: Floats, labels: Labels) -> pl.DataFrame:
    variance, df = contrast_variance(values / PP, labels)
    low, high = variance_factors(df)
    return pl.DataFrame({"hf_low": variance * low, "hf_high": variance * high})


def plateau(rng: np.random.Generator) -> Table:
    """Limits of plateau_sd for a total SD of 1 pp."""

    def noise(phi: float, part: float = 1.0) -> Callable[[int, int], Floats]:
        return lambda num, length: (
            np.sqrt(part) * ar1(rng, (num, length), phi)
            + np.sqrt(1 - part) * rng.standard_normal((num, length))
        )

    def wave(num: int, length: int) -> Floats:
        phase = rng.uniform(0, 2 * np.pi, (num, 1))
        slow = np.sqrt(2) * np.sin(2 * np.pi * np.arange(length) / 12 + phase)
        return np.sqrt(0.8) * slow + np.sqrt(0.2) * rng.standard_normal((num, length))

    kinds = {
        "AR 0": noise(0),
        "AR 0.3": noise(0.3),
        "AR 0.6": noise(0.6),
        "AR 0.8": noise(0.8),
        "AR 0.9": noise(0.9),
        "half AR 0.9": noise(0.9, 0.5),
        "wave of period 12": wave,
        "AR 0.95": noise(0.95),
    }
    rows = []
    for length in (15, 20, 30, 60, 120):
        for name, draw in kinds.items():
            cells: list[str] = []
            for num_seeds in (1, 5):
                values = 0.9 + PP * draw(2000 * num_seeds, length).astype(float)
                parts, found = published(Curves.of_accuracy(values), num_seeds)
                if num_seeds == 1:
                    cells += [
                        f"{np.sqrt(mean(parts['plateau_var'])) / PP:.2f}",
                        share(found, pl.col("plateau_sd_low") <= PP),
                    ]
                high = found["plateau_sd_high"].fill_null(np.inf).to_numpy() / PP
                middle = float(np.median(high))
                cells += [f"{np.mean(high >= 1):.3f}", f"{middle:.2f}" if middle < 100 else "> 100"]
            rows.append((length, name, *cells))
    head = (
        "T | movement | plateau_sd, pp | low ≤ truth | high ≥ truth | median high, pp | 5 seeds: "
        "high ≥ truth | median high, pp"
    )
    return "Table 3. Jitter and wander of total SD 1 pp", head, rows


def blocks(rng: np.random.Generator) -> Table:
    """Population variance and finite share from blocks."""
    rows = []
    for num_val, repeats in ((200, 3000), (1000, 2000), (5000, 1000)):
        for num_seeds in (1, 3):
            for moves, memory in ((0.0, 0.5), (0.004, 0.5), (0.01, 0.5), (0.01, 0.9)):
                scenario = Scenario(
                    num_epochs=48,
                    num_val=num_val,
                    num_seeds=num_seeds,
                    jitter=moves,
                    memory=memory,
                    learning_epochs=1,
                )
                made = simulate(scenario, repeats // num_seeds, rng, losses=False)
                parts, found = published(made.curves, num_seeds)
                own, v = own_variance(made), mean(parts["finite_var"])
                excess = (parts["hf_var"] - parts["finite_var"]).to_numpy() - own
                shown = found.drop_nulls("pop_var").with_columns(
                    (pl.col(f"hf_sd_{end}") ** 2 - pl.col("fin_sd") ** 2).alias(f"plain_{end}")
                    for end in ("low", "high")
                )
                rows.append(
                    (
                        f"{num_val:,}",
                        num_seeds,
                        f"{100 * moves:g}",
                        f"{memory:g}",
                        f"{found['pop_var'].null_count() / found.height:.2f}",
                        f"{own / PP**2:.3f}",
                        f"{v / PP**2:.3f}",
                        f"{excess.mean() / PP**2:+.3f} ± "
                        f"{1.96 * excess.std() / PP**2 / np.sqrt(len(excess)):.3f}",
                        f"{mean(shown['pop_var']) / PP**2:.3f}",
                        share(shown, holds("pop_var", own)),
                        share(shown, holds("plain", own)),
                        share(shown, holds("finite_share", v / (v + own))),
                        share(shown, holds("fin_sd", np.sqrt(v))),
                        f"{mean(shown['finite_share']):.2f} ± "
                        f"{float(shown['finite_share'].to_numpy().std()):.2f}",
                        f"{v / (v + own):.2f}",
                    )
                )
    head = (
        "n | seeds | population moves, pp | memory | null | true s²_pop, pp² | v, pp² | bias of "
        "s²_pop, pp² | mean pop_var shown | coverage s²_pop | by limits of "
        "s² alone | f | fin_sd | mean f ± SD | true f"
    )
    return "Table 4. Finite-set part from 20 blocks, T = 48", head, rows


def flips(rng: np.random.Generator) -> Table:
    """The finite-set part's bounds from flips alone, beside what the blocks say on average."""
    rows = []
    for num_val, repeats in ((200, 2000), (1000, 1000), (5000, 300)):
        for moves in (0.0, 0.01):
            scenario = Scenario(num_epochs=48, num_val=num_val, jitter=moves, learning_epochs=1)
            parts, found = published(simulate(scenario, repeats, rng, losses=False).curves)
            least, most = (mean(found[f"fin_sd_{end}"]) / PP for end in ("least", "most"))
            by_blocks = f"{np.sqrt(mean(parts['finite_var'])) / PP:.3f}"
            rows.append(
                (f"{num_val:,}", f"{100 * moves:g}", by_blocks, f"{least:.3f} to {most:.3f}")
            )
    head = "n | population moves, pp | fin_sd by blocks, pp | bounds from flips, pp"
    return "Table 5. Finite-set part from flips, T = 48, one seed", head, rows


def movement(rng: np.random.Generator) -> Table:
    """Size and power of "population accuracy does not move"."""
    rows = []
    for num_val, repeats in ((200, 2000), (1000, 2000), (5000, 600)):
        for memory in (0.0, 0.5, 0.9):
            still = Scenario(
                num_epochs=48, num_val=num_val, jitter=0.0, memory=memory, learning_epochs=0
            )
            made = simulate(still, repeats, rng, losses=False)
            parts, found = published(made.curves)
            cells = [_rejected(found)]
            seeds = simulate(replace(still, num_seeds=3), repeats // 2, rng, losses=False)
            cells.append(_rejected(published(seeds.curves, 3)[1]))
            whole = made.curves.val_accuracy[:, 8:].var(axis=1, ddof=1).mean()
            for finite in (mean(parts["finite_var"]), whole):
                moving = replace(still, jitter=float(np.sqrt(finite * 0.4 / 0.6)))
                made = simulate(moving, repeats // 2, rng, losses=False)
                cells.append(_rejected(published(made.curves)[1]))
            seeds = simulate(replace(moving, num_seeds=3), repeats // 4, rng, losses=False)
            cells.append(_rejected(published(seeds.curves, 3)[1]))
            rows.append((f"{num_val:,}", f"{memory:g}", *cells))
    head = (
        "n | memory | size: one seed | 3 seeds | power at 0.4 of the jitter | at 0.4 "
        "of all movement | 3 seeds"
    )
    return "Table 6. Test that population accuracy does not move, 40 usable epochs", head, rows


def _rejected(found: pl.DataFrame) -> str:
    """How often p < 0.05; too few flips to tell in most curves: null."""
    p = found["p_no_population_movement"].drop_nulls().to_numpy()
    return f"{np.mean(p < 0.05):.3f}" if len(p) > found.height / 2 else "null"


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
    head = "slices | df per arm | true ratio | coverage | leaves out 1"
    return "Table 7. Ratio of two jitters (normal noise)", head, rows


if __name__ == "__main__":
    main()
