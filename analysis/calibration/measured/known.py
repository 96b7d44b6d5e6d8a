"""Curves whose truth is known, for the scripts beside this file, and tables of what came out.

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

from analysis.curves import Curves

Floats = NDArray[np.float64]
SEED = 20260101
NUM_BLOCKS = 20
PP = 0.01
Table = tuple[str, str, Iterable[Sequence[object]]]


def write(title: str, head: str, rows: Iterable[Sequence[object]]) -> None:
    """Prints a Markdown table."""
    lines = [f"**{title}**", "", head, " | ".join("---:" for _ in head.split(" | "))]
    lines += [" | ".join(map(str, row)) for row in rows]
    lines = [f"| {line} |" if " | " in line else line for line in lines]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


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
    """Epochs as read_store gives them, and population accuracy (C, S, T).

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
        pl.lit(None, pl.List(pl.Float64)).alias("val_block_loss_sum"),
        *[
            pl.lit(None, pl.Float64).alias(name)
            for name in ("val_nll_at_temperature", "train_eval_loss")
        ],
    ] + [
        pl.Series(name, values.astype(np.int64)).cast(pl.List(pl.Int64))
        for name, values in (("val_block_n", size), ("val_block_correct", stacked["blocks"]))
    ]
    return rows.with_columns(lists), truth


def trials_of(raw: pl.DataFrame) -> pl.DataFrame:
    """trial_id, config_id."""
    return raw.select("trial_id", "config_id").unique(maintain_order=True)


def share(frame: pl.DataFrame, condition: pl.Expr) -> str:
    """How often a condition holds, nulls left out."""
    return f"{float(frame.select(condition.mean()).item()):.3f}"


def holds(name: str, target: float) -> pl.Expr:
    """Whether the limits of a column hold a number."""
    return (pl.col(f"{name}_low") < target) & (pl.col(f"{name}_high") > target)
