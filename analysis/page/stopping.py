"""Early stopping, replayed: what rules would have saved, and what they would have cost."""

from dataclasses import asdict
from typing import Any

import polars as pl

from analysis.causes.replay import BASELINE, CROSS_FITTED, NAIVE
from analysis.labels import Outcome
from analysis.page.commands import run_again
from analysis.page.figures import Figure
from analysis.page.section_charts import RULES, rules_chart
from analysis.results import Analysis
from analysis.words import between, fixed, interval_text, pp

_COST_MARGIN = 0.005  # accuracy that a rule may cost, as a fraction
_METRICS = {"val_loss": "loss", "val_accuracy": "accuracy"}
_SMOOTHERS = {"none": "", "median-3": ", median of 3 epochs", "ema": ", smoothed"}
_BASELINE = asdict(BASELINE)
_COSTS = {
    CROSS_FITTED: "The cost is cross-fitted: the epoch is kept on four fifths of the validation "
    "blocks and read on the fifth, so it holds no luck and can fall below zero.",
    NAIVE: "The cost is naive: read on the examples that chose the epoch, for want of validation "
    "blocks. It flatters rules on the accuracy, which chose by what they are judged by: compare "
    "rules on the loss with each other.",
}
_TITLE = "Early stopping, replayed"

Row = dict[str, Any]


def stopping_figure(analysis: Analysis) -> Figure | None:
    """Draw every rule's saving against its cost. Returns: None where nothing was replayed."""
    table = analysis.causes.stopping
    if not table.height:
        return None
    rules = table.drop_nulls(["saved_share", "regret"])
    if not rules.height:
        reasons = "; ".join(sorted(set(table["reason"].drop_nulls()))) or "no curve is long enough"
        return Figure(
            name="stopping",
            title=_TITLE,
            finding=f"No stopping rule could be replayed: {reasons}.",
            how="A rule can only be replayed on curves that went on after it would have stopped.",
            notes=[f"Curves to their end: {_to_the_end(analysis)}."],
        )
    # Where a rule has both kinds of regret, the one without luck.
    kind = CROSS_FITTED if CROSS_FITTED in rules["regret_kind"] else rules["regret_kind"][0]
    rules = rules.filter(regret_kind=kind)
    sentences = _sentences(rules, "" if kind == CROSS_FITTED else " (naive)")
    drawn = _distinct(rules)
    is_baseline = pl.all_horizontal(pl.col(name) == value for name, value in _BASELINE.items())
    percent = ("saved_share", "regret", "regret_low", "regret_high")
    data = drawn.select(
        "rule",
        *[(pl.col(name) * 100).round(3) for name in percent],
        pl.col("mean_stop_epoch").round(1),
        pl.when(is_baseline)
        .then(pl.lit(RULES[0]))
        .when(pl.col("pareto").fill_null(False))
        .then(pl.lit(RULES[1]))
        .otherwise(pl.lit(RULES[2]))
        .alias("kind"),
    )
    return Figure(
        name="stopping",
        title=_TITLE,
        finding=sentences[0],
        how=f"Each dot is a rule, replayed on {drawn['num_trials'].max()} stored curves: further "
        f"right saves more epochs, further down costs less accuracy. {_COSTS[kind]} Bars: 95 % "
        "limits. Valid where the learning rate doesn't depend on when training stops; a rule that "
        "never stopped keeps its best epoch.",
        description="Scatter plot of the share of epochs saved against the accuracy lost, one dot "
        "per early-stopping rule.",
        charts=[rules_chart(data)],
        data={"rules": data},
        table=drawn.select(
            "rule",
            fixed(100 * pl.col("saved_share"), 1).alias("epochs saved, %"),
            interval_text("regret", "accuracy lost, pp"),
            interval_text("difference", "more than patience 10 on the loss, pp"),
            fixed(pl.col("mean_stop_epoch"), 1).alias("mean last epoch"),
            pl.col("regret_kind").alias("kind"),
        ),
        notes=[*sentences[1:], *_stopped_early(analysis), *_plateau_schedule(analysis)],
    )


