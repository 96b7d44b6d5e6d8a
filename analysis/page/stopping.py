"""Early stopping, replayed: what rules would have saved, and what they would have cost."""

from typing import Any

import polars as pl

from analysis.causes.replay import BASELINE, CROSS_FITTED
from analysis.page import section_charts
from analysis.page.commands import run_again
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.words import between, fixed, interval_text, pp, with_limits

COST_MARGIN = 0.005  # accuracy that a rule may cost, as a fraction
_METRICS = {"val_loss": "loss", "val_accuracy": "accuracy"}
_SMOOTHERS = {"none": "", "median-3": ", median of 3 epochs", "ema": ", smoothed"}


def rule_words(row: dict[str, Any]) -> str:
    """`patience 5 on the loss, by at least 0.002, not before epoch 20`."""
    words = f"patience {row['patience']} on the {_METRICS[row['metric']]}"
    words += _SMOOTHERS[row["smoother"]]
    if row["min_delta"]:
        words += f", better by {row['min_delta']:g}"
    if row["min_epochs"]:
        words += f", not before epoch {row['min_epochs']}"
    return words


def figure(analysis: Analysis) -> Figure | None:
    """Every rule's saving against its cost; None where nothing was replayed at all."""
    table = analysis.causes.stopping
    if not table.height:
        return None
    title = "Early stopping, replayed"
    known = table.drop_nulls(["saved_share", "regret"])
    if not known.height:
        reasons = "; ".join(sorted(set(table["reason"].drop_nulls()))) or "no curve is long enough"
        return Figure(
            name="stopping",
            title=title,
            finding=f"No stopping rule could be replayed: {reasons}.",
            how="A rule can only be replayed on curves that went on after it would have stopped.",
            description="",
            charts=[],
            data={},
            table=pl.DataFrame(),
            notes=[f"Curves to their end: {_to_the_end(analysis)}."],
        )
    # Where a rule has both kinds of regret, the one without luck.
    kind = CROSS_FITTED if CROSS_FITTED in known["regret_kind"] else known["regret_kind"][0]
    known = known.filter(regret_kind=kind)
    words = [rule_words(row) for row in known.iter_rows(named=True)]
    known = known.with_columns(pl.Series("rule", words, pl.String))
    known = known.sort("saved_share", "regret", "rule", maintain_order=True)
    # A later earliest epoch that never mattered is no other rule.
    known = known.unique(
        ["metric", "smoother", "patience", "min_delta", "saved_share", "regret"],
        keep="last",
        maintain_order=True,
    )
    baseline = pl.all_horizontal(
        *[pl.col(name) == value for name, value in _baseline().items()]
    ).alias("baseline")
    percent = [
        (pl.col(name) * 100).round(3)
        for name in ("saved_share", "regret", "regret_low", "regret_high")
    ]
    data = known.select(
        "rule",
        *percent,
        pl.col("mean_stop_epoch").round(1),
        pl.when(baseline)
        .then(pl.lit(section_charts.RULES[0]))
        .when(pl.col("pareto").fill_null(False))
        .then(pl.lit(section_charts.RULES[1]))
        .otherwise(pl.lit(section_charts.RULES[2]))
        .alias("kind"),
    )
    said = sentences(table.filter(regret_kind=kind))
    return Figure(
        name="stopping",
        title=title,
        finding=said[0],
        how=f"Each dot is a rule, replayed on {known['num_trials'].max()} stored curves: further "
        "right saves more epochs, further down costs less accuracy. "
        + (
            "The cost is cross-fitted: the epoch is kept on four fifths of the validation blocks "
            "and read on the fifth, so it holds no luck and can fall below zero."
            if kind == CROSS_FITTED
            else "The cost is naive: read on the examples that chose the epoch, for want of "
            "validation blocks. It flatters rules on the accuracy, which chose by what they are "
            "judged by: compare rules on the loss with each other."
        )
        + " Bars: 95 % limits. Valid where the learning rate doesn't depend on when training "
        "stops; a rule that never stopped keeps its best epoch.",
        description="Scatter plot of the share of epochs saved against the accuracy lost, one dot "
        "per early-stopping rule.",
        charts=[section_charts.rules(data)],
        data={"rules": data},
        table=known.select(
            "rule",
            fixed(100 * pl.col("saved_share"), 1).alias("epochs saved, %"),
            interval_text("regret", "accuracy lost, pp"),
            with_limits(
                *[fixed(100 * pl.col("difference" + end), 2) for end in ("", "_low", "_high")]
            ).alias("more than patience 10 on the loss, pp"),
            fixed(pl.col("mean_stop_epoch"), 1).alias("mean last epoch"),
            pl.col("regret_kind").alias("kind"),
        ),
        notes=[*said[1:], *_stopped(analysis), *_plateau(analysis)],
    )


