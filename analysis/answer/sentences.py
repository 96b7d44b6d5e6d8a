"""The two sentences of a run: what became of the metric that counts, and what makes it jump."""

import math

from analysis.answer.answer import Finding
from analysis.answer.courses import Course
from analysis.answer.facts import ACCURACY, LOSS, TRAINING, Facts
from analysis.labels import Noise, Overfit, Status
from analysis.verdicts.margins import Margins
from analysis.words import capitalized, pp

_MARGINS = Margins()
_ROUNDED = 0.0005  # an accuracy is told to a tenth of a percentage point
_CLIMBS = 0.02  # of accuracy, from which on it is said to have changed
HARMED = (Overfit.YES, Overfit.ENDS_WORSE, Overfit.RUN_FELL)
_MOVES = (Noise.OPTIMIZER, Noise.BOTH, Noise.SOME_OPTIMIZER)


def findings(facts: Facts, main: Course | None) -> tuple[set[Finding], set[Finding]]:
    """Tell what is so, and what could not be judged."""
    status, overfit, noise = facts.status, facts.row.get("overfit"), facts.row.get("noise")
    if facts.main.is_constant:
        return {Finding.CONSTANT}, set()
    so: set[Finding] = set()
    if status == Status.DIVERGED:
        return {Finding.DIVERGED}, set()
    if status == Status.AT_CHANCE:
        so.add(Finding.AT_CHANCE)
    if overfit == Overfit.COMES_APART:
        so.add(Finding.COMES_APART)
    if status == Status.STILL_LEARNING:
        so.add(Finding.STILL_LEARNING)
    if loss_rises(facts):
        so.add(Finding.LOSS_RISES)
    unknown: set[Finding] = set()
    if facts.main.role == ACCURACY:
        if overfit in HARMED:
            so.add(Finding.OVERFITTING)
        elif overfit in (Overfit.UNDETERMINED, Overfit.LOSS_RISES, Overfit.LOSS_HOLDS):
            unknown.add(Finding.OVERFITTING)
        if overfits_by_loss(facts, main):
            so.add(Finding.OVERFITTING)
        if noise in _MOVES:
            so.add(Finding.NOISE)
        elif noise in (Noise.UNDETERMINED, Noise.SET_SUFFICES, Noise.SPIKES):
            unknown.add(Finding.NOISE)
        if facts.row.get("late_slope") is None:
            unknown.add(Finding.STILL_LEARNING)
    else:
        unknown.add(Finding.NOISE)
        if main is None or main.p is None:
            unknown |= {Finding.OVERFITTING, Finding.STILL_LEARNING}
        elif main.gets_worse:
            so.add(Finding.OVERFITTING)
    if facts.of(LOSS) is None or facts.number("run_loss_rise_p") is None:
        unknown.add(Finding.LOSS_RISES)
    if so & {Finding.COMES_APART, Finding.LOSS_RISES}:
        unknown.discard(Finding.OVERFITTING)
    return so, unknown - so


def loss_rises(facts: Facts) -> bool:
    """Whether the validation loss rises by more than its noise, whatever the accuracy does."""
    p, rise = facts.number("run_loss_rise_p"), facts.number("run_loss_rise")
    return p is not None and rise is not None and p <= _MARGINS.level and rise >= _MARGINS.loss_rise


def headline(facts: Facts, main: Course | None, others: list[Course]) -> tuple[str, ...]:
    """Say in two sentences what the run says."""
    series = facts.main
    if facts.main.is_constant:
        value = series.said(next(v for v in series.values if math.isfinite(v)))
        return (
            f"{capitalized(series.words)} is {value} in every one of {len(series.values)} "
            "evaluations: the metric is broken, or the validation set has one class.",
            "Nothing can be said of noise or overfitting until that is mended.",
        )
    if facts.status == Status.DIVERGED:
        return _diverged(facts)
    if facts.status == Status.FAILED:
        return ("No run finished, so nothing can be said of it.",)
    if main is None:
        return (
            f"There is one evaluation: {series.words} is {series.said(series.values[0])}.",
            "A curve needs several of them.",
        )
    if series.role == ACCURACY:
        loss = next((one for one in others if one.series.role == LOSS), None)
        return _of_accuracy(facts, main, loss), _noise(facts)
    return _of_course(facts, main), _jitter(facts, main)


