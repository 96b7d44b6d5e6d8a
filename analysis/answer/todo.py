"""What to do about a run, with the measured effect; and which checkpoint to keep."""

from itertools import pairwise

import numpy as np

from analysis.answer.answer import Checkpoint, Finding, Todo
from analysis.answer.courses import Course
from analysis.answer.facts import ACCURACY, LOSS, Facts
from analysis.answer.sentences import HARMED, least_lost, loss_rises
from analysis.labels import Noise, Overfit, Status
from analysis.words import pp

MOST = 5  # things to do
_CALM = 0.5  # of the jitter: where the second half moves less, the jitter is early


def to_do(
    facts: Facts, main: Course | None, others: list[Course], found: set[Finding]
) -> tuple[Todo, ...]:
    """List what to do, the most urgent thing first."""
    if Finding.CONSTANT in found:
        return (Todo("Mend the metric, or look at what the validation set holds."),)
    if Finding.DIVERGED in found:
        return (Todo("Lower the learning rate, warm it up, or clip gradients."),)
    if Finding.AT_CHANCE in found:
        return (Todo("Try another learning rate: at this one nothing is learnt."),)
    if main is None:
        return ()
    if Finding.COMES_APART in found:
        return (Todo("Lower the learning rate or clip gradients: training comes apart."),)
    some = [*_harm(facts, main, others, found), *_noise(facts), *_more(facts, main, found)]
    if not some and facts.status == Status.OK and _all_judged(facts):
        some = [Todo("Nothing: neither noise nor overfitting stands in the way.")]
    return tuple(some[:MOST])


def _all_judged(facts: Facts) -> bool:
    return facts.row.get("noise") in (Noise.NONE, Noise.NO_JITTER, Noise.SMALL) and facts.row.get(
        "overfit"
    ) in (Overfit.NO, Overfit.NO_ACCURACY)


def _harm(facts: Facts, main: Course, others: list[Course], found: set[Finding]) -> list[Todo]:
    some: list[Todo] = []
    if Finding.OVERFITTING in found:
        at = facts.place(main.best_at)
        if main.series.role == ACCURACY and facts.row.get("overfit") not in HARMED:
            rise = 100 * (facts.number("run_loss_rise") or 0)
            loss = facts.of(LOSS)
            at = facts.place(loss.best if loss and loss.best is not None else main.best_at)
            effect = f"the validation loss rose by {rise:.0f} % since its lowest level"
            some.append(Todo(f"Stop near {at}, where the loss is lowest.", effect))
        else:
            some.append(Todo(f"Stop near {at}, or keep its weights.", _what_is_lost(facts, main)))
        if facts.row.get("overfit") != Overfit.RUN_FELL:
            some.append(Todo("Regularise more: weight decay, dropout, augmentation, more data."))
    loss = next((one for one in others if one.series.role == LOSS), None)
    if main.series.role != LOSS and loss is not None and loss_rises(facts):
        lowest = loss.series.best if loss.series.best is not None else loss.best_at
        cost = main.end - main.series.values[lowest]
        cost = -cost if main.series.lower_is_better else cost
        if cost > 0 and Finding.OVERFITTING not in found:
            unit = f"{pp(cost, 1)} pp" if main.series.is_share else main.series.said(cost, digits=2)
            some.append(
                Todo(
                    f"Judge by the {_short(main)}, not by the loss.",
                    f"stopping at the lowest loss, {facts.place(lowest)}, would cost {unit}",
                )
            )
        if main.series.role == ACCURACY:
            some.append(
                Todo("Where probabilities count, fit a temperature, smooth labels or stop sooner.")
            )
    return some


def _short(main: Course) -> str:
    return main.series.words.removeprefix("validation ")


def _what_is_lost(facts: Facts, main: Course) -> str | None:
    if main.series.role == ACCURACY:
        drop, least = facts.number("drop"), least_lost(facts)
        sure = f", at least {pp(least, 1)}" if pp(least, 1) != "0.0" else ""
        return f"{pp(drop, 1)} pp were lost since{sure}" if drop else None
    lost = main.series.said(main.worse or 0, digits=2)
    return f"{lost} were lost since, at least {main.series.said(main.worse_low or 0, digits=2)}"