def _rule_words(row: Row) -> str:
    """`patience 5 on the loss, better by 0.002, not before epoch 20`."""
    words = f"patience {row['patience']} on the {_METRICS[row['metric']]}"
    words += _SMOOTHERS[row["smoother"]]
    if row["min_delta"]:
        words += f", better by {row['min_delta']:g}"
    if row["min_epochs"]:
        words += f", not before epoch {row['min_epochs']}"
    return words


def _distinct(rules: pl.DataFrame) -> pl.DataFrame:
    """Rules in words, by what they save, without those that came to the same."""
    words = [_rule_words(row) for row in rules.iter_rows(named=True)]
    named = rules.with_columns(pl.Series("rule", words, pl.String))
    # A later earliest epoch that never mattered is no other rule.
    return named.sort("saved_share", "regret", "rule", maintain_order=True).unique(
        ["metric", "smoother", "patience", "min_delta", "saved_share", "regret"],
        keep="last",
        maintain_order=True,
    )


def _sentences(rules: pl.DataFrame, naive: str) -> list[str]:
    """What stopping would have saved, and at what cost. Args: rules: of one kind of regret."""

    def cost(row: Row) -> str:
        return f"{pp(row['regret'])} pp{between(row['regret_low'], row['regret_high'])}{naive}"

    margin = f"less than {pp(_COST_MARGIN, 1)} pp"
    cheap = rules.filter(pl.col("regret_high") < _COST_MARGIN).sort(
        "saved_share", "min_epochs", descending=[True, False], maintain_order=True
    )
    sentences = [f"No rule saves epochs and is shown to cost {margin}{naive}."]
    if cheap.height and cheap["saved_share"][0] > 0:
        row = cheap.row(0, named=True)
        sentences = [
            f"Stopping could have saved {pp(row['saved_share'], 0)} % of all epochs for {margin}: "
            f"{_rule_words(row)} costs {cost(row)}."
        ]
    for row in rules.filter(**_BASELINE).iter_rows(named=True):
        sentences.append(
            f"For comparison, {_rule_words(row)} would have saved {pp(row['saved_share'], 0)} % "
            f"and cost {cost(row)}."
        )
    least = rules.sort("regret", "saved_share", descending=[False, True], maintain_order=True)
    row = least.row(0, named=True)
    sentences.append(
        f"The rule that costs least is {_rule_words(row)}: {cost(row)}, with "
        f"{pp(row['saved_share'], 0)} % saved. Of {rules.height} rules on the same curves the "
        "extremes are partly luck."
    )
    return sentences


def _stopped_early(analysis: Analysis) -> list[str]:
    """A warning where curves were cut short by a rule of their own."""
    completed = analysis.trials.filter(pl.col("outcome") == Outcome.COMPLETED)
    num_stopped = completed["stopped_early"].fill_null(False).sum()
    if not num_stopped:
        return []
    if num_stopped == completed.height:
        return [
            "Caution: all trials stopped early themselves, so only rules that stop sooner can "
            f"be judged, against a best epoch that may have come later. Curves to their end: "
            f"{_to_the_end(analysis)}."
        ]
    return [
        f"Caution: {num_stopped} of {completed.height} trials stopped early themselves and are "
        "left out."
    ]


def _plateau_schedule(analysis: Analysis) -> list[str]:
    """A warning where the learning rate differs between seeds: then it depends on the curve."""
    rates = analysis.epochs.select("config_id", "epoch", "weights_kind", "lr")
    raw = rates.filter(pl.col("weights_kind") == "raw").drop_nulls("lr")
    paths = raw.group_by("config_id", "epoch").agg(
        (pl.col("lr").max() > 1.01 * pl.col("lr").min()).alias("differs")
    )
    num_differing = paths.filter("differs")["config_id"].n_unique()
    if not num_differing:
        return []
    return [
        f"Caution: in {num_differing} of {analysis.points.height} configurations the learning rate "
        "differs between seeds at the same epoch, as under a schedule that waits for a "
        "plateau. It and a stopping rule watch the same curve, so what is replayed holds for "
        "that schedule alone."
    ]


def _to_the_end(analysis: Analysis) -> str:
    return run_again(analysis, "--set", "base.early_stopping=null")
