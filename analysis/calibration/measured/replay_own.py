"""Replays early stopping on sweeps of our own; prints the Markdown table of docs/method/choice.md.

    raysweep run label-noise; raysweep run digits
    python -m analysis.calibration.measured.replay_own [FOLDER OF THE STORES, results]

Their stores have validation blocks, so regret is cross-fitted; the naive one stands beside it.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis import analyze
from analysis.causes.replay import policies, replay
from analysis.curves import curves

RECIPES = ("label-noise", "digits")


def main() -> None:
    """The unsmoothed rules, and those on the smoothed loss, without min_delta and min_epochs."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    head = [
        "sweep",
        "trials",
        "metric",
        "smoother",
        "patience",
        "saved",
        "regret, pp",
        "naive regret, pp",
        "minus baseline, pp",
    ]
    lines = [head, ["---", "---:", "---", "---", *["---:"] * 5]]
    for name in RECIPES:
        found = analyze(folder / name)
        completed = found.trials.filter(outcome="completed")
        raw = found.epochs.filter(weights_kind="raw").join(
            completed.select("trial_id"), on="trial_id", how="semi", maintain_order="left"
        )
        groups = list(curves(raw))
        rules = policies(min_deltas=(0.0,), min_epochs=(0,), smoothers=("none", "ema"))
        blind = [
            replace(
                group,
                block_accuracy=np.empty((*group.val_accuracy.shape, 0)),
                block_weight=np.empty((len(group.trial_ids), 0)),
                block_loss=np.empty((*group.val_accuracy.shape, 0)),
            )
            for group in groups
        ]
        naive = replay(blind, rules)["regret"]
        for row, too_good in zip(replay(groups, rules).iter_rows(named=True), naive, strict=True):
            assert row["regret_kind"] == "cross-fitted"
            lines.append(
                [
                    name,
                    str(row["num_trials"]),
                    row["metric"],
                    row["smoother"],
                    str(row["patience"]),
                    f"{row['saved_share']:.2f}",
                    _limits(row, "regret"),
                    f"{100 * too_good:+.2f}",
                    _limits(row, "difference"),
                ]
            )
    sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


def _limits(row: dict[str, float | None], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return ""
    return f"{100 * value:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


if __name__ == "__main__":
    main()
