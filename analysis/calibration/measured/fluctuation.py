"""Tables 1 to 7 of docs/method/fluctuation.md: jitter, wander and their parts, the truth known.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.fluctuation
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from analysis.calibration.measured.tables import (
    PP,
    SEED,
    Table,
    cells,
    holds,
    mean,
    share,
    write_all,
)
from analysis.calibration.simulate import Scenario, Simulated, ar1, simulate
from analysis.curves import Curves, Floats
from analysis.measures.jitter import jitter_components, measure_jitter, pool_jitter
from analysis.stats.intervals import detectable_ratio, sd_ratio, variance_factors
from analysis.stats.trend import SECOND, THIRD, contrast_variance, segments

SHORT = Scenario(num_epochs=48, learning_epochs=1)


def published(curves: Curves, num_seeds: int = 1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Components of all trials, and the published columns of each `num_seeds` of them pooled."""
    parts = jitter_components(curves)
    parts = parts.with_columns((pl.int_range(pl.len()) // num_seeds).alias("group"))
    return parts, measure_jitter(pool_jitter(parts, "group"))


def own_variance(made: Simulated) -> float:
    """Of the population, by the contrasts that the curves are judged with."""
    return float(contrast_variance(made.accuracy, segments(np.ones_like(made.accuracy)))[0].mean())


def trend(rng: np.random.Generator) -> Table:
    """What a rise alone adds to variance estimates."""
    rows = []
    for length, scale in itertools.product((20, 50, 100), (4, 8)):
        rise = 0.9 - 0.5 * np.exp(-np.arange(length) / scale)
        values = rise + PP * rng.standard_normal((4000, length))
        usable = segments(np.ones_like(values))
        found = [
            contrast_variance(values, labels, stencil)[0].mean() / PP**2
            for labels in (np.zeros_like(usable), usable)
            for stencil in ((1.0, -1.0), SECOND, THIRD)
        ]
        rows.append(f"{length} | {scale} | {cells('.2f', found)}")
    head = (
        "T | time constant | all epochs: first | second (GSJS) | third | after burn-in: first | "
        "second (GSJS) | third"
    )
    return "Table 1. Estimated variance over true variance, rise of 50 pp", head, rows


def jitter(rng: np.random.Generator) -> Table:
    """Interval of hf_sd, and what autocorrelation hides from it."""
    rows = []
    for length, phi in itertools.product((20, 50, 100), (-0.3, 0.0, 0.3, 0.6, 0.9)):
        seen = 1 - 4 / 3 * phi + phi**2 / 3  # by the contrasts, of AR(1) noise of variance 1
        values = 0.9 + PP * ar1(rng, (4000, length), phi).astype(float)
        variance, df = contrast_variance(values / PP, np.zeros(values.shape, np.int64))
        low, high = variance_factors(df)
        whole = pl.DataFrame({"hf_low": variance * low, "hf_high": variance * high})
        found = measure_jitter(jitter_components(Curves.of_accuracy(values)))
        rows.append(
            f"{length} | {phi:g} | {np.sqrt(seen):.2f} | {share(whole, holds('hf', seen))} | "
            f"{found['num_usable_epochs'][0]} | {found['hf_df'][0]:.1f} | "
            f"{np.sqrt(mean(found['hf_var'])) / PP:.2f} | "
            f"{share(found, holds('hf_sd', PP * np.sqrt(seen)))} | "
            f"{share(found, holds('hf_sd', PP))}"
        )
    head = (
        "T | AR | target, pp | coverage, all epochs | usable | df | hf_sd, pp | coverage | of the "
        "total SD"
    )
    return "Table 2. Jitter of total SD 1 pp without a trend", head, rows


def plateau(rng: np.random.Generator) -> Table:
    """Interval of plateau_sd for a total SD of 1 pp."""

    def noise(phi: float, part: float = 1.0) -> Callable[[int, int], Floats]:
        return lambda num, length: (
            np.sqrt(part) * ar1(rng, (num, length), phi)
            + np.sqrt(1 - part) * rng.standard_normal((num, length))
        )

    def wave(num: int, length: int) -> Floats:
        phase = rng.uniform(0, 2 * np.pi, (num, 1))
        slow = np.sqrt(2) * np.sin(2 * np.pi * np.arange(length) / 12 + phase)
        return np.sqrt(0.8) * slow + np.sqrt(0.2) * rng.standard_normal((num, length))

    kinds = {f"AR {phi:g}": noise(phi) for phi in (0, 0.3, 0.6, 0.8, 0.9)}
    kinds |= {"half AR 0.9": noise(0.9, 0.5), "wave of period 12": wave, "AR 0.95": noise(0.95)}
    rows = []
    for length, (name, draw) in itertools.product((15, 20, 30, 60, 120), kinds.items()):
        row = f"{length} | {name}"
        for num_seeds in (1, 5):
            values = 0.9 + PP * draw(2000 * num_seeds, length).astype(float)
            parts, found = published(Curves.of_accuracy(values), num_seeds)
            if num_seeds == 1:
                low = share(found, pl.col("plateau_sd_low") <= PP)
                row += f" | {np.sqrt(mean(parts['plateau_var'])) / PP:.2f} | {low}"
            high = found["plateau_sd_high"].fill_null(np.inf).to_numpy() / PP
            middle = float(np.median(high))
            row += f" | {np.mean(high >= 1):.3f} | "
            row += f"{middle:.2f}" if middle < 100 else "> 100"
        rows.append(row)
    head = (
        "T | movement | plateau_sd, pp | low ≤ truth | high ≥ truth | median high, pp | 5 seeds: "
        "high ≥ truth | median high, pp"
    )
    return "Table 3. Jitter and wander of total SD 1 pp", head, rows


def blocks(rng: np.random.Generator) -> Table:
    """Population variance and finite share from blocks."""
    rows = []
    for (num_val, repeats), num_seeds, (moves, memory) in itertools.product(
        ((200, 3000), (1000, 2000), (5000, 1000)),
        (1, 3),
        ((0.0, 0.5), (0.004, 0.5), (0.01, 0.5), (0.01, 0.9)),
    ):
        known = {"num_val": num_val, "num_seeds": num_seeds, "jitter": moves, "memory": memory}
        made = simulate(replace(SHORT, **known), repeats // num_seeds, rng, losses=False)
        parts, found = published(made.curves, num_seeds)
        own, v = own_variance(made), mean(parts["finite_var"])
        excess = (parts["hf_var"] - parts["finite_var"]).to_numpy() - own
        error = 1.96 * excess.std() / PP**2 / np.sqrt(len(excess))
        shown = found.drop_nulls("pop_var").with_columns(
            (pl.col(f"hf_sd_{end}") ** 2 - pl.col("fin_sd") ** 2).alias(f"plain_{end}")
            for end in ("low", "high")
        )
        truths = {"pop_var": own, "plain": own, "finite_share": v / (v + own), "fin_sd": np.sqrt(v)}
        covered = " | ".join(share(shown, holds(name, truth)) for name, truth in truths.items())
        rows.append(
            f"{num_val:,} | {num_seeds} | {100 * moves:g} | {memory:g} | "
            f"{found['pop_var'].null_count() / found.height:.2f} | {own / PP**2:.3f} | "
            f"{v / PP**2:.3f} | {excess.mean() / PP**2:+.3f} ± {error:.3f} | "
            f"{mean(shown['pop_var']) / PP**2:.3f} | {covered} | {mean(shown['finite_share']):.2f} "
            f"± {float(shown['finite_share'].to_numpy().std()):.2f} | {v / (v + own):.2f}"
        )
    head = (
        "n | seeds | population moves, pp | memory | null | true s²_pop, pp² | v, pp² | bias of "
        "s²_pop, pp² | mean pop_var shown | coverage s²_pop | by limits of s² alone | f | fin_sd | "
        "mean f ± SD | true f"
    )
    return "Table 4. Finite-set part from 20 blocks, T = 48", head, rows


def flips(rng: np.random.Generator) -> Table:
    """The finite-set part's bounds from flips alone, beside what the blocks say on average."""
    rows = []
    for (num_val, repeats), moves in itertools.product(
        ((200, 2000), (1000, 1000), (5000, 300)), (0.0, 0.01)
    ):
        scenario = replace(SHORT, num_val=num_val, jitter=moves)
        parts, found = published(simulate(scenario, repeats, rng, losses=False).curves)
        least, most = (mean(found[f"fin_sd_{end}"]) / PP for end in ("least", "most"))
        by_blocks = np.sqrt(mean(parts["finite_var"])) / PP
        ends = f"{least:.3f} to {most:.3f}"
        rows.append(f"{num_val:,} | {100 * moves:g} | {by_blocks:.3f} | {ends}")
    head = "n | population moves, pp | fin_sd by blocks, pp | bounds from flips, pp"
    return "Table 5. Finite-set part from flips, T = 48, one seed", head, rows


def movement(rng: np.random.Generator) -> Table:
    """Size and power of "population accuracy does not move"."""

    def rejected(made: Simulated, num_seeds: int = 1) -> str:
        """How often p < 0.05; too few flips to tell in most curves: null."""
        found = published(made.curves, num_seeds)[1]
        p = found["p_no_population_movement"].drop_nulls().to_numpy()
        return f"{np.mean(p < 0.05):.3f}" if len(p) > found.height / 2 else "null"

    def of_three(scenario: Scenario, num: int) -> str:
        return rejected(simulate(replace(scenario, num_seeds=3), num, rng, losses=False), 3)

    rows = []
    for (num_val, repeats), memory in itertools.product(
        ((200, 2000), (1000, 2000), (5000, 600)), (0.0, 0.5, 0.9)
    ):
        still = replace(SHORT, num_val=num_val, jitter=0.0, memory=memory, learning_epochs=0)
        made = simulate(still, repeats, rng, losses=False)
        told = [rejected(made), of_three(still, repeats // 2)]
        v = mean(jitter_components(made.curves)["finite_var"])
        whole = made.curves.val_accuracy[:, 8:].var(axis=1, ddof=1).mean()
        moving = [replace(still, jitter=float(np.sqrt(part * 0.4 / 0.6))) for part in (v, whole)]
        told += [rejected(simulate(one, repeats // 2, rng, losses=False)) for one in moving]
        told.append(of_three(moving[-1], repeats // 4))
        rows.append(f"{num_val:,} | {memory:g} | {' | '.join(told)}")
    head = (
        "n | memory | size: one seed | 3 seeds | power at 0.4 of the jitter | at 0.4 "
        "of all movement | 3 seeds"
    )
    return "Table 6. Test that population accuracy does not move, 40 usable epochs", head, rows


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
        rows.append(f"{slices} | {df} | {truth:.2f} | {covered / 2000:.3f} | {clear / 2000:.3f}")
    head = "slices | df per arm | true ratio | coverage | leaves out 1"
    return "Table 7. Ratio of two jitters (normal noise)", head, rows


if __name__ == "__main__":
    write_all({0: trend, 1: jitter, 2: plateau, 4: blocks, 5: flips, 6: movement, 8: ratio}, SEED)
