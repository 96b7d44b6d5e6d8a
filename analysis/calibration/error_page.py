"""Measured error rates -> the page docs/error-rates.md, its figure, and what the report tells."""

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import polars as pl

from analysis.calibration.rises import section as of_rises
from analysis.measures.cutoffs import shipped

Rows = list[dict[str, Any]]
FIGURE = "harm-power.svg"
_OPTIMIZER = "`noise: optimizer` or `both` with the population's part at the margin, 0.4 pp."


def page(rows: dict[str, Rows], command: str = "python -m analysis.calibration") -> str:
    """Args: rows of each part of analysis.calibration.error_rates."""
    made = shipped().made_by
    head = (
        f"Made by `{command}`; nothing here is written by hand. The cut-offs are from seed "
        f"{made['seed']} and {made['num_curves']:,} curves for each length and kind of noise "
        f"(version {made['version']}); all rates are from other seeds. In brackets: the limits "
        "of the rate (two-sided 95 %, Clopper and Pearson). A claim is a false positive where "
        "its effect is nothing, or at its margin, the worst case that it is not true in. "
        "Verdicts are those of single rows, before Benjamini-Hochberg."
    )
    one_seed = {
        "yes": "`overfit: yes` without a fall (the population's jitter is 0.4 pp at high "
        "frequency, plus what the validation set makes). At n = 5,000 of the "
        "accuracy alone, else of accuracy and refined loss.",
        "optimizer": _OPTIMIZER,
    }
    five_seeds = {
        "yes": "`overfit: yes` without a fall. The seeds share the validation set and half "
        "of the variance of each example's own movement, whose autocorrelation is "
        "that of the jitter, but at least 0.5. At n = 1,000 of the accuracy alone, "
        "at n = 200 of accuracy and refined loss.",
        "harm_p": "The test in accuracy, p <= 0.05, whatever the size of the fall.",
        "optimizer": _OPTIMIZER,
    }
    parts = [
        "# Error rates",
        head,
        *_flat(rows["flat_curves"]),
        *_cells(rows["one_seed"], "## Verdicts of one seed", one_seed),
        *_cells(rows["five_seeds"], "## Verdicts of five seeds on one validation set", five_seeds),
        "The test in accuracy where the population of each seed moves by 1 pp an epoch and the "
        "validation set by 0.22 pp:",
        _grid(rows["seeds_alone"], "cell", "AR", "AR", "seeds | epochs"),
        "## The validation set's part",
        "`noise: validation set` or `both` with the set's part at the margin, 0.4 pp, n = 1,000.",
        _grid(rows["validation_part"], "epochs", "memory", "memory of an example"),
        *_false(rows["false_claims"]),
        of_rises(rows["rises"]),
        *_confusion(rows["confusion"]),
        *_power(rows["power"]),
    ]
    return "\n\n".join(parts) + "\n"


# How the report's footer calls the claims; each one's cells are those of a part of error_rates.
CLAIMS = (
    ("overfits, one seed", "one_seed", "yes", "nothing is lost"),
    ("overfits, five seeds", "five_seeds", "yes", "nothing is lost"),
    ("the network itself moves, one seed", "one_seed", "optimizer", "its part is at the margin"),
    (
        "the network itself moves, five seeds",
        "five_seeds",
        "optimizer",
        "its part is at the margin",
    ),
    ("the validation set moves it", "validation_part", None, "its part is at the margin"),
)


def summary(rows: dict[str, Rows]) -> dict[str, Rows]:
    """What the report's footer tells, as page/thresholds.py reads it: false claims at their
    worst, and how often a class is told."""
    claims: Rows = []
    for words, part, claim, truth in CLAIMS:
        cells = [row for row in rows[part] if (claim is None or row["claim"] == claim)]
        worst = max(cells, key=lambda row: row["rate"])
        kept = {name: worst[name] for name in ("rate", "low", "high", "num", "epochs")}
        claims.append({"claim": words, "truth": truth, "cells": len(cells), **kept})
    told: Rows = []
    for (label, truth, made_of), by_seeds in _by_class(rows["confusion"]).items():
        rates = {
            str(num): sum(row["rate"] for row in given if row["given"] == truth)
            for num, given in by_seeds.items()
        }
        told.append({"label": label, "truth": truth, "made_of": made_of, "seeds": rates})
    return {"claims": claims, "told": told}


