"""Replays early stopping on the learning curves of DeepOBS; prints a Markdown table.

    python -m analysis.calibration.measured.replay_deepobs FOLDER

FOLDER holds epochs.parquet: run_id, epoch, test_loss, test_acc, train_loss, train_acc of
github.com/fsschneider/DeepOBS_Baselines. There are no validation blocks, so regret is naive.
"""

import sys
from pathlib import Path

import polars as pl

from analysis.causes.replay import policies, replay
from analysis.curves import curves


def main(folder: Path) -> None:
    """Runs that were ever better than chance and whose loss stayed finite, per problem."""
    rows = pl.read_parquet(folder / "epochs.parquet").rename(
        {"run_id": "trial_id", "test_acc": "val_accuracy", "test_loss": "val_loss"}
    )
    raw = tidy(rows)
    for (problem,), group in raw.group_by("problem", maintain_order=True):
        rules = policies(min_deltas=(0.0,), min_epochs=(0,), smoothers=("none", "ema"))
        found = replay(curves(group), rules)
        num_runs = group["trial_id"].n_unique()
        sys.stdout.write(f"\n{problem}: {num_runs} runs, {group['epoch'].max()} epochs\n\n")
        lines = [
            "metric | smoother | patience | saved | naive regret, pp | minus baseline, pp",
            "--- | --- | ---: | ---: | ---: | ---:",
        ]
        for row in found.iter_rows(named=True):
            assert row["regret_kind"] == "naive"
            limits = [row[f"difference{end}"] for end in ("", "_low", "_high")]
            against = (
                "{:.2f} ({:.2f} to {:.2f})".format(*(100 * x for x in limits))
                if limits[1] is not None
                else "0"
            )
            lines.append(
                f"{row['metric']} | {row['smoother']} | {row['patience']} | "
                f"{row['saved_share']:.2f} | {100 * row['regret']:.2f} | {against}"
            )
        sys.stdout.write("\n".join(f"| {line} |" for line in lines) + "\n")


def tidy(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns that the curves need, of runs with accuracy that stayed finite and learned."""
    finite = pl.col("val_loss").is_finite() & pl.col("val_accuracy").is_finite()
    learned = pl.col("val_accuracy").max() > 2 * pl.col("val_accuracy").first()
    missing = ("val_n", "train_eval_n", "flip_to_wrong", "flip_to_right", "val_nll_at_temperature")
    lists = ("val_block_n", "val_block_correct", "val_block_loss_sum")
    return (
        rows.filter(pl.col("val_accuracy").is_not_null())
        .filter(finite.all().over("trial_id") & learned.over("trial_id"))
        .with_columns(
            (pl.col("epoch") - pl.col("epoch").min().over("trial_id") + 1).alias("epoch"),
            pl.col("train_acc").alias("train_eval_accuracy"),
            pl.col("train_loss").alias("train_eval_loss"),
            *[pl.lit(None, pl.Float64).alias(name) for name in missing],
            *[pl.lit(None, pl.List(pl.Float64)).alias(name) for name in lists],
        )
        .sort("problem", "trial_id", "epoch")
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
