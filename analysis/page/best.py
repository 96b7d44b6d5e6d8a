"""The best configuration: what it is worth without luck, and what is as good."""

import math
from collections.abc import Mapping

import polars as pl

from analysis.answer.settings import Setting
from analysis.causes.ranking import Winner
from analysis.page.commands import more_seeds
from analysis.page.figures import Figure
from analysis.page.section_charts import scores_chart
from analysis.results import Analysis
from analysis.words import (
    between,
    capitalized,
    first_few,
    fixed,
    interval_text,
    number,
    pp,
    with_limits,
)

_MAX_SHOWN = 20
_MAX_NAMED = 4
_TITLE = "Best settings"


def best_sentences(analysis: Analysis, names: Mapping[str, Setting]) -> list[str]:
    """Say what the best setting is worth; naively where nothing better is known."""
    winner = _winner(analysis)
    if winner is None:
        table = analysis.configurations
        return _naive_sentences(table) if table.height > 1 else []
    ranked = _ranked(analysis, names)
    first = ranked.row(0, named=True)
    num_seeds = first["num_seeds"]
    where = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    alone = winner.num_configurations == 1
    choice, luck = "it or the epoch", f"best of {winner.num_configurations} settings and its"
    if alone:
        choice, luck = "the epoch", "best"
    sentences = [
        f"{first['point']}: {pp(winner.nested)} %"
        f"{between(winner.nested_low, winner.nested_high)} at its best epoch, {where}, scored on "
        f"validation examples that had no part in choosing {choice}."
    ]
    if winner.optimism > 0:
        sentences.append(
            f"The highest score that the curves show, {pp(winner.naive)} %, is "
            f"{pp(winner.optimism)} pp too good: the luck of picking the {luck} epoch."
        )
    if alone:
        return sentences
    sentences.append(_tied_sentence(ranked))
    if winner.nested_new_seeds is not None and math.isfinite(winner.nested_new_seeds):
        sentences.append(
            f"Expect {pp(winner.nested_new_seeds, 1)} % from a fresh run of what is chosen."
        )
    return sentences


def best_figure(analysis: Analysis, names: Mapping[str, Setting]) -> Figure | None:
    """Draw the nested scores of the best configurations.

    Returns: None where there is a single configuration.
    """
    if analysis.points.height < 2 or not analysis.trials["num_epochs"].count():
        return None
    sentences = best_sentences(analysis, names)
    winner = _winner(analysis)
    if winner is None:
        return Figure(
            name="best",
            title=_TITLE,
            finding="How good the best setting really is can't be said: only naive scores.",
            how="A score without luck needs validation blocks: correct answers in each of some "
            "fixed parts of the validation set, at every epoch.",
            notes=[
                *sentences,
                "raysweep records the blocks by itself; for curves of other tools, give "
                "the columns `val_block_correct` and `val_block_n`.",
            ],
        )
    ranked = _ranked(analysis, names)
    shown = ranked.drop_nulls("score_nested").head(_MAX_SHOWN)
    scores = ["score_nested", "score_nested_low", "score_nested_high", "score_naive"]
    data = shown.select(
        "point",
        *[(pl.col(name) * 100).round(3) for name in scores],
        pl.col("tied_with_best").fill_null(False).alias("tied"),
    )
    notes = sentences[1:]
    if winner.nested_new_seeds is None:
        notes.append(
            "With one seed a setting nobody knows what training it again would give: "
            f"{more_seeds(analysis)} tells."
        )
    num_points = analysis.points.height
    if num_points > ranked.height:
        notes.append(f"{num_points - ranked.height} of {num_points} settings have no score.")
    part = ""
    if shown.height < ranked.height:
        part = f"The first {shown.height} of {ranked.height} settings. "
    return Figure(
        name="best",
        title=_TITLE,
        finding=sentences[0],
        how=f"{part}Dots: accuracy at the best epoch, that epoch chosen on other validation "
        "blocks, with 95 % limits for other validation sets; blue ones can't be told from the "
        "best. Open diamonds: the naive highest accuracy. Green line: the best setting's "
        "score, with the luck of having been picked taken off as well. All settings share "
        "the validation set, so limits that overlap may still be told apart.",
        description=f"Accuracy at the best epoch of the best {shown.height} configurations with "
        "95 % limits, beside the naive highest accuracy.",
        charts=[scores_chart(data, 100 * winner.nested)],
        data={"scores": data},
        table=_table(ranked),
        notes=notes,
    )


