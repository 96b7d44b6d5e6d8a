"""Measures gap, falls and rises of the accuracy, and paired contrasts, on curves whose truth is
known; prints Markdown tables.

    python -m analysis.calibration.measured.overfitting
"""

import numpy as np
import polars as pl

from analysis import results
from analysis.calibration.measured.known import (
    PP,
    SEED,
    Floats,
    Population,
    Table,
    ar1,
    holds,
    of_accuracy,
    share,
    simulate,
    trials_of,
    write,
)
from analysis.causes.effects import DIFFERENCES, contrasts
from analysis.curves import curves
from analysis.measures.harm import MIN_SEEDS, largest_fall, measure_harm, measure_harm_of_seeds
from analysis.measures.overfitting import measure_overfitting
from analysis.sources.axes import Axis
from analysis.stats.windows import window_length


def main() -> None:
    """All tables, each from random numbers of its own."""
    streams = {3: naive_fall, 4: crossfitted_fall, 5: gap, 6: loss, 8: paired}
    for number, table in streams.items():
        write(*table(np.random.default_rng([SEED, number])))


def measured(raw: pl.DataFrame) -> pl.DataFrame:
    """measure_overfitting of all trials and their naive falls, with config_id."""
    parts = [
        measure_overfitting(group, np.full(len(group.trial_ids), 1e9)).with_columns(
            pl.Series("drop", falls(group.val_accuracy))
        )
        for group in curves(raw)
    ]
    return pl.concat(parts).join(trials_of(raw), on="trial_id", maintain_order="left")


def falls(values: Floats) -> Floats:
    """The largest window mean minus the last. (N, T) -> (N,)."""
    return largest_fall(values, window_length(values.shape[1]))


def pooled(trials: pl.DataFrame, num_epochs: int) -> pl.DataFrame:
    """The means over seeds that the report shows."""
    same = {"kept_accuracy": "final_accuracy", "chosen_accuracy": "best_naive"}
    columns = [pl.col(old).alias(new) for new, old in same.items()]
    return results._means(trials.with_columns(*columns, pl.lit(num_epochs).alias("num_epochs")))


def naive_fall(rng: np.random.Generator) -> Table:
    """The largest window mean minus the last, of one seed."""
    rows = []
    for length in (20, 30, 60):
        for fall in (0.0, 0.03):
            past = np.clip(np.arange(length) / (length - 1), 0, 1)
            line = 0.9 - fall * past
            target = float(falls(line[None])[0])
            for phi in (0.0, 0.5, 0.8, 0.9):
                values = line + PP * ar1(rng, (4000, length), phi).astype(float)
                mean = f"{float(falls(values).mean()) / PP:.2f}"
                rows.append((length, f"{target / PP:.2f}", f"{phi:g}", mean))
    head = "T | true fall, pp | AR | mean naive fall, pp"
    return "Naive fall of one seed, jitter of total SD 1 pp", head, rows


def crossfitted_fall(rng: np.random.Generator) -> Table:
    """The fall with its peak chosen on other seeds and other blocks, beside the naive one."""
    rows = []
    for num_seeds in (2, 3, 5):
        for num_val, wander, fall in (
            (300, 0.3, 0.0),
            (300, 0.8, 0.0),
            (1000, 0.3, 0.0),
            (1000, 0.8, 0.0),
            (300, 0.3, 0.3),
            (1000, 0.8, 0.3),
        ):
            population = Population(60, num_val, num_seeds, 0.04, wander, memory=0.8, fall=fall)
            raw, _ = simulate(rng, population, 400)
            target = float(falls(population.accuracy(population.trend())[None])[0])
            naive = measured(raw)["drop"].to_numpy().mean()
            crossfit = ""
            if num_seeds >= MIN_SEEDS:
                values = measure_harm_of_seeds(raw, trials_of(raw))[1]["drop"].to_numpy() / PP
                error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
                crossfit = f"{values.mean():.2f} ± {error:.2f}"
            rows.append(
                (
                    num_seeds,
                    f"{num_val:,}",
                    f"{wander:g}",
                    f"{target / PP:.2f}",
                    crossfit,
                    f"{naive / PP:.2f}",
                )
            )
    head = "seeds | n | AR | true fall, pp | mean cross-fitted, pp | mean naive, pp"
    return "Cross-fitted fall, T = 60", head, rows