def sentences(table: pl.DataFrame) -> list[str]:
    """What stopping would have saved, and at what cost. Args: table: replayed rules of one kind."""
    known = table.drop_nulls(["saved_share", "regret"])
    kind = known["regret_kind"][0]
    naive = "" if kind == CROSS_FITTED else " (naive)"
    said: list[str] = []
    cheap = known.filter(pl.col("regret_high") < COST_MARGIN).sort(
        "saved_share", "min_epochs", descending=[True, False], maintain_order=True
    )
    if cheap.height and cheap["saved_share"][0] > 0:
        row = cheap.row(0, named=True)
        said.append(
            f"Stopping could have saved {pp(row['saved_share'], 0)} % of all epochs for less than "
            f"{pp(COST_MARGIN, 1)} pp: {rule_words(row)} costs {_cost(row)}{naive}."
        )
    else:
        said.append(
            f"No rule saves epochs and is shown to cost less than {pp(COST_MARGIN, 1)} pp{naive}."
        )
    base = known.filter(**_baseline())
    if base.height:
        row = base.row(0, named=True)
        said.append(
            f"For comparison, {rule_words(row)} would have saved {pp(row['saved_share'], 0)} % and "
            f"cost {_cost(row)}{naive}."
        )
    least = known.sort("regret", "saved_share", descending=[False, True], maintain_order=True)
    row = least.row(0, named=True)
    said.append(
        f"The rule that costs least is {rule_words(row)}: {_cost(row)}{naive}, with "
        f"{pp(row['saved_share'], 0)} % saved. Of {known.height} rules on the same curves the "
        "extremes are partly luck."
    )
    return said


def _cost(row: dict[str, Any]) -> str:
    return f"{pp(row['regret'])} pp{between(row['regret_low'], row['regret_high'])}"


def _baseline() -> dict[str, Any]:
    return {
        "metric": BASELINE.metric,
        "smoother": BASELINE.smoother,
        "patience": BASELINE.patience,
        "min_delta": BASELINE.min_delta,
        "min_epochs": BASELINE.min_epochs,
    }


def _stopped(analysis: Analysis) -> list[str]:
    """A warning where curves were cut short by a rule of their own."""
    completed = analysis.trials.filter(pl.col("outcome") == "completed")
    stopped = completed["stopped_early"].fill_null(False).sum()
    if not stopped:
        return []
    if stopped == completed.height:
        return [
            "Caution: all trials stopped early themselves, so only rules that stop sooner can "
            f"be judged, against a best epoch that may have come later. Curves to their end: "
            f"{_to_the_end(analysis)}."
        ]
    return [
        f"Caution: {stopped} of {completed.height} trials stopped early themselves and are "
        "left out."
    ]


def _plateau(analysis: Analysis) -> list[str]:
    """A warning where the learning rate differs between seeds: then it depends on the curve."""
    rates = analysis.epochs.select("config_id", "epoch", "weights_kind", "lr")
    raw = rates.filter(pl.col("weights_kind") == "raw").drop_nulls("lr")
    paths = raw.group_by("config_id", "epoch").agg(
        (pl.col("lr").max() > 1.01 * pl.col("lr").min()).alias("differs")
    )
    num = paths.filter("differs")["config_id"].n_unique()
    if not num:
        return []
    return [
        f"Caution: in {num} of {analysis.points.height} configurations the learning rate "
        "differs between seeds at the same epoch, as under a schedule that waits for a "
        "plateau. It and a stopping rule watch the same curve, so what is replayed holds for "
        "that schedule alone."
    ]


def _to_the_end(analysis: Analysis) -> str:
    return run_again(analysis, "--set", "base.early_stopping=null")
