"""The best configuration: what it is worth without luck, and what is as good."""

import math

import polars as pl

from analysis.page import section_charts
from analysis.page.commands import more_seeds
from analysis.page.figures import Figure
from analysis.results import Analysis
from analysis.words import between, fixed, interval_text, pp, with_limits

MAX_SHOWN = 20
_MAX_NAMED = 4


def sentences(analysis: Analysis) -> list[str]:
    """What the best configuration is worth; the naive sentence where nothing better is known."""
    if analysis.causes.winner is None or not math.isfinite(analysis.causes.winner.nested):
        return highest(analysis.configurations) if analysis.configurations.height > 1 else []
    winner = analysis.causes.winner
    ranked = _ranked(analysis)
    first = ranked.row(0, named=True)
    num_seeds = first["num_seeds"]
    where = "at its best epoch" + (
        f", mean of {num_seeds} seeds" if num_seeds > 1 else ", one seed"
    )
    alone = winner.num_configurations == 1
    judged = "scored on validation examples that had no part in choosing it or the epoch"
    luck = (
        f"the luck of picking the best of {winner.num_configurations} configurations and its epoch"
    )
    if alone:
        judged = "scored on validation examples that had no part in choosing the epoch"
        luck = "the luck of picking the best epoch"
    said = [
        f"{first['point']}: {pp(winner.nested)} %"
        f"{between(winner.nested_low, winner.nested_high)} {where}, {judged}."
    ]
    if winner.optimism > 0:
        said.append(
            f"The highest score that the curves show, {pp(winner.naive)} %, is "
            f"{pp(winner.optimism)} pp too good: {luck}."
        )
    if alone:
        return said
    tied = ranked.filter(pl.col("tied_with_best").fill_null(False) & (pl.col("rank") > 1))
    if tied.height:
        names = ", ".join(tied["point"][:_MAX_NAMED])
        more = tied.height - _MAX_NAMED
        said.append(
            f"{tied.height} {'others' if tied.height > 1 else 'other'} of {ranked.height} can't "
            f"be told from the best: {names}{f' and {more} more' if more > 0 else ''}. Among "
            "these, take what is cheapest."
        )
    else:
        said.append(f"None of the other {ranked.height - 1} is as good.")
    if winner.nested_new_seeds is not None and math.isfinite(winner.nested_new_seeds):
        said.append(
            f"Trained once more with another seed, what is chosen would reach "
            f"{pp(winner.nested_new_seeds)} %."
        )
    return said


def highest(table: pl.DataFrame) -> list[str]:
    """The configuration whose kept weights have the highest mean accuracy over seeds: naive."""
    known = table.drop_nulls("kept_accuracy").sort(
        "kept_accuracy", descending=True, maintain_order=True
    )
    if not known.height:
        return []
    best = known.row(0, named=True)
    where = "with the restored weights" if best["num_stopped_early"] else "over the last epochs"
    seeds = f"mean of {best['num_completed']} seeds" if best["num_completed"] > 1 else "one seed"
    said = [
        f"{best['point']}: {pp(best['kept_accuracy'])} % {where}"
        f"{between(best['kept_accuracy_low'], best['kept_accuracy_high'])}, {seeds}; the highest "
        f"of {known.height}, so too good by its luck."
    ]
    if best["kept_accuracy_low"] is not None:
        close = known.filter(pl.col("kept_accuracy") >= best["kept_accuracy_low"]).height - 1
        if close:
            means = "mean of 1 other lies" if close == 1 else f"means of {close} others lie"
            said.append(f"The {means} within these limits.")
    return said


def figure(analysis: Analysis) -> Figure | None:
    """Nested scores of the best configurations; None for a single one."""
    if analysis.points.height < 2 or not analysis.trials["num_epochs"].drop_nulls().len():
        return None
    said = sentences(analysis)
    title = "Best configuration"
    winner = analysis.causes.winner
    if winner is None or not math.isfinite(winner.nested):
        return Figure(
            name="best",
            title=title,
            finding="How good the best configuration really is can't be said: only naive scores.",
            how="A score without luck needs validation blocks: correct answers in each of some "
            "fixed parts of the validation set, at every epoch.",
            description="",
            charts=[],
            data={},
            table=pl.DataFrame(),
            notes=[
                *said,
                "raysweep records the blocks by itself; for curves of other tools, give "
                "the columns `val_block_correct` and `val_block_n`.",
            ],
        )
    ranked = _ranked(analysis)
    shown = ranked.filter(pl.col("score_nested").is_not_null()).head(MAX_SHOWN)
    scores = ["score_nested", "score_nested_low", "score_nested_high", "score_naive"]
    data = shown.select(
        "point",
        *[(pl.col(name) * 100).round(3) for name in scores],
        pl.col("tied_with_best").fill_null(False).alias("tied"),
    )
    notes = said[1:]
    if winner.nested_new_seeds is None:
        notes.append(
            "With one seed per configuration nobody knows what training it again would give: "
            f"{more_seeds(analysis)} tells."
        )
    left_out = analysis.points.height - ranked.height
    if left_out:
        notes.append(f"{left_out} of {analysis.points.height} configurations have no score.")
    shown_words = f"The first {shown.height} of {ranked.height} configurations. " * (
        shown.height < ranked.height
    )
    return Figure(
        name="best",
        title=title,
        finding=said[0],
        how=f"{shown_words}Dots: accuracy at the best epoch, that epoch chosen on other validation "
        "blocks, with 95 % limits for other validation sets; blue ones can't be told from the "
        "best. Open diamonds: the naive highest accuracy. Green line: the best configuration's "
        "score, with the luck of having been picked taken off as well. All configurations share "
        "the validation set, so limits that overlap may still be told apart.",
        description=f"Accuracy at the best epoch of the best {shown.height} configurations with "
        "95 % limits, beside the naive highest accuracy.",
        charts=[section_charts.scores(data, 100 * winner.nested)],
        data={"scores": data},
        table=ranked.select(
            pl.col("rank"),
            pl.col("point").alias("configuration"),
            pl.col("num_seeds").alias("seeds"),
            interval_text("score_nested", "accuracy at the best epoch, %"),
            fixed(100 * pl.col("score_naive"), 2).alias("naive, %"),
            with_limits(
                pl.lit(""), *[fixed(100 * pl.col(f"behind_{end}"), 2) for end in ("low", "high")]
            )
            .str.strip_chars(" ()")
            .alias("behind the best, pp"),
            pl.col("tied_with_best")
            .replace_strict({True: "yes", False: "no"}, return_dtype=pl.String, default=None)
            .alias("tied with the best"),
        ),
        notes=notes,
    )


def _ranked(analysis: Analysis) -> pl.DataFrame:
    return analysis.causes.ranking.join(
        analysis.points.select("config_id", "point"), on="config_id", maintain_order="left"
    )
