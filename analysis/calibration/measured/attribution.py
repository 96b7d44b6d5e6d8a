"""Tables of docs/method/attribution.md: why it fluctuates, on data whose truth is known.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.attribution
"""

import itertools
from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.calibration.measured.tables import SEED, Table, cells, write_all
from analysis.causes.attribution import ANOVA, REGRESSION, attribute
from analysis.causes.gradient_noise import noise_scales
from analysis.causes.jitter_model import regress
from analysis.curves import Floats

NUM_GRIDS = 2000


# --- shares


def effects_of(shape: Sequence[int], variances: dict[tuple[int, ...], float]) -> Floats:
    """Cell means whose effects have the given variances; alternating contrasts."""
    out = np.zeros(tuple(shape))
    for u, variance in variances.items():
        effect = np.ones(1)
        for axis, length in enumerate(shape):
            x = np.where(np.arange(length) % 2, 1.0, -1.0) if axis in u else np.ones(length)
            x = (x - x.mean()) / x.std() if axis in u else x
            effect = np.multiply.outer(effect, x)
        out += np.sqrt(variance) * effect[0]
    return out


def rows_of(values: Floats) -> pl.DataFrame:
    """(L1, ..., Ld, R) -> one row per trial."""
    place = np.indices(values.shape).reshape(values.ndim, -1)
    names = [*"abcdef"[: values.ndim - 1], "seed"]
    axes = {name: column for name, column in zip(names, place, strict=True)}  # noqa: C416
    return pl.DataFrame({**axes, "y": values.ravel()}).with_columns(
        pl.col(names[:-1]).cast(pl.String)
    )


def covered(
    rng: np.random.Generator,
    means: Floats,
    truth: Floats,
    num_seeds: int,
    num: int,
    method: str = ANOVA,
    noise: str = "normal",
) -> tuple[Floats, Floats, float]:
    """Coverage and mean of the Shapley shares, and how often there are none."""
    axes = list("abcdef"[: means.ndim])
    inside, total, told = np.zeros(len(axes)), np.zeros(len(axes)), 0
    truth = np.clip(truth, 0, 1)  # what the regression says without noise may be -1e-10
    for _ in range(num):
        values = noisy(rng, means, num_seeds, noise)
        found = attribute(rows_of(values), axes, "y")
        found = found.filter(kind="shapley", method=method)
        if found["share"].null_count():
            continue
        told += 1
        inside += (found["share_low"].to_numpy() <= truth) & (
            found["share_high"].to_numpy() >= truth
        )
        total += found["share"].to_numpy()
    return inside / max(told, 1), total / max(told, 1), 1 - told / num


def noisy(rng: np.random.Generator, means: Floats, num_seeds: int, noise: str) -> Floats:
    """Trials with noise of variance 1: normal, or of a variance's kind (SD follows the mean)."""
    shape = (*means.shape, num_seeds)
    if noise == "normal":
        return means[..., None] + rng.standard_normal(shape)
    level = means[..., None] + 3.3  # chi-square with 20 df: SD 0.316 of the mean
    return level * rng.chisquare(20, shape) / 20


def shapley_of(variances: dict[tuple[int, ...], float], num_axes: int) -> Floats:
    """Shares."""
    total = sum(variances.values())
    return np.array(
        [sum(v / len(u) for u, v in variances.items() if i in u) / total for i in range(num_axes)]
    )