def gap(rng: np.random.Generator) -> Table:
    """The gap's limits, of one seed and pooled."""
    rows = []
    for num_seeds in (1, 3):
        for num_val in (300, 1000):
            population = Population(45, num_val, num_seeds, 0.03, 0.3, memory=0.8, gap=0.5)
            raw, _ = simulate(rng, population, 400, num_train_eval=1000)
            late = population.trend()[-15:]
            target = float(np.mean(population.accuracy(late + 0.5) - population.accuracy(late)))
            found = pooled(measured(raw), 45)
            bias = (float(found["gap"].mean()) - target) / PP  # pyright: ignore[reportArgumentType]
            rows.append(
                (
                    num_seeds,
                    f"{num_val:,}",
                    f"{target / PP:.2f}",
                    f"{bias:+.2f}",
                    share(found, holds("gap", target)),
                )
            )
    head = "seeds | n | true gap, pp | bias, pp | coverage"
    return "Gap, T = 45, training subset of 1,000", head, rows


def loss(rng: np.random.Generator) -> Table:
    """The naive rise of the loss where it does not rise."""
    rows = []
    for phi in (0.0, 0.5, 0.8):
        for spread in (0.01, 0.03, 0.1):
            values = 1 + spread * ar1(rng, (3000, 60), phi).astype(float)
            rise = measure_harm(of_accuracy(np.full_like(values, 0.9), values))["loss_rise"]
            mean = f"{100 * rise.to_numpy().mean():.2f}"
            rows.append((f"{phi:g}", f"{100 * spread:g}", mean))
    head = "AR | SD of the loss, % | mean rise, %"
    return "Rise of a loss that does not rise, T = 60", head, rows


def paired(rng: np.random.Generator) -> Table:
    """Paired differences over 4 slices and 3 seeds, with and without a part that slices share."""
    levels = ("0", "1")
    held = tuple(map(str, range(400)))
    slices = ("a", "b", "c", "d")
    axes = [
        Axis("batch_size", levels, levels),
        Axis("learning_rate", held, held),
        Axis("weight_decay", slices, slices),
    ]
    grid = pl.DataFrame({"batch_size": levels}).join(
        pl.DataFrame({"learning_rate": held}), how="cross"
    )
    grid = grid.join(pl.DataFrame({"weight_decay": slices}), how="cross")
    labels = grid.with_row_index("config_id").with_columns(
        pl.col("config_id").cast(pl.String), *[pl.lit("").alias("point")]
    )
    labels = labels.with_columns(pl.col(a.name).cast(pl.Enum(list(a.labels))) for a in axes)
    spread = labels.select("config_id", pl.lit(1.0).alias("hf_var"), pl.lit(30.0).alias("hf_df"))
    rows = []
    for of_seed, of_slice in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        shape = (2, len(held), len(slices), 3)
        noise = rng.standard_normal(shape)
        noise += of_seed * rng.standard_normal((2, len(held), 1, 3))
        of_slices = of_slice * rng.standard_normal((2, 1, len(slices), 1))
        noise += of_slices
        trials = pl.DataFrame(
            {
                "config_id": [str(i) for i in range(labels.height) for _ in range(3)],
                "seed": np.tile(np.arange(3), labels.height),
                "final_accuracy": noise.ravel(),
            }
        ).with_columns(pl.lit(0.0).alias(name) for name in DIFFERENCES if name != "final_accuracy")
        found = contrasts(trials, spread, labels, axes).filter(
            (pl.col("axis") == "batch_size")
            & (pl.col("scope") == "pooled")
            & (pl.col("response") == "final_accuracy")
        )
        truth = float(of_slices[1].mean() - of_slices[0].mean())
        inside = (pl.col("low") < truth) & (pl.col("high") > truth)
        rows.append((f"{of_seed:g}", f"{of_slice:g}", share(found, inside)))
    head = "SD shared by the slices of a seed | SD shared by the seeds of a slice | coverage"
    return "Paired difference over 4 slices and 3 seeds, noise of SD 1", head, rows


if __name__ == "__main__":
    main()