def _diverged(facts: Facts) -> tuple[str, ...]:
    series = facts.main
    places = [n for n, value in enumerate(series.values) if not math.isfinite(value)]
    if places:
        return (
            f"Training diverged: {series.words} is not finite at {facts.place(places[0])}.",
            "What came before is not judged.",
        )
    return (
        "Training diverged: a metric is not finite, or the training loss ended above where it "
        "began.",
        f"{capitalized(series.words)} ends at {series.said(series.values[-1])}.",
    )


def _of_accuracy(facts: Facts, main: Course, loss: Course | None) -> str:
    """What became of the accuracy, and of the loss where it says something else."""
    overfit, status = facts.row.get("overfit"), facts.status
    best, end, drop = facts.place(main.best_at), main.end, facts.number("drop")
    series = main.series
    lost = f"ends at {series.said(end)}, {pp(drop or 0, 1)} pp below its level near {best}"
    least = least_lost(facts)
    sure = f" (at least {pp(least, 1)} pp for sure)" if least >= _ROUNDED else ""
    if status == Status.AT_CHANCE:
        return (
            f"Nothing was learnt: validation accuracy ends at {series.said(end)}, as by guessing."
        )
    if overfit == Overfit.COMES_APART:
        return f"Training comes apart, which is no overfitting: validation accuracy {lost}."
    if overfit == Overfit.YES and (drop or 0) > 0:
        return (
            f"It overfits: validation accuracy {lost}{sure}, and training accuracy does not fall."
        )
    if overfit == Overfit.ENDS_WORSE and training_improves(facts):
        return f"It overfits: validation accuracy {lost}{sure}, while training still improves."
    if overfit in (Overfit.ENDS_WORSE, Overfit.YES):
        return f"It ends worse than it was: validation accuracy {lost}{sure}."
    if overfit == Overfit.RUN_FELL:
        return (
            f"This run ends worse than it was: validation accuracy {lost}; whether another seed "
            "would is open."
        )
    if loss is not None and loss_rises(facts):
        return _with_rising_loss(facts, main, loss)
    course = _climbs(facts, main)
    if status == Status.STILL_LEARNING:
        gain = facts.number("projected_gain") or 0
        return (
            f"It is still learning: {course}; as many epochs again promise up to {pp(gain, 1)} pp."
        )
    return f"{_not_worse(facts, main)}: {course}."


def least_lost(facts: Facts) -> float:
    """Of the accuracy, for sure; 0 where nothing is sure."""
    names = ("drop_low", "likely_drop_low", "within_drop_low")
    return max(facts.number(name) or 0.0 for name in names)


def _climbs(facts: Facts, main: Course) -> str:
    """How the accuracy went."""
    series, first, last = main.series, facts.place(0), facts.place(len(facts.main.at) - 1)
    start, end = series.said(main.first), series.said(main.end)
    verb = "climbs" if main.end - main.first > _CLIMBS else "goes"
    if main.first - main.end > _CLIMBS:
        verb = "falls"
    return f"validation accuracy {verb} from {start} ({first}) to {end} ({last})"


