"""The numbers of a sweep's answer: what moves, whose noise it is, what overfits, what to turn.

All of it is of the configurations that matter: those that trained and tie with the best. A setting
that diverged or lost what it had learnt would make the sweep's jitter its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from analysis.causes.effects import JITTERS
from analysis.causes.late import pooled
from analysis.causes.pooled import Causes
from analysis.causes.regions import Region, regions
from analysis.causes.trained import comes_apart
from analysis.labels import Outcome, Overfit, Status
from analysis.stats.intervals import LEVEL
from analysis.verdicts.margins import Margins

_MARGINS = Margins()
_FACTOR = 10  # of the validation set, in what a larger one would give
_ALIKE = (0.8, 1.25)  # the ratio of jitters that is taken for none


class Jitter(NamedTuple):
    """The jitter of some configurations together; SDs and shares as fractions, None if unknown.

    sd: from epoch to epoch, around the trend; share: of its variance the validation set's part;
    set_sd, network_sd: what the set makes by itself, and what is left; set_most: the most that so
    many examples can make, which takes no blocks
    """

    sd: float
    sd_low: float
    sd_high: float
    share: float | None
    share_low: float | None
    share_high: float | None
    set_sd: float | None
    set_most: float | None
    network_sd: float | None
    larger_sd: float | None  # with a validation set _FACTOR times as large
    larger_low: float | None
    larger_high: float | None


class Calmer(NamedTuple):
    """A configuration that ties with the best and moves less in the second half of training.

    before, after: the late jitter of the best configuration and of this one, SDs as fractions;
    ratio, low, high: of the two; the limits allow for the choice of the calmest of all that tie
    """

    config_id: str
    before: float
    after: float
    ratio: float
    low: float
    high: float


class Averaged(NamedTuple):
    """What averaged weights do in the configurations that matter, over the second half.

    ratio, low, high: of the SDs of the jitter; gain and its limits: of the accuracy, a fraction
    """

    kind: str
    ratio: float
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    num_trials: int


class Score(NamedTuple):
    """What the best configuration is worth at its best epoch, without the luck of the choice.

    naive: as its curves show it; nested, low, high: chosen and read on different examples
    """

    naive: float
    nested: float
    low: float
    high: float

    @property
    def flatters(self) -> float:
        """By how much the best epoch reads too high."""
        return self.naive - self.nested


class Lost(NamedTuple):
    """Configurations that diverged, came apart or learnt nothing, and how many of their runs.

    num_diverged, num_unlearnt: runs that diverged, and others that lost what they had learnt or
    learnt nothing; num_runs: all that finished
    """

    region: Region
    num_diverged: int
    num_unlearnt: int
    num_runs: int


class Overall(NamedTuple):
    """The answer of a sweep in numbers.

    matters: config_ids, the best first; tied: whether they tie with the best, which takes
        validation blocks; otherwise they are all that trained
    jitter, late: over all epochs after burn-in, and over the second half of training
    num_val: validation examples; 0 where that is not known
    seeds_low, seeds_high: the smallest and the largest SD between the seeds of one of them
    overfits, falls: config_ids that overfit, or end worse than they were, corrected for the number
        of configurations
    spared, loss_spared: how many have a fall of accuracy beyond the margin excluded, and of these
        a rise of the loss as well
    num_judged: configurations with an answer on overfitting
    calmer, averaged: None where nothing is known or nothing helps
    score: of the best configuration; None where no luck can be taken off
    lost: what never to use; rising: regions that are still learning
    inert: axes that change neither accuracy nor jitter by an amount that matters
    """

    matters: tuple[str, ...]
    tied: bool
    jitter: Jitter | None
    late: Jitter | None
    num_val: int
    seeds_low: float | None
    seeds_high: float | None
    overfits: tuple[str, ...]
    falls: tuple[str, ...]
    spared: int
    loss_spared: int
    num_judged: int
    calmer: Calmer | None
    averaged: Averaged | None
    score: Score | None
    lost: tuple[Lost, ...]
    rising: tuple[Region, ...]
    inert: tuple[str, ...]


def overall(
    configurations: pl.DataFrame,
    trials: pl.DataFrame,
    points: pl.DataFrame,
    axes: Sequence[str],
    effects: pl.DataFrame,
    found: Causes,
    components: Mapping[str, pl.DataFrame],
) -> Overall:
    """Collect the numbers of the answer.

    Args: configurations, trials, points, effects, found: as an Analysis has them; axes: names of
        what varies; components: rows of jitter_components() with config_id: `all` epochs, and the
        `late` ones.
    """
    matters = found.matters
    score = _score(found)
    spread = (
        trials.filter(pl.col("config_id").is_in(matters) & (pl.col("outcome") == "completed"))
        .group_by("config_id")
        .agg(pl.col("kept_accuracy").std().alias("sd"))["sd"]
        .drop_nulls()
    )
    judged = configurations.drop_nulls("overfit")
    fallen = configurations.filter(pl.col("overfit_among") == Overfit.ENDS_WORSE)
    spared = judged.filter(
        pl.col("overfit").is_in(
            [Overfit.NO, Overfit.NO_ACCURACY, Overfit.OVER_CONFIDENT, Overfit.LOSS_ALONE]
        )
    )
    rising = configurations.filter(pl.col("status") == Status.STILL_LEARNING)["config_id"]
    return Overall(
        matters=matters,
        tied=found.tied,
        jitter=_jitter(pooled(components["all"], matters)),
        late=_jitter(pooled(components["late"], matters)),
        num_val=int(trials["n_val"].max() or 0),  # pyright: ignore[reportArgumentType]
        seeds_low=None if not len(spread) else float(spread.min()),  # pyright: ignore[reportArgumentType]
        seeds_high=None if not len(spread) else float(spread.max()),  # pyright: ignore[reportArgumentType]
        overfits=tuple(configurations.filter(pl.col("overfit_among") == Overfit.YES)["config_id"]),
        falls=tuple(fallen["config_id"]),
        spared=spared.height,
        loss_spared=spared.filter(pl.col("overfit") == Overfit.NO).height,
        num_judged=judged.height,
        calmer=_calmer(_of_one_length(matters, configurations), components["late"]),
        averaged=_averaged(found.averaging),
        score=score,
        lost=_lost(configurations, trials, points, axes),
        rising=tuple(regions(points, axes, rising)),
        inert=tuple(name for name in axes if _is_inert(effects.filter(axis=name))),
    )


def _score(found: Causes) -> Score | None:
    winner = found.winner
    if not found.matters or winner is None:
        return None
    if winner.config_id == found.matters[0] and np.isfinite(winner.nested):
        return Score(winner.naive, winner.nested, winner.nested_low, winner.nested_high)
    names = ("score_naive", "score_nested", "score_nested_low", "score_nested_high")
    rows = found.ranking.filter(config_id=found.matters[0]).select(names).drop_nulls()
    return Score(*rows.row(0)) if rows.height else None


def _jitter(row: Mapping[str, float | None]) -> Jitter | None:
    sd = row["hf_sd"]
    if sd is None:
        return None
    share, population = row["finite_share"], row["pop_var"]
    larger: list[float | None] = [None, None, None]
    if population is not None:
        # The set's part goes with one over its size, and the network's stays.
        larger = [_mixed(row["hf_sd" + end], row["pop_var" + end]) for end in ("", "_low", "_high")]
    return Jitter(
        sd,
        row["hf_sd_low"] or 0.0,
        row["hf_sd_high"] or np.inf,
        None if share is None else min(max((sd**2 - (population or 0)) / sd**2, 0.0), 1.0),
        row["finite_share_low"],
        row["finite_share_high"],
        row["fin_sd"],
        min((row[name] for name in _MOST if row[name] is not None), default=None),  # pyright: ignore[reportArgumentType]
        None if population is None else max(population, 0.0) ** 0.5,
        *larger,
    )


_MOST = ("set_sd_most", "fin_sd_most")


def _mixed(sd: float | None, population: float | None) -> float | None:
    if sd is None or population is None:
        return None
    return max((1 - 1 / _FACTOR) * population + sd**2 / _FACTOR, 0.0) ** 0.5


def _of_one_length(matters: Sequence[str], configurations: pl.DataFrame) -> list[str]:
    """Those that train as long as the best one: the second half of a shorter run is earlier."""
    lengths = dict(configurations.select("config_id", "mean_epochs").iter_rows())
    first = lengths.get(matters[0]) if matters else None
    return [name for name in matters if lengths.get(name) == first]


def _calmer(matters: Sequence[str], late: pl.DataFrame) -> Calmer | None:
    """The calmest that ties with the best, if it is calmer for sure."""
    if len(matters) < 2:
        return None
    names = JITTERS["jitter"]
    rows = {name: pooled(late, [name]) for name in matters}
    known = {
        name: (float(row["hf_sd"] or 0) ** 2, float(row["hf_df"] or 0))
        for name, row in rows.items()
        if row.get(names[1])
    }
    first = known.get(matters[0])
    others = {name: known[name] for name in matters[1:] if name in known}
    if first is None or not others or first[0] <= 0:
        return None
    name = min(others, key=lambda one: others[one][0])
    variance, df = others[name]
    tail = (1 - LEVEL) / 2 / len(others)
    ratio = variance / first[0]
    low, high = (float(np.sqrt(ratio / stats.f.isf(at, df, first[1]))) for at in (tail, 1 - tail))
    if high >= 1:
        return None
    return Calmer(name, first[0] ** 0.5, variance**0.5, ratio**0.5, low, high)


def _averaged(table: pl.DataFrame) -> Averaged | None:
    """The recorded kind of averaged weights, where it calms for sure and loses nothing for sure."""
    recorded = table.drop_nulls("hf_ratio").filter(~pl.col("weights_kind").str.starts_with("raw"))
    if not recorded.height:
        return None
    row = recorded.sort("hf_ratio", maintain_order=True).row(0, named=True)
    ratio, low, high = (
        None if row[name] is None else max(row[name], 0.0) ** 0.5 for name in _RATIO
    )
    return Averaged(
        row["weights_kind"],
        ratio or 0.0,
        low,
        high,
        row["accuracy_gain"],
        row["accuracy_gain_low"],
        row["accuracy_gain_high"],
        row["num_trials"],
    )


_RATIO = ("hf_ratio", "hf_ratio_low", "hf_ratio_high")


def _lost(
    configurations: pl.DataFrame, trials: pl.DataFrame, points: pl.DataFrame, axes: Sequence[str]
) -> tuple[Lost, ...]:
    unlearnt = comes_apart() | (pl.col("status") == Status.AT_CHANCE).fill_null(value=False)
    bad = configurations.filter((pl.col("num_diverged") > 0) | unlearnt)["config_id"]
    done = trials.filter(pl.col("outcome").is_in([Outcome.COMPLETED, Outcome.DIVERGED]))
    diverged = pl.col("outcome") == Outcome.DIVERGED
    found: list[Lost] = []
    for region in regions(points, axes, bad):
        runs = done.filter(pl.col("config_id").is_in(region.config_ids))
        counts = runs.select(
            diverged.sum().alias("diverged"), (unlearnt & ~diverged).sum().alias("unlearnt")
        )
        num_diverged, num_unlearnt = map(int, counts.row(0))
        found.append(Lost(region, num_diverged, num_unlearnt, runs.height))
    return tuple(found)


def _is_inert(effects: pl.DataFrame) -> bool:
    """Whether all limits of a knob's effects lie where they do not matter."""
    rows = effects.filter(scope="pooled")
    ratios = rows.filter(pl.col("response") == "late_jitter")
    gains = rows.filter(pl.col("response") == "final_accuracy")
    if not ratios["high"].count() or not gains["high"].count():
        return False
    calm = ((ratios["low"] > _ALIKE[0]) & (ratios["high"] < _ALIKE[1])).all()
    alike = ((gains["low"] > -_MARGINS.drop) & (gains["high"] < _MARGINS.drop)).all()
    return (
        bool(calm) and bool(alike) and not ratios["high"].null_count() + gains["high"].null_count()
    )
