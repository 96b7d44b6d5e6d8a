"""What a loss alone, or any score, says of itself: a label, a short form and a clause."""

from typing import NamedTuple

import polars as pl

from analysis.labels import Course
from analysis.verdicts.margins import Margins
from analysis.verdicts.templates import Rule, first


class _Metric(NamedTuple):
    """Columns of one metric: `of` is what those of its course begin with, `end` those of its
    end; `form` prints the latter."""

    label: str
    subject: str
    of: str
    end: str
    form: str


_SHARE = _Metric("loss", "the validation loss", "run_loss", "run_loss_rise", ":1} %")
# A loss that is not above 0 everywhere has no share, and is judged as a score is.
_UNIT = _Metric("loss", "the validation loss", "run_loss", "run_loss_rise_abs", ":unit}")
_SCORE = _Metric("score", "the score", "score", "score_fall", ":unit}")


_PARTICIPLE = {"rose": "risen", "got worse": "got worse"}
_ROUNDING = 1e-6  # of the level
_MAIN = {
    "course": "course",
    "course_p": "course_p",
    "course_promise": "promise",
    "course_said": "said",
    "course_reason": "reason",
}


def with_courses(rows: pl.DataFrame, m: Margins) -> pl.DataFrame:
    """Add what the loss and the score of each row do after their best windows.

    loss_course, score_course: of Course; null where no such curve is known. loss_said, score_said:
    short, with the number. loss_reason, score_reason: a clause. loss_course_p, score_course_p:
    p-values of "gets worse". loss_promise, score_promise: what longer training would gain, as a
    share of _scale(). course, course_p, course_promise, course_said, course_reason: of the score,
    or of the loss where there is none.

    Args: rows: of measured(); m: the margins of the claims.
    """
    share = pl.col("run_loss_rise").is_not_null()
    parts: list[pl.Expr] = []
    for metric, other in ((_SHARE, _UNIT), (_SCORE, _SCORE)):
        found = [
            pl.when(share).then(one).otherwise(two) if metric != other else one
            for one, two in zip(_told(metric, m), _told(other, m), strict=True)
        ]
        parts += [
            part.alias(f"{metric.label}_{name}")
            for part, name in zip(found, _MAIN.values(), strict=True)
        ]
    rows = rows.with_columns(parts)
    of_score = pl.col("score_fall").is_not_null()
    return rows.with_columns(
        pl.when(of_score).then(f"score_{name}").otherwise(f"loss_{name}").alias(ours)
        for ours, name in _MAIN.items()
    )


def _told(metric: _Metric, m: Margins) -> tuple[pl.Expr, ...]:
    """The label, the p-value of "gets worse", the promise, the short form and the clause."""
    end, high = pl.col(metric.end), pl.col(f"{metric.end}_high")
    margin = pl.lit(m.course) if metric == _SHARE else m.course * _scale(metric)
    # A curve that lies still has a limit of no more than rounding.
    small = (end < margin) | (end <= 0)
    bounded = (high < 2 * margin) | (high <= _ROUNDING * pl.col(f"{metric.of}_best").abs())
    p = "run_loss_rise_p" if metric.label == "loss" else "score_fall_p"
    sure = pl.col(p) <= m.level
    label = (
        pl.when(end.is_null())
        .then(None)
        .when(sure & (end >= margin))
        .then(pl.lit(Course.WORSE))
        .when(sure)
        .then(pl.lit(Course.SLIGHTLY))
        .when(pl.col(f"{metric.of}_slope_low") > 0)
        .then(pl.lit(Course.IMPROVES))
        .when(small & bounded)
        .then(pl.lit(Course.HOLDS))
        .when(small)
        .then(pl.lit(Course.NOT_SHOWN))
        .otherwise(pl.lit(Course.MAY))
    )
    claimed = pl.when(end >= margin).then(p).when(pl.col(p).is_not_null()).then(1.0)
    promise = pl.col(f"{metric.of}_projected_gain") / (
        pl.col(f"{metric.of}_best") if metric == _SHARE else _scale(metric)
    )
    return label, claimed, promise, first(_short(metric, label)), first(_sentences(metric, label))


def _scale(metric: _Metric) -> pl.Expr:
    """What a change of a score is held against: its best level, or what it gained if that is less.

    A score that is never better than at its start has gained nothing; then any sure change counts.
    """
    level = pl.col(f"{metric.of}_best").abs()
    return pl.min_horizontal(level, pl.col(f"{metric.of}_gain").clip(0))


def _short(metric: _Metric, label: pl.Expr) -> list[Rule]:
    end, low, high = _numbers(metric)
    worse = "rose" if metric.label == "loss" else "got worse"
    return [
        (label.is_in([Course.WORSE, Course.SLIGHTLY]), f"{worse} by at least {low}"),
        (label == Course.IMPROVES, "still improves"),
        (label == Course.HOLDS, f"{worse} by at most {high}"),
        (label == Course.NOT_SHOWN, f"not shown to have {_PARTICIPLE[worse]}; at most by {high}"),
        (label == Course.MAY, f"{worse} by {end}, which may be noise; at most by {high}"),
    ]


def _sentences(metric: _Metric, label: pl.Expr) -> list[Rule]:
    end, low, high = _numbers(metric)
    jitter = f"{{{metric.of}_jitter:unit}}"
    best = f"its best is near epoch {{{metric.of}_best_epoch:count}}"
    since = f"for sure from epoch {{{metric.of}_worse_from:count}} on"
    above = "above" if metric.label == "loss" else "worse than"
    noise = f"one evaluation scatters by {jitter}"
    return [
        (
            label == Course.WORSE,
            f"{metric.subject} gets worse: it ends {end} {above} its best (at least {low}), "
            f"{since}; {best}",
        ),
        (
            label == Course.SLIGHTLY,
            f"{metric.subject} gets slightly worse: it ends {end} {above} its best (at least {low})"
            f", {since}; {best}",
        ),
        (
            label == Course.IMPROVES,
            f"{metric.subject} still improves: by {{{metric.of}_slope:unit}} an epoch at the end "
            f"(at least {{{metric.of}_slope_low:unit}})",
        ),
        (
            label == Course.HOLDS,
            f"{metric.subject} holds: it ends at most {high} {above} its best, and {noise}",
        ),
        (
            label == Course.NOT_SHOWN,
            f"no worsening is shown: {metric.subject} ends at most {high} {above} its "
            f"best, and {noise}",
        ),
        (
            label == Course.MAY,
            f"{metric.subject} may get worse: it ends {end} {above} its best (at most {high}), but "
            f"{noise}, which can make that",
        ),
    ]


def _numbers(metric: _Metric) -> list[str]:
    """Templates of the estimate and of its limits."""
    return [f"{{{metric.end}{limit}{metric.form}" for limit in ("", "_low", "_high")]