def _not_worse(facts: Facts, main: Course) -> str:
    """What is known of a fall that was not found."""
    overfit, high = facts.row.get("overfit"), _most_lost(facts)
    high = main.worse_high if high is None else high
    if overfit in (Overfit.NO, Overfit.NO_ACCURACY):
        return f"It does not overfit (it lost at most {pp(high or 0, 1)} pp)"
    if overfit == Overfit.LITTLE:
        return f"Little is lost, if anything (at most {pp(high or 0, 1)} pp)"
    if high is None:
        return f"{len(facts.main.at)} evaluations are too few to tell overfitting"
    more = pp(high, 1)
    if overfit == Overfit.LOSS_HOLDS:
        rise = 100 * (facts.number("run_loss_rise_high") or 0)
        return (
            f"No overfitting is seen (the loss ends at most {rise:.1f} % above its lowest; a fall "
            f"of accuracy by {more} pp is not excluded)"
        )
    return f"No overfitting is seen, but a fall by {more} pp is not excluded"


def _most_lost(facts: Facts) -> float | None:
    ends = [facts.number(name) for name in ("drop_high", "likely_drop_high")]
    known = [end for end in ends if end is not None]
    return min(known) if known else None


def _with_rising_loss(facts: Facts, main: Course, loss: Course) -> str:
    """The loss rises while the accuracy says something else: both are said."""
    rise, least = facts.number("run_loss_rise") or 0, facts.number("run_loss_rise_low") or 0
    shown = loss.series
    at = facts.place(shown.best) if shown.best is not None else facts.place(loss.best_at)
    lowest = shown.said(shown.values[shown.best] if shown.best is not None else loss.best)
    told = (
        f"Validation loss is lowest at {at} ({lowest}) and ends {100 * rise:.0f} % above its "
        f"lowest level (at least {100 * least:.0f} % for sure)"
    )
    course = _climbs(facts, main)
    if overfits_by_loss(facts, main):
        high = _most_lost(facts)
        bound = f" and lost at most {pp(high, 1)} pp" if high is not None and high < 0.1 else ""
        return (
            f"It overfits by the loss: {told[0].lower()}{told[1:]} while training improves; "
            f"{course}{bound}."
        )
    if main.end - _at_lowest_loss(facts, main) > _CLIMBS:
        return (
            f"Loss and accuracy disagree: {told[0].lower()}{told[1:]}, but {course}: it grows "
            "over-confident, not worse."
        )
    return f"{told}, while {course}."


def overfits_by_loss(facts: Facts, main: Course | None) -> bool:
    """Whether the loss rises, training improves, and the accuracy gains nothing by it."""
    if main is None or not loss_rises(facts) or not training_improves(facts):
        return False
    return main.end - _at_lowest_loss(facts, main) <= _CLIMBS


def _at_lowest_loss(facts: Facts, main: Course) -> float:
    """The level of the accuracy where the loss is lowest."""
    loss = facts.of(LOSS)
    return facts.level(loss.best) if loss is not None and loss.best is not None else main.first


