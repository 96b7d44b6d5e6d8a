"""Replays early stopping on sweeps of our own; prints the Markdown table of docs/method/choice.md.

    raysweep run label-noise; raysweep run digits
    python -m analysis.calibration.measured.replay_own [FOLDER OF THE STORES, results]

Their stores have validation blocks, so regret is cross-fitted; the naive one stands beside it.
"""

import sys
from pathlib import Path

from analysis import analyze
from analysis.calibration.measured.tables import write
from analysis.causes.replay import policies, replay
from analysis.curves import Curves, curves

RECIPES = ("label-noise", "digits")


def main() -> None:
    """The unsmoothed rules, and those on the smoothed loss, without min_delta and min_epochs."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    rules = policies(min_deltas=(0.0,), min_epochs=(0,), smoothers=("none", "ema"))
    rows = []
    for name in RECIPES:
        found = analyze(folder / name)
        completed = found.trials.filter(outcome="completed")
        groups = list(curves(found.epochs.filter(weights_kind="raw"), completed.select("trial_id")))
        blind = [
            Curves.of_accuracy(
                one.val_accuracy, trial_ids=one.trial_ids, val_loss=one.val_loss, lr=one.lr
            )
            for one in groups
        ]
        naive = replay(blind, rules)["regret"]
        for row, too_good in zip(replay(groups, rules).iter_rows(named=True), naive, strict=True):
            assert row["regret_kind"] == "cross-fitted"
            rows.append(
                f"{name} | {row['num_trials']} | {row['metric']} | {row['smoother']} | "
                f"{row['patience']} | {row['saved_share']:.2f} | {_interval(row, 'regret')} | "
                f"{100 * too_good:+.2f} | {_interval(row, 'difference')}"
            )
    head = (
        "sweep | trials | metric | smoother | patience | saved | regret, pp | naive regret, pp | "
        "minus baseline, pp"
    )
    write("Stopping rules replayed on our own sweeps", head, rows)


def _interval(row: dict[str, float | None], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return ""
    return f"{100 * value:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


if __name__ == "__main__":
    main()
