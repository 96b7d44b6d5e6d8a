"""Measures the estimators of `analysis` on curves whose truth is known; prints Markdown tables.

    OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 .venv/bin/python docs/measure_method.py

Every example of the population has a margin m ~ N(0, 1) and is right at epoch t when
m + level_t + churn * u_t > 0, u being a stationary AR(1) of its own. The population accuracy at
epoch t is then Phi(level_t / sqrt(1 + churn^2)), whatever the validation set.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from analysis import fluctuation, overfitting, results
from analysis.axes import Axis
from analysis.curves import Curves, curves
from analysis.effects import DIFFERENCES, effects
from analysis.fluctuation import SECOND, THIRD, contrast_variance
from analysis.stats import detectable_ratio, sd_ratio

Floats = NDArray[np.float64]
SEED = 20260101
NUM_BLOCKS = 20
PP = 0.01


def main() -> None:
    """All tables, in the order of docs/method.md."""
    for number, table in enumerate(
        (trend, jitter, blocks, naive_fall, crossfitted_fall, gap, loss, ratio, paired)
    ):
        _write(*table(np.random.default_rng([SEED, number])))


def _write(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    lines = [f"**{title}**", "", " | ".join(head), " | ".join("---:" for _ in head)]
    lines += [" | ".join(map(str, row)) for row in rows]
    lines = [f"| {line} |" if " | " in line else line for line in lines]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


# --- simulated curves


def ar1(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> Floats:
    """Stationary AR(1) with unit variance along the last axis."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    fresh = np.float32(np.sqrt(1 - correlation**2))
    for t in range(1, shape[-1]):
        noise[..., t] = np.float32(correlation) * noise[..., t - 1] + fresh * noise[..., t]
    return noise  # pyright: ignore[reportReturnType] - float32 keeps the largest cases small


def of_accuracy(accuracy: Floats, loss: Floats | None = None) -> Curves:
    """Curves (N, T) at a constant learning rate, without blocks or flips."""
    sizes = np.full(len(accuracy), 1000.0)
    return Curves.of_accuracy(
        accuracy,
        val_loss=np.ones_like(accuracy) if loss is None else loss,
        train_accuracy=np.ones_like(accuracy),
        train_n=sizes,
        val_n=sizes,
    )


@dataclass(frozen=True)
class Population:
    """What makes the curves of a configuration; levels are in SDs of the margin."""

    num_epochs: int
    num_val: int
    num_seeds: int
    process: float  # SD of the level's own movement, the same for all examples
    wander: float = 0.0  # its lag-1 autocorrelation
    churn: float = 0.3  # SD of each example's movement
    memory: float = 0.5  # its lag-1 autocorrelation
    final: float = 1.2
    fall: float = 0.0  # level lost from the first quarter to the end
    gap: float = 0.0  # training level above validation level

    def trend(self) -> Floats:
        """(T,) level without noise: a rise within a few epochs, then flat, or a linear fall."""
        time = np.arange(1, self.num_epochs + 1)
        peak = self.num_epochs // 4
        past = np.clip((time - peak) / (self.num_epochs - peak), 0, 1)
        return self.final - 1.8 * np.exp(-time) - self.fall * past

    def accuracy(self, level: Floats) -> Floats:
        """Of the whole population."""
        return stats.norm.cdf(level / np.sqrt(1 + self.churn**2))


