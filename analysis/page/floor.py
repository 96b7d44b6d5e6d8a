"""What a larger validation set would do to the jitter: an extrapolation, and said to be one."""

from typing import Any

import polars as pl

from analysis.measures.decomposition import examples_needed
from analysis.page.commands import run_again
from analysis.page.figures import Figure
from analysis.page.section_charts import larger_sets_chart
from analysis.page.verdict import MARGINS
from analysis.results import Analysis
from analysis.words import interval_text, pp

_FACTORS = (1, 2, 5, 10)
_TITLE = "What a larger validation set would give"

Row = dict[str, Any]


def larger_sets(row: Row, num_val: int) -> pl.DataFrame:
    """Extrapolate the jitter of one configuration to larger validation sets.

    The finite-set part goes with 1 / size and the population's stays, so the variance at factor f
    is (1 - 1/f) of the population's plus 1/f of the observed. The limits mix in the same way:
    those of the observed jitter at f = 1, those of the population's part beyond all f.

    Args: row: hf_sd and pop_var with limits, as fractions; num_val: examples at hand.
    Returns: factor, num_val, jitter, jitter_low, jitter_high (pp; from 0).
    """
    table = pl.DataFrame({"factor": _FACTORS}).with_columns(
        (pl.col("factor") * num_val).alias("num_val")
    )

    def mixed(observed: float | None, population: float | None) -> pl.Expr:
        if observed is None or population is None:
            return pl.lit(None, pl.Float64)
        share = 1 / pl.col("factor")
        variance = (1 - share) * population + share * observed**2
        return 100 * variance.clip(lower_bound=0).sqrt()

    return table.with_columns(
        mixed(row["hf_sd" + end], row["pop_var" + end]).alias("jitter" + end)
        for end in ("", "_low", "_high")
    )


def floor_figure(analysis: Analysis) -> Figure | None:
    """Draw the jitter by the size of the validation set.

    The best configuration is drawn (without scores, that of median jitter); all are in the table.

    Returns: None where no jitter is known.
    """
    measured = analysis.configurations.drop_nulls("hf_sd")
    if not measured.height:
        return None
    split = measured.drop_nulls(["pop_var", "fin_sd"]).sort("hf_sd", maintain_order=True)
    if not split.height:
        return _without_split(analysis)
    row, which = _drawn(analysis, split)
    size = analysis.overall.num_val
    data = larger_sets(row, size).with_columns(pl.col("^jitter.*$").round(4))
    last = data.row(-1, named=True)
    limits = ""
    if last["jitter_low"] is not None:
        limits = f" ({last['jitter_low']:.2f} to {last['jitter_high']:.2f})"
    every = pl.concat(
        larger_sets(one, size).with_columns(
            pl.lit(one["point"]).alias("configuration"), pl.col("^jitter.*$").clip(0)
        )
        for one in split.iter_rows(named=True)
    )
    return Figure(
        name="floor",
        title=_TITLE,
        finding=f"With {last['num_val']:,} validation examples instead of {size:,} the jitter "
        f"would be {last['jitter']:.2f} pp{limits} instead of {pp(row['hf_sd'])} pp{which}.",
        how="An extrapolation, not a measurement: the validation set's part is taken to shrink as "
        "one over its size, while the network's own movement stays. Band: 95 % limits. Dashed: "
        "what no validation set takes away. The numbers hold every configuration.",
        description="Line of the expected jitter at 1, 2, 5 and 10 times the validation set.",
        charts=[larger_sets_chart(data, 100 * max(row["pop_var"], 0) ** 0.5)],
        data={"larger": data},
        table=every.select(
            "configuration",
            pl.col("num_val").alias("validation examples"),
            interval_text("jitter", "jitter, pp", scale=1),
        ),
        notes=_needed(row),
    )


def _without_split(analysis: Analysis) -> Figure:
    epochs = int(analysis.trials["num_epochs"].max() or 0)  # pyright: ignore[reportArgumentType]
    longer = run_again(analysis, "--set", f"base.epochs={max(40, 2 * epochs)}")
    return Figure(
        name="floor",
        title=_TITLE,
        finding="The jitter can't be split into the network's and the validation set's part.",
        how="That takes validation blocks and flips of predictions at every epoch, and enough "
        "of both.",
        notes=[
            f"raysweep records the blocks by itself; more epochs give more flips: {longer}. For "
            "curves of other tools, give the columns `val_block_correct` and `val_block_n`."
        ],
    )


def _drawn(analysis: Analysis, split: pl.DataFrame) -> tuple[Row, str]:
    """The configuration that is drawn, and which one it is in words."""
    if split.height == 1:
        return split.row(0, named=True), ""
    best = analysis.causes.ranking.sort("rank", maintain_order=True)["config_id"].head(1)
    rows = split.filter(pl.col("config_id").is_in(best.implode()))
    if rows.height:
        row = rows.row(0, named=True)
        return row, f" (the best configuration, {row['point']})"
    row = split.row((split.height - 1) // 2, named=True)
    return row, f" ({row['point']}, the median of {split.height} by jitter)"


def _needed(row: Row) -> list[str]:
    """How many examples would tell two neighbouring epochs apart."""
    if not row["churn"]:
        return []
    needed = examples_needed(row["churn"], MARGINS.drop)
    return [
        f"To see a difference of {pp(MARGINS.drop, 1)} pp between two neighbouring epochs as two "
        f"standard errors takes about {needed:,} validation examples, since "
        f"{pp(row['churn'], 1)} % of the predictions flip from one to the next; epochs further "
        "apart flip more of them and take more."
    ]