def figure(power: Rows) -> alt.FacetChart:
    """Power against the fall, a panel per number of epochs, a line per number of seeds."""
    frame = pl.DataFrame(power).select(
        "epochs", "seeds", (100 * pl.col("true")).alias("true"), "rate"
    )
    return (
        alt.Chart(frame)
        .mark_line(point=True)
        .encode(
            x=alt.X("true:Q", title="true fall, pp"),
            y=alt.Y("rate:Q", title="found", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("seeds:O", title="seeds"),
        )
        .properties(width=180, height=160)
        .facet(column=alt.Column("epochs:O", title="epochs"))
    )


def _flat(rows: Rows) -> list[str]:
    pure = [row for row in rows if not row["white"]]
    mixed = [
        row | {"kind": f"AR {row['AR']:g} and {100 * row['white']:.0f} % independent"}
        for row in rows
        if row["white"]
    ]
    return [
        "## Harm test of one seed on flat curves",
        "p <= 0.05 on flat curves with AR(1) noise. The cut-offs are set at 4 % for the worst kind "
        "of noise, so they are far on the safe side for the others.",
        _grid(pure, "epochs", "AR", "AR"),
        "AR(1) plus independent noise, whose lag-1 autocorrelation hides how slow a part of it is:",
        _grid(mixed, "epochs", "kind", ""),
    ]


def _false(rows: Rows) -> list[str]:
    """The worst cell of each claim, all cells counted."""
    body = []
    for claim in dict.fromkeys(row["claim"] for row in rows):
        cells = [row for row in rows if row["claim"] == claim]
        worst = max(cells, key=lambda row: (row["low"], row["rate"]))
        where = f"{worst['kind']}, {worst['schedule']}, T = {worst['epochs']}, n = {worst['n']:,}"
        mean = sum(row["rate"] for row in cells) / len(cells)
        body.append((claim, _percent(worst), where, f"{100 * mean:.2f}"))
    cells = len(rows) // len(body)
    kinds = ", ".join(dict.fromkeys(row["kind"] for row in rows))
    schedules = ", ".join(dict.fromkeys(row["schedule"] for row in rows))
    return [
        "## Kinds of noise and schedules",
        "One seed; accuracy, loss, training accuracy in eval mode and n are known. Nothing is "
        f"lost, so each claim is false. {cells} cells with {rows[0]['num']:,} configurations each: "
        "noise "
        f"of the population's accuracy and of the loss ({kinds}), schedules of the learning rate "
        f"({schedules}), T of 12 to 300, n of 200 to 10,000. The worst cell of each claim, and the "
        "mean over all cells:",
        _table(("claim", "worst cell, %", "which", "mean, %"), body),
    ]


def _cells(rows: Rows, title: str, claims: dict[str, str]) -> list[str]:
    out = [title]
    for claim, text in claims.items():
        of_claim = [row for row in rows if row["claim"] == claim]
        worst = max(of_claim, key=lambda row: row["low"])
        num = max(row["num"] for row in of_claim)
        some = [row | {"cell": f"{row['n']:,} | {row['epochs']}"} for row in of_claim]
        out += [
            text,
            _grid(some, "cell", "AR", "AR", "n | epochs"),
            f"Largest lower limit: {100 * worst['low']:.1f} % (n = {worst['n']:,}, "
            f"{worst['epochs']} epochs, AR {worst['AR']:g}); {num:,} configurations a cell.",
        ]
    return out


def _confusion(rows: Rows) -> list[str]:
    seeds = list(dict.fromkeys(row["seeds"] for row in rows))
    body = []
    for key, told in _by_class(rows).items():
        right = [
            next((_percent(row) for row in told[num] if row["given"] == key[1]), "0.0")
            for num in seeds
        ]
        others = [
            f"{row['given']} {_percent(row, limits=False)} %"
            for row in sorted(told[seeds[0]], key=lambda row: -row["rate"])
            if row["given"] != key[1]
        ]
        body.append((*key, *right, "; ".join(others)))
    return [
        "## Verdicts of trials of known class",
        "60 epochs, 1,000 validation examples. A row is a class, what it is made of, and in how "
        "many percent of the configurations the right label is given, by the number of seeds. "
        f"{_of_one_seed(rows):,} trials a cell, so as many configurations of one seed, and an "
        "eighth of that of eight. The last column is what else was said with one seed. Where one "
        "seed is not enough and why: "
        "[labels](method/verdict.md).",
        _table(
            (
                "label",
                "true class",
                "made of",
                *[f"{num} seed{'s' * (num > 1)}" for num in seeds],
                "given else, 1 seed",
            ),
            body,
        ),
    ]


def _of_one_seed(rows: Rows) -> int:
    return max(row["num"] for row in rows if row["seeds"] == 1)


def _by_class(rows: Rows) -> dict[tuple[str, str, str], dict[int, Rows]]:
    """(label, true class, made of) -> number of seeds -> the rows of all labels given."""
    found: dict[tuple[str, str, str], dict[int, Rows]] = {}
    for row in rows:
        by_seeds = found.setdefault((row["label"], row["truth"], row["made_of"]), {})
        by_seeds.setdefault(row["seeds"], []).append(row)
    return found


def _power(rows: Rows) -> list[str]:
    cells = [
        row | {"cell": f"{row['epochs']} | {row['seeds']}", "fall": 100 * row["fall"]}
        for row in rows
    ]
    missed = max(rows, key=lambda row: row["missed_high"])
    return [
        "## Power of the harm test in accuracy",
        "Share of configurations with p <= 0.05 where the population's accuracy falls linearly "
        "from 30 % of training on, by so many pp; n = 1,000, jitter 0.4 pp, the set's part "
        "0.43 pp. The fall of the window means, which the test reads, is a little smaller.",
        f"![Power against the fall]({FIGURE})",
        _grid(cells, "cell", "fall", "fall, pp", "epochs | seeds", limits=False),
        "The upper limit of the drop, of which 5 % may lie below the true fall, does so in at most "
        f"{100 * missed['missed_high']:.1f} % ({missed['epochs']} epochs, {missed['seeds']} seeds, "
        f"{100 * missed['fall']:g} pp).",
    ]


def _percent(row: dict[str, Any], *, limits: bool = True) -> str:
    if not row["num"]:
        return "none"
    text = f"{100 * row['rate']:.1f}"
    return f"{text} ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if limits else text


def _grid(
    rows: Rows, down: str, across: str, name: str, corner: str | None = None, *, limits: bool = True
) -> str:
    """Rates in percent; `corner` may hold several columns' heads, as the rows do."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    heads = [f"{name} {c:g}" if isinstance(c, float) else f"{name} {c}".strip() for c in columns]
    body = []
    for key in dict.fromkeys(row[down] for row in rows):
        at = {row[across]: _percent(row, limits=limits) for row in rows if row[down] == key}
        body.append((*str(key).split(" | "), *(at.get(c, "") for c in columns)))
    return _table((*(corner or down).split(" | "), *heads), body)


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