def simulate(
    rng: np.random.Generator, population: Population, num_configs: int, num_train_eval: int = 20
) -> tuple[pl.DataFrame, Floats]:
    """Epochs as frames.read gives them, and population accuracy (C, S, T).

    The seeds of a configuration share one validation set and one training subset; every
    configuration draws its own.
    """
    S, T, n = population.num_seeds, population.num_epochs, population.num_val
    parts: list[dict[str, NDArray[Any]]] = []
    truth = np.empty((num_configs, S, T))
    for config in range(num_configs):
        level = population.trend() + population.process * ar1(rng, (S, T), population.wander)
        truth[config] = population.accuracy(level)
        right, trained = (
            rng.standard_normal(size)[:, None]
            + shifted[:, None, :]
            + population.churn * ar1(rng, (S, size, T), population.memory)
            > 0
            for size, shifted in ((n, level), (num_train_eval, level + population.gap))
        )
        flips = np.diff(right, axis=2).sum(axis=1)
        by_block = right.reshape(S, n // NUM_BLOCKS, NUM_BLOCKS, T).sum(axis=1)  # dealt in turn
        parts.append(
            {
                "correct": right.sum(axis=1).ravel(),
                "train_correct": trained.sum(axis=1).ravel(),
                "flips": np.concatenate([np.zeros((S, 1)), flips], axis=1).ravel(),
                "blocks": by_block.transpose(0, 2, 1).reshape(S * T, NUM_BLOCKS),
            }
        )
    stacked = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    size = np.full(stacked["blocks"].shape, n // NUM_BLOCKS)
    trial = np.arange(num_configs * S).repeat(T)
    rows = pl.DataFrame(
        {
            "trial_id": [f"{i:06d}" for i in trial],
            "config_id": [f"{i // S:06d}" for i in trial],
            "epoch": np.tile(np.arange(1, T + 1), num_configs * S),
            "lr": np.ones(len(trial)),
            "val_n": np.full(len(trial), n),
            "val_accuracy": stacked["correct"] / n,
            "val_loss": np.ones(len(trial)),
            "train_eval_n": np.full(len(trial), num_train_eval),
            "train_eval_accuracy": stacked["train_correct"] / num_train_eval,
            "flip_to_wrong": stacked["flips"],
            "flip_to_right": np.zeros(len(trial)),
        }
    )
    lists = [
        pl.Series(name, values.astype(np.int64)).cast(pl.List(pl.Int64))
        for name, values in (("val_block_n", size), ("val_block_correct", stacked["blocks"]))
    ]
    return rows.with_columns(lists), truth


def trials_of(raw: pl.DataFrame) -> pl.DataFrame:
    """trial_id, config_id."""
    return raw.select("trial_id", "config_id").unique(maintain_order=True)


def measured(raw: pl.DataFrame) -> pl.DataFrame:
    """overfitting.measures of all trials, with config_id."""
    parts = [
        overfitting.measures(group, np.full(len(group.trial_ids), 1e9)) for group in curves(raw)
    ]
    return pl.concat(parts).join(trials_of(raw), on="trial_id", maintain_order="left")


def pooled(trials: pl.DataFrame, num_epochs: int) -> pl.DataFrame:
    """The means over seeds that the report shows."""
    same = {"kept_accuracy": "final_accuracy", "chosen_accuracy": "best_naive"}
    columns = [pl.col(old).alias(new) for new, old in same.items()]
    return results._means(trials.with_columns(*columns, pl.lit(num_epochs).alias("num_epochs")))


Table = tuple[str, Sequence[str], Iterable[Sequence[object]]]


def share(frame: pl.DataFrame, condition: pl.Expr) -> str:
    """How often a condition holds, nulls left out."""
    return f"{float(frame.select(condition.mean()).item()):.3f}"


def holds(name: str, target: float) -> pl.Expr:
    """Whether the limits of a column hold a number."""
    return (pl.col(f"{name}_low") < target) & (pl.col(f"{name}_high") > target)


# --- tables


def trend(rng: np.random.Generator) -> Table:
    """What a rise alone adds to variance estimates."""
    rows = []
    for length in (20, 50, 100):
        for scale in (4, 8):
            rise = 0.9 - 0.5 * np.exp(-np.arange(length) / scale)
            values = rise + PP * rng.standard_normal((4000, length))
            usable = fluctuation.segments(np.ones_like(values))
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
                own = contrast_variance(flat, fluctuation.segments(np.ones_like(flat)))[0]
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


def naive_fall(rng: np.random.Generator) -> Table:
    """The largest window mean minus the last, of one seed."""
    rows = []
    for length in (20, 30, 60):
        width = overfitting.window(length)
        for fall in (0.0, 0.03):
            past = np.clip(np.arange(length) / (length - 1), 0, 1)
            line = 0.9 - fall * past
            means = np.convolve(line, np.ones(width) / width, mode="valid")
            target = float(means.max() - means[-1])
            for phi in (0.0, 0.5, 0.8, 0.9):
                values = line + PP * ar1(rng, (4000, length), phi).astype(float)
                found = overfitting.measures(of_accuracy(values), np.full(4000, 1000.0))
                rows.append(
                    (length, f"{target / PP:.2f}", f"{phi:g}",
                     f"{float(found['drop'].mean()) / PP:.2f}",  # pyright: ignore[reportArgumentType]
                     share(found, pl.col("drop_low") > 0),
                     share(found, pl.col("drop_high") >= target),
                     share(found, pl.col("drop_low") <= target))
                )  # fmt: skip
    head = ["T", "true fall, pp", "AR", "mean naive fall, pp", "drop_low > 0",
            "drop_high ≥ truth", "drop_low ≤ truth"]  # fmt: skip
    return "Table 4. Naive fall of one seed, jitter of total SD 1 pp", head, rows


def crossfitted_fall(rng: np.random.Generator) -> Table:
    """The fall with its peak chosen on other seeds and other blocks, beside the naive one."""
    rows = []
    for num_seeds in (2, 3, 5):
        for num_val, wander, fall in (
            (300, 0.3, 0.0), (300, 0.8, 0.0), (1000, 0.3, 0.0), (1000, 0.8, 0.0),
            (300, 0.3, 0.3), (1000, 0.8, 0.3),
        ):  # fmt: skip
            population = Population(60, num_val, num_seeds, 0.04, wander, memory=0.8, fall=fall)
            raw, _ = simulate(rng, population, 400)
            width = overfitting.window(60)
            line = population.accuracy(population.trend())
            means = np.convolve(line, np.ones(width) / width, mode="valid")
            target = float(means.max() - means[-1])
            found = overfitting.crossfit(raw, trials_of(raw))[1]
            naive = measured(raw).group_by("config_id").agg(pl.col("drop").mean())
            values = found["drop"].to_numpy() / PP
            error = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
            rows.append(
                (num_seeds, f"{num_val:,}", f"{wander:g}", f"{target / PP:.2f}",
                 f"{values.mean():.2f} ± {error:.2f}", share(found, holds("drop", target)),
                 share(found, pl.col("drop_low") > 0), share(found, pl.col("drop_low") > 0.005),
                 f"{float(naive['drop'].mean()) / PP:.2f}")  # pyright: ignore[reportArgumentType]
            )  # fmt: skip
    head = ["seeds", "n", "AR", "true fall, pp", "mean cross-fitted, pp", "coverage",
            "drop_low > 0", "drop_low > 0.5 pp", "mean naive, pp"]  # fmt: skip
    return "Table 5. Cross-fitted fall, T = 60", head, rows


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
                (num_seeds, f"{num_val:,}", f"{target / PP:.2f}", f"{bias:+.2f}",
                 share(found, holds("gap", target)))
            )  # fmt: skip
    head = ["seeds", "n", "true gap, pp", "bias, pp", "coverage"]
    return "Table 6. Gap, T = 45, training subset of 1,000", head, rows


def loss(rng: np.random.Generator) -> Table:
    """The rise of the loss where it does not rise, over three seeds."""
    rows = []
    for phi in (0.0, 0.5, 0.8):
        for spread in (0.01, 0.03, 0.1):
            values = 1 + spread * ar1(rng, (3000, 60), phi).astype(float)
            found = overfitting.measures(
                of_accuracy(np.full_like(values, 0.9), values), np.full(3000, 1000.0)
            ).with_columns((pl.int_range(pl.len()) // 3).cast(pl.String).alias("config_id"))
            seeds = pooled(found, 60)
            rows.append(
                (f"{phi:g}", f"{100 * spread:g}",
                 f"{100 * float(seeds['loss_rise'].mean()):.2f}",  # pyright: ignore[reportArgumentType]
                 share(seeds, pl.col("loss_rise_low") > 0),
                 share(seeds, pl.col("loss_rise_low") > 0.03))
            )  # fmt: skip
    head = ["AR", "SD of the loss, %", "mean rise, %", "low > 0", "low > 3 %"]
    return "Table 7. Rise of a loss that does not rise, T = 60, three seeds", head, rows


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


def paired(rng: np.random.Generator) -> Table:
    """Paired differences over 4 slices and 3 seeds, with and without a part that slices share."""
    levels = ("0", "1")
    held = tuple(map(str, range(400)))
    slices = ("a", "b", "c", "d")
    axes = [Axis("batch_size", levels, levels), Axis("learning_rate", held, held),
            Axis("weight_decay", slices, slices)]  # fmt: skip
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
            {"config_id": [str(i) for i in range(labels.height) for _ in range(3)],
             "seed": np.tile(np.arange(3), labels.height), "final_accuracy": noise.ravel()}
        ).with_columns(
            pl.lit(0.0).alias(name) for name in DIFFERENCES if name != "final_accuracy"
        )  # fmt: skip
        found = effects(trials, spread, labels, axes).filter(
            (pl.col("axis") == "batch_size")
            & (pl.col("scope") == "pooled")
            & (pl.col("response") == "final_accuracy")
        )
        truth = float(of_slices[1].mean() - of_slices[0].mean())
        inside = (pl.col("low") < truth) & (pl.col("high") > truth)
        rows.append((f"{of_seed:g}", f"{of_slice:g}", share(found, inside)))
    head = ["SD shared by the slices of a seed", "SD shared by the seeds of a slice", "coverage"]
    return "Table 9. Paired difference over 4 slices and 3 seeds, noise of SD 1", head, rows


if __name__ == "__main__":
    main()