def _winner(analysis: Analysis) -> Winner | None:
    """The winner, if its score without luck is known."""
    winner = analysis.causes.winner
    return winner if winner is not None and math.isfinite(winner.nested) else None


def _ranked(analysis: Analysis, names: Mapping[str, Setting]) -> pl.DataFrame:
    """The ranking, with the name of each setting, its late jitter and its seconds a run."""
    ranked = analysis.causes.ranking
    late = analysis.late.select("config_id", pl.col("hf_sd").alias("late"))
    seconds = analysis.trials.group_by("config_id").agg(pl.col("seconds").mean())
    point = [names[name].name for name in ranked["config_id"]]
    return (
        ranked.with_columns(pl.Series("point", point, pl.String))
        .join(late, on="config_id", how="left", maintain_order="left")
        .join(seconds, on="config_id", how="left", maintain_order="left")
    )


def _tied_sentence(ranked: pl.DataFrame) -> str:
    """Which configurations can't be told from the first. Args: ranked: at least two."""
    tied = ranked.filter(pl.col("tied_with_best").fill_null(False) & (pl.col("rank") > 1))
    if not tied.height:
        others = ranked.height - 1
        return f"It is better than {'the other one' if others == 1 else f'all other {others}'}."
    return (
        f"{tied.height} of the others can't be told from the best: "
        f"{first_few(tied['point'].to_list(), _MAX_NAMED)}.{_cheapest(ranked)}"
    )


def _cheapest(ranked: pl.DataFrame) -> str:
    """Which of those that tie trains fastest, and which is calmest."""
    tied = ranked.filter(pl.col("tied_with_best").fill_null(value=False))
    parts: list[str] = []
    for column, words, scale, digits, unit in (
        ("seconds", "Fastest of them", 1, 1, "s a run"),
        ("late", "calmest", 100, 2, "pp from epoch to epoch in the second half"),
    ):
        known = tied.drop_nulls(column).sort(column, maintain_order=True)
        if known.height:
            row = known.row(0, named=True)
            parts.append(f"{words}: {row['point']}, {number(scale * row[column], digits)} {unit}")
    return f" {capitalized('; '.join(parts))}." if parts else ""


def _naive_sentences(table: pl.DataFrame) -> list[str]:
    """The configuration whose kept weights have the highest mean accuracy over seeds."""
    scored = table.drop_nulls("kept_accuracy").sort(
        "kept_accuracy", descending=True, maintain_order=True
    )
    if not scored.height:
        return []
    best = scored.row(0, named=True)
    where = "with the restored weights" if best["num_stopped_early"] else "over the last epochs"
    seeds = f"mean of {best['num_completed']} seeds" if best["num_completed"] > 1 else "one seed"
    low, high = best["kept_accuracy_low"], best["kept_accuracy_high"]
    sentences = [
        f"{best['point']}: {pp(best['kept_accuracy'])} % {where}{between(low, high)}, {seeds}; the "
        f"highest of {scored.height}, so too good by its luck."
    ]
    close = 0 if low is None else scored.filter(pl.col("kept_accuracy") >= low).height - 1
    if close:
        means = "mean of 1 other lies" if close == 1 else f"means of {close} others lie"
        sentences.append(f"The {means} within these limits.")
    return sentences


def _table(ranked: pl.DataFrame) -> pl.DataFrame:
    behind = [fixed(100 * pl.col(f"behind_{end}"), 2) for end in ("low", "high")]
    is_tied = pl.col("tied_with_best")
    return ranked.select(
        pl.col("rank"),
        pl.col("point").alias("setting"),
        pl.col("num_seeds").alias("seeds"),
        interval_text("score_nested", "accuracy at the best epoch, %"),
        fixed(100 * pl.col("score_naive"), 2).alias("naive, %"),
        with_limits(pl.lit(""), *behind)
        .str.strip_chars(" ()")
        .alias("behind the best, pp (90 %, 95 % on each side)"),
        fixed(100 * pl.col("late"), 2).alias("late jitter, pp"),
        fixed(pl.col("seconds"), 1).alias("s a run"),
        pl.when(is_tied)
        .then(pl.lit("yes"))
        .when(~is_tied)
        .then(pl.lit("no"))
        .alias("tied with the best"),
    )