def training_improves(facts: Facts) -> bool:
    """Whether a training metric ends better than it was in the middle of the run."""
    for role in TRAINING:
        series = facts.of(role)
        if series is None:
            continue
        values = [value for value in series.values if math.isfinite(value)]
        if len(values) < 4:
            continue
        middle = sum(values[len(values) // 2 - 1 : len(values) // 2 + 1]) / 2
        end = sum(values[-2:]) / 2
        return end < middle if series.lower_is_better else end > middle
    return False


def _noise(facts: Facts) -> str:
    """What makes the accuracy jump, in percentage points and in examples."""
    noise, sd = facts.row.get("noise"), facts.number("hf_sd")
    if sd is None:
        usable = int(facts.number("num_usable_epochs") or 0)
        return (
            f"What makes it jump can't be told from {usable} settled evaluations: at least 8 are "
            "needed."
        )
    n = facts.num_val
    examples = f", {round(sd * n):,} of {n:,} examples" if n else ""
    jumps = f"It moves by {pp(sd)} pp from evaluation to evaluation{examples}"
    high, can = facts.number("hf_sd_high"), facts.number("set_sd_most")
    if noise in (Noise.NONE, Noise.NO_JITTER, Noise.SMALL) and high is not None:
        return f"{jumps}: little, whoever makes it (at most {pp(high)} pp)."
    if noise == Noise.SPIKES:
        calm = facts.number("spikeless_sd")
        rest = f"; without them by {pp(calm)} pp" if calm is not None else ""
        return f"{jumps}, most of it in a few epochs{rest}."
    if noise == Noise.SLOW_WANDER:
        wide = facts.number("plateau_sd")
        return f"{jumps}, but it wanders slowly by {pp(wide or 0)} pp."
    share = facts.number("finite_share_high")
    least = f": at least {100 * (1 - share):.0f} % of that is the network" if share else ""
    if noise in _MOVES:
        own = ", the rest is the validation set" if noise == Noise.BOTH else ""
        if not least and can is not None:
            least = f": more than the {pp(can)} pp that {n:,} validation examples can make"
        return f"{jumps}{least or ', and the network itself does'}{own}."
    if noise == Noise.VALIDATION_SET:
        own = facts.number("fin_sd_least")
        least = f"; the validation set alone makes at least {pp(own)} pp" if own else ""
        return f"{jumps}{least}, and no more of it is claimed for the network."
    if noise == Noise.SET_SUFFICES and can is not None and n:
        return f"{jumps}: no more than {n:,} examples can make by themselves ({pp(can)} pp)."
    if noise == Noise.SET_SUFFICES:
        return f"{jumps}, and the network itself stands nearly still."
    if n and can is not None:
        return f"{jumps}; {n:,} examples can make up to {pp(can)} pp of it."
    return f"{jumps}; whose it is can't be told without the number of validation examples."


def _of_course(facts: Facts, main: Course) -> str:
    """What became of a loss or a score, in its own unit."""
    series = main.series
    best, end = series.said(main.best), series.said(main.end)
    at, last = facts.place(main.best_at), facts.place(len(series.at) - 1)
    way = "lowest" if series.lower_is_better else "highest"
    name = capitalized(series.words)
    if main.gets_worse:
        since = f", from {facts.place(main.worse_from)} on" if main.worse_from is not None else ""
        word = "It overfits: " if training_improves(facts) else "It gets worse: "
        return (
            f"{word}{series.words} is {way} near {at} ({best}) and ends at {end}, "
            f"{_worse(main, series.said(main.worse or 0, digits=2))} {_side(main)} "
            f"(at least {series.said(main.worse_low or 0, digits=2)} for sure{since})."
        )
    went = f"from {series.said(main.first)} ({facts.place(0)}) to {end} ({last})"
    if main.worse is None:
        return (
            f"{name} goes {went}; {len(series.at)} evaluations are too few to tell whether it gets "
            "worse."
        )
    if main.improves:
        return f"{name} improves to the end, {went}: no overfitting is seen."
    high = main.worse_high
    bound = (
        f"; it ends at most {series.said(high, digits=2)} {_side(main)}" if high is not None else ""
    )
    return f"{name} goes {went}, {way} near {at} ({best}){bound}."


def _side(main: Course) -> str:
    return "above its best level" if main.series.lower_is_better else "below its best level"


def _worse(main: Course, text: str) -> str:
    """A distance, of a loss also in percent of its best level."""
    share = 100 * (main.worse or 0) / main.best if main.best > 0 else 0
    told = main.series.said(main.worse or 0, digits=2)
    return f"{text} ({share:.0f} %)" if main.series.role == LOSS and text == told else text


def _jitter(facts: Facts, main: Course) -> str:
    series = main.series
    if main.jitter is None:
        return "How much it moves by itself can't be told: at least 8 evaluations are needed."
    told = f"It moves by {series.said(main.jitter, digits=2)} from evaluation to evaluation"
    single = series.values[series.best] if series.best is not None else main.best
    flatters = abs(single - main.best)
    where = facts.place(series.best if series.best is not None else main.best_at)
    return (
        f"{told}, so its best single value, {series.said(single)} at {where}, is "
        f"{series.said(flatters, digits=2)} better than the level there."
    )
