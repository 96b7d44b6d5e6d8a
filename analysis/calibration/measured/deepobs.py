"""Every diverged run of the DeepOBS baselines is labelled so: ours against the raw numbers.

`python -m analysis.calibration.measured.deepobs FOLDER`, FOLDER holding epochs.parquet (run_id,
problem, optimizer, lr, batch_size, seed, epoch, train_loss, test_loss, train_acc, test_acc; epoch 0
is untrained).
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from analysis import analyze
from analysis.sources.logs.reading import read_curves

COLUMNS = {
    "trial_id": "run_id",
    "val_accuracy": "test_acc",
    "val_loss": "test_loss",
    "train_accuracy": "train_acc",
    "train_loss": "train_loss",
}


def by_hand(path: Path) -> dict[str, str]:
    """run_id -> status, from the definition: a number that is not finite, or a last training loss
    above that of the untrained network."""
    found: dict[str, str] = {}
    rows = pl.read_parquet(path).filter(pl.col("test_acc").is_not_null())
    for (run_id,), run in rows.sort("epoch").group_by("run_id"):
        loss = run["train_loss"].to_numpy()
        metrics = run.select("train_loss", "test_loss", "train_acc", "test_acc").to_numpy()
        bad = not np.isfinite(metrics).all() or loss[-1] > loss[0]
        found[str(run_id)] = "diverged" if bad else "completed"
    return found


def main() -> None:
    """Print counts per problem; exit 1 where a label differs."""
    path = Path(sys.argv[1]) / "epochs.parquet"
    log = read_curves(path, columns=COLUMNS, epoch_zero="untrained")
    trials = analyze(log).trials.select("trial_id", "problem", "outcome")
    expected = by_hand(path)
    print(log)
    for problem, group in sorted(trials.group_by("problem"), key=lambda item: str(item[0])):
        print(problem[0], dict(Counter(group["outcome"].sort())))
    wrong = [name for name, _, status in trials.iter_rows() if expected[name] != status]
    print(f"{trials.height} runs, {len(expected)} by hand, {len(wrong)} labels differ")
    sys.exit(bool(wrong) or trials.height != len(expected))


if __name__ == "__main__":
    main()