def _noise(facts: Facts) -> list[Todo]:
    """What calms the jitter of an accuracy."""
    noise, sd, late = facts.row.get("noise"), facts.number("hf_sd"), facts.number("late_hf_sd")
    if facts.main.role != ACCURACY or sd is None:
        return []
    some: list[Todo] = []
    if noise in (Noise.OPTIMIZER, Noise.BOTH, Noise.SOME_OPTIMIZER):
        if late is not None and late < _CALM * sd:
            text = "Warm the learning rate up, or pay no heed: the jitter calms down by itself."
            some.append(Todo(text, f"{pp(sd)} pp in all, {pp(late)} pp in the second half"))
        else:
            text = "Lower or decay the learning rate, take a larger batch, or average the weights."
            some.append(Todo(text, f"the network makes most of {pp(sd)} pp"))
    if noise in (Noise.VALIDATION_SET, Noise.BOTH, Noise.SET_SUFFICES) and facts.num_val:
        can = facts.number("set_sd_most") or facts.number("fin_sd")
        effect = None
        if can:
            effect = f"{facts.num_val:,} can make {pp(can)} pp; four times as many, half of that"
        some.append(
            Todo("Validate on more examples, or judge by the mean of several epochs.", effect)
        )
    if noise == Noise.SLOW_WANDER:
        some.append(Todo("Decay the learning rate, and judge by the mean of many epochs."))
    if noise == Noise.SPIKES:
        some.append(
            Todo("Look at the epochs that stand out: clip gradients, or see their batches.")
        )
    return some


def _more(facts: Facts, main: Course, found: set[Finding]) -> list[Todo]:
    if Finding.STILL_LEARNING in found:
        gain = facts.number("projected_gain")
        effect = f"as many epochs again promise up to {pp(gain, 1)} pp" if gain else None
        return [Todo("Train longer before judging the rest.", effect)]
    if main.series.role != ACCURACY and main.improves and not main.gets_worse:
        last = facts.place(len(main.series.at) - 1)
        return [Todo("Train longer: it was still at its best at the end.", f"best level: {last}")]
    return []


def checkpoint(facts: Facts, found: set[Finding]) -> Checkpoint | None:
    """Say which evaluation's weights to keep; None where there is nothing to choose from."""
    if facts.kept is None or found & {Finding.CONSTANT, Finding.AT_CHANCE}:
        return None
    if facts.num_seeds > 1:
        return None  # each seed has weights of its own
    series, told = facts.main, facts.kept
    keep, best = int(told.keep[0]), int(told.best[0])
    tied = [int(n) for n in np.flatnonzero(told.tied[0])]
    flatters = float(told.flatters[0])
    others = _ranges([n for n in tied if n != keep], facts)
    unit = f"{pp(flatters, 1)} pp" if series.is_share else series.said(flatters, digits=2)
    where = facts.place(keep)
    sentence = f"Keep {where} ({series.said(series.values[keep])})"
    sentence += f": {others} can't be told from the best." if others else "."
    value = series.said(series.values[best])
    if flatters > 0:
        single = (
            "its value"
            if keep == best
            else f"the best single value, {value}, at {facts.place(best)},"
        )
        sentence += f" {single[0].upper()}{single[1:]} may flatter by up to {unit}."
    return Checkpoint(
        sentence=sentence,
        metric=series.words,
        keep=series.at[keep],
        rule="halfway between level and value",
        tied=tuple(series.at[n] for n in tied),
        flatters=flatters,
    )


def _ranges(places: list[int], facts: Facts) -> str:
    """`epochs 12 to 20 and 31`."""
    if not places:
        return ""
    cuts = [0, *[n + 1 for n, (a, b) in enumerate(pairwise(places)) if b > a + 2], len(places)]
    spans = [(places[a], places[b - 1]) for a, b in pairwise(cuts)]
    at = facts.main.at
    if len(spans) > 3:
        return f"{len(places)} others from {facts.place(places[0])} to {at[places[-1]]:g}"
    told = [f"{at[a]:g}" if a == b else f"{at[a]:g} to {at[b]:g}" for a, b in spans]
    many = "s" if len(places) > 1 else ""
    joined = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    return f"{facts.clock}{many} {joined}"