def shares(rng: np.random.Generator) -> Table:
    """Coverage on full grids."""
    strong = {(0,): 1.0, (1,): 0.3, (0, 1): 0.3}
    weak = {(0,): 0.3, (1,): 0.1, (0, 1): 0.1}
    plans: list[tuple[tuple[int, ...], int, dict[tuple[int, ...], float], str]] = [
        ((3, 3, 2), 2, strong, "normal"),
        ((3, 3, 2), 3, strong, "normal"),
        ((3, 3, 2), 5, strong, "normal"),
        ((3, 3, 2), 3, weak, "normal"),
        ((3, 3, 2), 3, strong, "as variances"),
        ((2, 2), 3, strong, "normal"),
        ((2, 2, 2), 3, strong, "normal"),
        ((4, 4, 3), 3, weak, "normal"),
        ((4, 3, 2, 2), 3, weak, "normal"),
        ((3, 2, 2, 2, 2), 3, weak, "normal"),
        ((2, 2), 2, strong, "normal"),
    ]
    rows = []
    for shape, num_seeds, variances, noise in plans:
        truth = shapley_of(variances, len(shape))
        means = effects_of(shape, variances)
        inside, mean, null = covered(rng, means, truth, num_seeds, NUM_GRIDS // 2, noise=noise)
        ends = np.sort(inside[2:])[[0, -1]] if len(shape) > 2 else []  # of the inert axes
        inert = " to ".join(dict.fromkeys(f"{x:.3f}" for x in ends))
        rows.append(
            f"{' x '.join(map(str, shape))} | {num_seeds} | {noise} | "
            f"{truth[0]:.2f}, {truth[1]:.2f} | {mean[0]:.2f}, {mean[1]:.2f} | "
            f"{cells('.3f', inside[:2])} | {inert} | {null:.3f}"
        )
    head = (
        "grid | seeds | noise | true shares | mean shares | coverage: first | second | inert axes "
        "| null"
    )
    return "Table A1. Shapley shares of full grids, two axes active", head, rows


def holes(rng: np.random.Generator) -> Table:
    """Coverage of the regression where cells are missing."""
    rows = []
    variances = {(0,): 1.0, (1,): 0.3, (0, 1): 0.3}
    for missing in (1, 2, 4):
        means = effects_of((3, 3, 2), variances)
        for cell in list(itertools.product((2,), range(3), range(2)))[:missing]:
            means[cell] = np.nan
        tiny = means[..., None] + 1e-5 * rng.standard_normal((*means.shape, 3))
        exact = attribute(rows_of(tiny), list("abc"), "y")
        truth = exact.filter(kind="shapley", method=REGRESSION)["share"].to_numpy()
        inside, mean, null = covered(rng, means, truth, 3, NUM_GRIDS // 4, REGRESSION)
        rows.append(
            f"{missing} | {cells('.2f', truth)} | {cells('.2f', mean)} | {cells('.3f', inside)} | "
            f"{null:.3f}"
        )
    head = (
        "cells missing | true: first | second | inert | mean: first | second | inert | coverage: "
        "first | second | inert | null"
    )
    return "Table A2. Shapley shares by regression, 3 x 3 x 2 grid, 3 seeds", head, rows


# --- quasi-likelihood


def sweep(
    rng: np.random.Generator, finite: float, between: float, num_seeds: int, b_batch: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Phases and trials of a 4 x 4 x 2 grid, two phases of 20 df each; b_lr = 0.5.

    finite: known part over the geometric mean of the first phase's own; between: SD of the log SD
    from trial to trial.
    """
    lr, batch, drop = (
        x.ravel().repeat(num_seeds)
        for x in np.meshgrid([0.01, 0.03, 0.1, 0.3], [16.0, 64.0, 256.0, 1024.0], [0.0, 1.0])
    )
    luck = between * rng.standard_normal(len(lr))
    log_sd = 0.5 * np.log(lr / 0.055) + b_batch * np.log(batch / 128) + 0.3 * drop + luck
    names = [f"{i:04d}" for i in range(len(lr))]
    phases = []
    for phase in range(2):
        own = np.exp(2 * (log_sd - 0.5 * phase))
        variance = (own + finite) * rng.chisquare(20, len(lr)) / 20
        phases.append(
            pl.DataFrame(
                {
                    "trial_id": names,
                    "phase": phase,
                    "lr": lr * 0.1**phase,
                    "hf_var": variance,
                    "hf_df": 20.0,
                    "finite_var": finite,
                }
            )
        )
    trials = {"trial_id": names, "batch_size": batch, "dropout": drop.astype(int).astype(str)}
    return pl.concat(phases), pl.DataFrame(trials)


def slopes(rng: np.random.Generator) -> Table:
    """Bias and coverage of the exponent of the learning rate, beside the naive regression."""
    rows = []
    for finite, between, num_seeds in itertools.product((0.1, 1.0), (0.0, 0.2), (1, 3)):
        found, inside, naive, dropped = [], 0, [], []
        for _ in range(NUM_GRIDS // 4):
            phases, trials = sweep(rng, finite, between, num_seeds, -0.5)
            row = regress(phases, trials, ["dropout"]).row(0, named=True)
            found.append(row["estimate"])
            inside += row["low"] < 0.5 < row["high"]
            own = phases.join(trials, on="trial_id").with_columns(
                own=pl.col("hf_var") - pl.col("finite_var")
            )
            kept = own.filter(pl.col("own") > 0)
            dropped.append(1 - kept.height / own.height)
            columns = [kept[name].to_numpy() for name in ("lr", "batch_size")]
            other = [
                (kept[name] == value).to_numpy().astype(float)
                for name, value in (("phase", 1), ("dropout", "1"))
            ]
            X = np.stack([np.ones(kept.height), *map(np.log, columns), *other], axis=1)
            y = np.log(kept["own"].to_numpy()) / 2
            naive.append(np.linalg.lstsq(X, y, rcond=None)[0][1])
        num = len(found)
        rows.append(
            f"{finite} | {between} | {num_seeds} | {np.mean(found):.3f} ± "
            f"{np.std(found) / num**0.5:.3f} | {np.std(found):.3f} | {inside / num:.3f} | "
            f"{np.mean(dropped):.2f} | {np.mean(naive):.3f}"
        )
    head = (
        "known part | between trials | seeds | mean | SD | coverage | own part below 0 | naive log "
        "regression"
    )
    return "Table A3. Exponent of the learning rate, truth 0.5", head, rows


def law(rng: np.random.Generator) -> Table:
    """How often each word is said."""
    rows = []
    for off, num_seeds in itertools.product((0.0, 0.15, 0.5), (1, 3, 5)):
        words = []
        for _ in range(NUM_GRIDS // 4):
            phases, trials = sweep(rng, 0.3, 0.1, num_seeds, -0.5 + off)
            words.append(regress(phases, trials, ["dropout"])["verdict"].drop_nulls().item())
        shares = [words.count(word) / len(words) for word in ("holds", "does not hold")]
        rows.append(f"{off} | {num_seeds} | {cells('.3f', [*shares, 1 - sum(shares)])}")
    head = "b_lr + b_batch | seeds | holds | does not hold | cannot tell"
    return "Table A4. The noise-scale law, margin 0.15", head, rows


# --- gradient noise


def noise_scale(rng: np.random.Generator) -> Table:
    """On a quadratic loss: batches of 16 and 64, 10 steps an epoch."""
    curvature, spread = np.linspace(0.2, 2.0, 20), np.linspace(0.5, 3.0, 20) ** 2
    rows = []
    for distance, num_epochs in itertools.product((1.0, 0.5, 0.25, 0.1, 0.0), (5, 20)):
        g = curvature * distance
        shape = (1000, num_epochs, 10, 4, 20)
        parts = np.empty((2, 1000, num_epochs))
        for trial in range(shape[0]):
            small = g + rng.standard_normal(shape[1:]) * np.sqrt(spread / 16)
            parts[0, trial] = (small**2).sum(axis=3).mean(axis=(1, 2))
            parts[1, trial] = (small.mean(axis=2) ** 2).sum(axis=2).mean(axis=1)
        names = np.repeat([f"{i:04d}" for i in range(1000)], num_epochs)
        found = noise_scales(
            pl.DataFrame(
                {
                    "trial_id": names,
                    "gns_small_sq": parts[0].ravel(),
                    "gns_big_sq": parts[1].ravel(),
                    "gns_b_small": 16.0,
                    "gns_b_big": 64.0,
                    "gns_steps": 10,
                }
            )
        )
        told = found.drop_nulls("noise_scale")
        truth = spread.sum() / (g @ g) if distance else np.inf
        ratio = told["noise_scale"].to_numpy() / truth if distance else np.full(1, np.nan)
        inside = (told["noise_scale_low"] < truth) & (told["noise_scale_high"] > truth)
        enough = distance and told.height >= 100
        told_of = " |  | "
        if enough:
            near = np.mean(np.abs(ratio - 1) < 0.15)
            told_of = f"{np.median(ratio):.2f} | {near:.2f} | {inside.mean():.3f}"
        null = 1 - told.height / 1000
        rows.append(f"{truth:.1f} | {num_epochs} | {null:.3f} | {told_of}")
    head = "true scale | epochs | null | median over truth | within 15 % | coverage"
    return "Table A5. Gradient noise scale of a quadratic loss, batch sizes 16 and 64", head, rows


if __name__ == "__main__":
    write_all({0: shares, 1: holes, 2: slopes, 3: law, 4: noise_scale}, SEED)
