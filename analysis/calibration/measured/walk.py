"""The curves that docs/method/verdict.md walks through, and what the tool says of them.

raysweep run digits; raysweep run small-validation; raysweep run label-noise
python -m analysis.calibration.measured.walk [FOLDER OF THE STORES, results]
"""

import sys
from pathlib import Path

import altair as alt
import polars as pl

from analysis import analyze
from analysis.answer.sweep import names_of
from analysis.page.verdict import said, settings_rows

SHOWN = {
    "digits": "batch 512 · lr 0.3 · wd 0 · dropout 0",
    "small-validation": "lr 0.03",
    "label-noise": "wd 0 · dropout 0",
}
FIGURE = Path(__file__).parents[3] / "docs" / "walk.svg"


def main() -> None:
    """Prints the sentences of the report, and draws docs/walk.svg."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    parts: list[pl.DataFrame] = []
    for name, point in SHOWN.items():
        found = analyze(folder / name)
        rows = settings_rows(found, names_of(found))
        row = next(one for one in rows if one["point"] == point)
        print(f"{name}, {point}\n{said(row, found.overall.num_val)}\n")
        raw = found.epochs.filter(weights_kind="raw", config_id=row["config_id"])
        parts.append(
            raw.select(
                pl.lit(f"{name}: {point}").alias("curve"),
                pl.col("seed").cast(pl.String),
                "epoch",
                (100 * pl.col("val_accuracy")).alias("accuracy"),
            ).sort("seed", "epoch")
        )
    curves = pl.concat(parts).filter(pl.col("epoch") >= 6)
    chart = (
        alt.Chart(curves)
        .mark_line(strokeWidth=1)
        .encode(
            x=alt.X("epoch:Q"),
            y=alt.Y("accuracy:Q", title="validation accuracy, %", scale=alt.Scale(zero=False)),
            color=alt.Color("seed:N", legend=None),
        )
        .properties(width=270, height=170)
        .facet(
            alt.Facet("curve:N", title=None, sort=list(curves["curve"].unique(maintain_order=True)))
        )
        .resolve_scale(x="independent", y="independent")
    )
    chart.save(FIGURE)


main()
