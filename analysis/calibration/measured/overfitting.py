"""Tables of docs/method/overfitting.md and effects: gap, falls, rises and paired differences.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.overfitting
"""

import itertools

import numpy as np
import polars as pl

from analysis import results
from analysis.calibration.measured.tables import (
    PP,
    SEED,
    Table,
    bias,
    holds,
    mean,
    share,
    write_all,
)
from analysis.calibration.simulate import Scenario, ar1, simulate
from analysis.causes.effects import DIFFERENCES, paired_effects
from analysis.curves import Curves, Floats
from analysis.measures.cutoffs import shipped
from analysis.measures.harm import MIN_SEEDS, fall_of_seeds, largest_fall, measure_harm
from analysis.measures.overfitting import measure_overfitting
from analysis.sources.axes import Axis
from analysis.stats.windows import window_length


def falls(values: Floats) -> Floats:
    """The largest window mean minus the last. (N, T) -> (N,)."""
    return largest_fall(values, window_length(values.shape[1]))


def naive_fall(rng: np.random.Generator) -> Table:
    """The largest window mean minus the last, of one seed."""
    rows = []
    for length, fall in itertools.product((20, 30, 60), (0.0, 0.03)):
        line = 0.9 - fall * np.clip(np.arange(length) / (length - 1), 0, 1)
        target = float(falls(line[None])[0])
        for phi in (0.0, 0.5, 0.8, 0.9):
            values = line + PP * ar1(rng, (4000, length), phi).astype(float)
            found = float(falls(values).mean())
            rows.append(f"{length} | {target / PP:.2f} | {phi:g} | {found / PP:.2f}")
    head = "T | true fall, pp | AR | mean naive fall, pp"
    return "Naive fall of one seed, jitter of total SD 1 pp", head, rows


def crossfitted_fall(rng: np.random.Generator) -> Table:
    """The fall with its peak chosen on other seeds and other blocks, beside the naive one."""
    rows = []
    settings = [(n, phi, 0.0) for n in (300, 1000) for phi in (0.3, 0.8)]
    settings += [(300, 0.3, 0.06), (1000, 0.8, 0.06)]
    for num_seeds, (num_val, phi, fall) in itertools.product((2, 3, 5), settings):
        scenario = Scenario(
            num_val=num_val,
            num_seeds=num_seeds,
            correlation=phi,
            memory=0.8,
            learning_epochs=1,
            fall=fall,
            peak=0.25,
            num_train_eval=1,
        )
        made = simulate(scenario, 400, rng, losses=False)
        naive = falls(made.curves.val_accuracy).mean()
        crossfit = ""
        if num_seeds >= MIN_SEEDS:
            ends = np.full((400, num_seeds), scenario.num_epochs)
            found = fall_of_seeds(made.curves, ends, shipped())[0]["drop"].to_numpy()
            error = 1.96 * found.std(ddof=1) / np.sqrt(len(found))
            crossfit = f"{found.mean() / PP:.2f} ± {error / PP:.2f}"
        rows.append(
            f"{num_seeds} | {num_val:,} | {phi:g} | {made.fall / PP:.2f} | {crossfit} | "
            f"{naive / PP:.2f}"
        )
    head = "seeds | n | AR | true fall, pp | mean cross-fitted, pp | mean naive, pp"
    return "Cross-fitted fall, T = 60", head, rows


def gap(rng: np.random.Generator) -> Table:
    """The gap's interval, of one seed and pooled as the report shows it."""
    rows = []
    for num_seeds, num_val in itertools.product((1, 3), (300, 1000)):
        scenario = Scenario(
            num_epochs=45,
            num_val=num_val,
            num_seeds=num_seeds,
            correlation=0.3,
            memory=0.8,
            learning_epochs=1,
            gap=0.07,
            num_train_eval=1000,
        )
        curves = simulate(scenario, 400, rng, losses=False).curves
        trials = measure_overfitting(curves, np.full(len(curves.trial_ids), 1e9)).with_columns(
            (pl.int_range(pl.len()) // num_seeds).alias("config_id"),
            pl.col("final_accuracy").alias("kept_accuracy"),
            pl.lit(45).alias("num_epochs"),
        )
        found = results._means(trials)
        error = found["gap"].to_numpy() - scenario.gap
        covered = share(found, holds("gap", scenario.gap))
        rows.append(f"{num_seeds} | {num_val:,} | {bias(error)} | {covered}")
    head = "seeds | n | bias, pp | coverage"
    return "Gap of 7 pp, T = 45, training subset of 1,000", head, rows


def loss(rng: np.random.Generator) -> Table:
    """The naive rise of the loss where it does not rise."""
    rows = []
    for phi, spread in itertools.product((0.0, 0.5, 0.8), (0.01, 0.03, 0.1)):
        values = 1 + spread * ar1(rng, (3000, 60), phi).astype(float)
        curves = Curves.of_accuracy(np.full_like(values, 0.9), val_loss=values)
        rise = mean(measure_harm(curves)["loss_rise"])
        rows.append(f"{phi:g} | {100 * spread:g} | {100 * rise:.2f}")
    head = "AR | SD of the loss, % | mean rise, %"
    return "Rise of a loss that does not rise, T = 60", head, rows


def paired(rng: np.random.Generator) -> Table:
    """Paired differences over 4 slices and 3 seeds, with and without a part that slices share."""
    levels, slices, held = ("0", "1"), ("a", "b", "c", "d"), tuple(map(str, range(400)))
    axes = [
        Axis("batch_size", levels, levels),
        Axis("learning_rate", held, held),
        Axis("weight_decay", slices, slices),
    ]
    labels = pl.DataFrame({"point": [""]})
    for axis in axes:
        column = pl.Series(axis.name, axis.labels, pl.Enum(list(axis.labels)))
        labels = labels.join(column.to_frame(), how="cross")
    labels = labels.with_row_index("config_id").with_columns(pl.col("config_id").cast(pl.String))
    spread = labels.select("config_id", pl.lit(1.0).alias("hf_var"), pl.lit(30.0).alias("hf_df"))
    rows = []
    for of_seed, of_slice in ((0.0, 0.0), (1.0, 0.0), (4.0, 0.0), (0.0, 1.0)):
        noise = rng.standard_normal((2, len(held), len(slices), 3))
        noise += of_seed * rng.standard_normal((2, len(held), 1, 3))
        of_slices = of_slice * rng.standard_normal((2, 1, len(slices), 1))
        noise += of_slices
        trials = pl.DataFrame(
            {
                "config_id": [str(i) for i in range(labels.height) for _ in range(3)],
                "seed": np.tile(np.arange(3), labels.height),
                **dict.fromkeys(DIFFERENCES, np.zeros(noise.size)),
                "final_accuracy": noise.ravel(),
            }
        )
        found = paired_effects(trials, spread, labels, axes)
        found = found.filter(axis="batch_size", scope="pooled", response="final_accuracy")
        truth = float(of_slices[1].mean() - of_slices[0].mean())
        inside = (pl.col("low") < truth) & (pl.col("high") > truth)
        rows.append(f"{of_seed:g} | {of_slice:g} | {share(found, inside)}")
    head = "SD shared by the slices of a seed | SD shared by the seeds of a slice | coverage"
    return "Paired difference over 4 slices and 3 seeds, noise of SD 1", head, rows


if __name__ == "__main__":
    write_all({3: naive_fall, 4: crossfitted_fall, 5: gap, 6: loss, 8: paired}, SEED)
