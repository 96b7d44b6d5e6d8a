"""Trials that a scheduler stopped: curves that are cut short because they did worse than others.

Every estimate is of completed trials alone, so a cut curve is never compared with a whole one. What
that leaves behind is a selection, which has to be said wherever it matters.
"""

import polars as pl

STOPPED = "stopped"  # the outcome of such a trial


def check(trials: pl.DataFrame) -> tuple[str, int, str]:
    """A row of data quality. Args: trials: with `status`, as a store has it."""
    number = trials.filter(pl.col("status") == STOPPED).height
    detail = (
        "censored curves: drawn, and left out of every estimate; those that went on look better"
    )
    return "trials stopped by the scheduler", number, detail if number else ""


def whole_configuration() -> pl.Expr:
    """Configurations of which no seed was trained to its end, because the scheduler stopped it."""
    others = pl.col("num_completed") + pl.col("num_diverged")
    return (others == 0) & (pl.col("num_stopped") > 0)


def labelled(judged: pl.DataFrame, stopped: pl.Expr) -> pl.DataFrame:
    """Verdicts, with those of what was stopped called so."""
    words = {"status": STOPPED, "reason": "The scheduler stopped it: its curve is cut short."}
    return judged.with_columns(
        pl.when(stopped).then(pl.lit(word)).otherwise(pl.col(name)).alias(name)
        for name, word in words.items()
    )


def sentences(table: pl.DataFrame) -> list[str]:
    """What was stopped. Args: table: of configurations."""
    number = int(table["num_stopped"].sum())
    if not number:
        return []
    said = [f"{number} of {int(table['num_seeds'].sum())} trials; they are in no estimate."]
    whole = table.filter(whole_configuration())
    if whole.height:
        more = f" and {whole.height - 3} more" if whole.height > 3 else ""
        said.append(
            f"Every seed that was trained of {whole.height} configuration"
            f"{'s' * (whole.height > 1)}: {', '.join(whole['point'][:3])}{more}."
        )
    part = table.filter((pl.col("num_stopped") > 0) & (pl.col("num_completed") > 0)).height
    if part:
        said.append(
            f"Some seeds of {part}, whose means are of the seeds that went on, and too good."
        )
    return said
