"""What was not recorded of some trials, and what can therefore not be said."""

import polars as pl

# What may not have been recorded, by a column of the epochs, what is then not known, and which
# argument of a loop's report() gives it.
_EVIDENCE = {
    "train_eval_accuracy": ("training accuracy in eval mode", "no gap", "train_accuracy="),
    "val_loss": (
        "validation loss",
        "overfitting that only the loss shows is not seen",
        "outputs= and targets=, losses=, or val_loss=",
    ),
    "val_nll_at_temperature": (
        "loss at the fitted temperature",
        "over-confidence and harm can't be told apart in the loss",
        "outputs= and targets=",
    ),
    "val_n": ("size of the validation set", "its part of the jitter is not known", ""),
    "val_block_n": (
        "validation blocks",
        "the jitter can't be split into the network's and the validation set's, and the best epoch "
        "is the naive one",
        "outputs= and targets=, correct=, or scores=",
    ),
    "flip_to_wrong": (
        "flips of predictions",
        "no churn",
        "outputs= and targets=, or correct=",
    ),
}


def of_loops(trials: pl.DataFrame) -> bool:
    """Tell whether loops reported these trials: of a task, the parameters are counted."""
    return trials["num_parameters"].null_count() == trials.height


def not_recorded(epochs: pl.DataFrame, *, of_loops: bool) -> pl.DataFrame:
    """Say what can't be estimated for want of evidence: check, count of trials, detail.

    Args: of_loops: whether a report() could have said more.
    """
    told = epochs.select("trial_id", "weights_kind", *_EVIDENCE)
    raw = told.filter(pl.col("weights_kind") == "raw")
    without = raw.group_by("trial_id").agg(pl.col(list(_EVIDENCE)).null_count() == pl.len())
    counts = without.select(pl.col(list(_EVIDENCE)).sum()).row(0)
    return checks(
        [
            (
                f"trials without {words}",
                count,
                f"{loss}; report() takes it with {by}" if of_loops and by else loss,
            )
            for (words, loss, by), count in zip(_EVIDENCE.values(), counts, strict=True)
            if count
        ]
    )


def checks(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    """Make the frame of checks: check, count, detail."""
    names = {"check": pl.String, "count": pl.Int64, "detail": pl.String}
    return pl.DataFrame(rows, schema=names, orient="row")
