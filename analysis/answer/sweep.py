"""The answer of a sweep in sentences, from its numbers: terminal, JSON and page say these."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import polars as pl

from analysis.answer.answer import Answer, Todo
from analysis.answer.settings import Setting, region_words, settings
from analysis.causes.overall import Jitter, Lost, Overall
from analysis.causes.pooled import Causes
from analysis.sources import censoring
from analysis.sources.axes import Axis, title
from analysis.verdicts.margins import Margins
from analysis.words import between, capitalized, first_few, number, plural, pp

MARGINS = Margins()
_MOST_TODO = 5
_MOST_REGIONS = 3
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

Row = Mapping[str, Any]


class SweepWords(NamedTuple):
    """What the first screen says.

    verdict: after the sweep's name; moves: what moves, and whose noise it is, what counts most
    between pairs of `**`; overfitting: one sentence or two; do: at most five things; notes: what
    else is worth a line
    """

    verdict: str
    moves: str
    overfitting: str
    do: tuple[Todo, ...]
    notes: tuple[str, ...]


class SweepFound(Protocol):
    """What the answer of a sweep reads of an Analysis."""

    @property
    def overall(self) -> Overall:
        """The numbers of the answer."""
        ...

    @property
    def axes(self) -> Sequence[Axis]:
        """What varies."""
        ...

    @property
    def points(self) -> pl.DataFrame:
        """A row per planned configuration."""
        ...

    @property
    def trials(self) -> pl.DataFrame:
        """A row per finished trial."""
        ...

    @property
    def configurations(self) -> pl.DataFrame:
        """A row per configuration."""
        ...

    @property
    def effects(self) -> pl.DataFrame:
        """What each knob did."""
        ...

    @property
    def causes(self) -> Causes:
        """What pools all trials."""
        ...

    @property
    def log(self) -> object:
        """What was read of another tool's log; None of a store."""
        ...


def names_of(found: SweepFound) -> dict[str, Setting]:
    """Name the settings: the best ones first, in the order of their scores."""
    order = [*found.overall.matters, *found.causes.ranking["config_id"]]
    return settings(found.points, [axis.name for axis in found.axes], order, found.overall.inert)


def words_of(found: SweepFound) -> SweepWords:
    """Say what a sweep shows and what to do."""
    return sweep_words(found.overall, found.configurations, found.effects, names_of(found))


def with_sweep(answer: Answer, found: SweepFound) -> Answer:
    """The answer of a store says what its page says. Args: answer: of any source."""
    if found.log is not None or not found.trials["final_accuracy"].count():
        return answer
    words = words_of(found)
    moves = words.moves.replace("**", "")
    return replace(
        answer,
        headline=(f"{capitalized(words.verdict)}: {moves}", f"Overfitting: {words.overfitting}"),
        do=words.do,
        notes=(*answer.notes, *words.notes),
    )


def sweep_words(
    found: Overall,
    configurations: pl.DataFrame,
    effects: pl.DataFrame,
    names: Mapping[str, Setting],
) -> SweepWords:
    """Say what a sweep shows and what to do.

    Args: found: its numbers; configurations, effects: as an Analysis has them; names: of all
        configurations.
    """
    rows = {row["config_id"]: row for row in configurations.iter_rows(named=True)}
    return SweepWords(
        _verdict(found),
        _moves(found, rows),
        _overfitting(found, rows, names),
        tuple(_todo(found, rows, effects, names))[:_MOST_TODO],
        (*_notes(found, effects, names), *_cut_short(configurations)),
    )


def moves(jitter: Jitter | None) -> bool:
    """Tell whether accuracy moves from epoch to epoch by an amount that matters, for sure."""
    return jitter is not None and jitter.sd_low > MARGINS.noise / 2


def _verdict(found: Overall) -> str:
    if found.jitter is None:
        return "too short to tell noise from overfitting" if found.matters else "no run finished"
    jumps = moves(found.jitter)
    harmed = {*found.overfits, *found.falls}
    if not harmed:
        if not jumps:
            return "neither noise nor overfitting" if found.spared else "hardly any noise"
        if found.spared:
            return "it is noise, not overfitting"
        return "it is noise; overfitting can't be told"
    word = "overfitting" if found.overfits else "settings that end worse than they were"
    if harmed & set(found.matters):
        return f"it is {word}" + (", and noise" if jumps else "")
    best = "noise" if jumps else "no noise"
    return f"{best} in the best settings, {word} in {count(len(harmed), 'other')}"


def count(num: int, noun: str = "setting") -> str:
    """`three settings`, `36 settings`."""
    word = _NUMBERS[num] if num < len(_NUMBERS) else str(num)
    return f"{word} {noun}{'s' * (num != 1)}"


def _moves(found: Overall, rows: Mapping[str, Row]) -> str:
    jitter, num = found.jitter, len(found.matters)
    if jitter is None:
        if not found.matters:
            return "No run finished its training."
        return "Jitter takes 11 epochs or more; 40 are better."
    where = f"In the {count(num)} that trained"
    if found.tied:
        best, score = found.score, ""
        if best is not None:
            score = f" ({pp(best.nested, 1)} %, {pp(best.low, 1)} to {pp(best.high, 1)})"
        where = f"In the best setting{score}"
        if num > 1:
            where = f"In the {count(num)} that tie for best{score}"
    subject = f"{where}, accuracy" if len(rows) > 1 else "Validation accuracy"
    text = f"{subject} moves by **{pp(jitter.sd)} pp from one epoch to the next**"
    if found.num_val:
        images = max(round(jitter.sd * found.num_val), 1)
        text += f" ({count(images, 'example').removeprefix('no ')} of {found.num_val:,})"
    return f"{text}. {_whose(jitter, found.num_val)}{_late(found)}"


def _without_share(jitter: Jitter, num_val: int) -> str:
    """What the size of the set alone tells."""
    if jitter.set_most is None:
        return "How much of that is the validation set, its size and which examples are right tell."
    least = max(jitter.sd_low**2 - jitter.set_most**2, 0.0) ** 0.5
    can = f"{num_val:,} examples can make up to {pp(jitter.set_most)} pp by themselves"
    if least > 0:
        return f"{can}, so **the optimizer makes at least {pp(least)} pp**."
    return f"{can}, so **it may all be the validation set**."


def _whose(jitter: Jitter, num_val: int) -> str:
    share = jitter.share
    if share is None:
        return _without_share(jitter, num_val)
    limits = between(jitter.share_low, jitter.share_high, 0)
    rest = f"the rest, {pp(jitter.network_sd or 0)} pp, is the optimizer"
    if share > 0.995:
        rest = "the optimizer adds nothing that shows"
    return f"**{pp(share, 0)} % of that{limits} is the size of your validation set**; {rest}."


def _late(found: Overall) -> str:
    late, jitter = found.late, found.jitter
    if late is None or jitter is None:
        return ""
    return f" In the second half of training it moves by {pp(late.sd)} pp."


def _overfitting(found: Overall, rows: Mapping[str, Row], names: Mapping[str, Setting]) -> str:
    harmed = [*found.overfits, *found.falls]
    if not found.num_judged:
        return (
            "Too few epochs to tell." if found.matters else "No finished run, so nothing to tell."
        )
    of = f"{found.num_judged} settings" if found.num_judged > 1 else "the only setting"
    if not harmed:
        spared = f"In {found.spared} of {of}" if found.num_judged > 1 else "There"
        if not found.spared:
            return (
                "None is shown, and none is excluded: a fall of more than "
                f"{pp(MARGINS.drop, 1)} pp after the peak stays possible everywhere."
            )
        fall = f"{spared} a fall of more than {pp(MARGINS.drop, 1)} pp after the peak"
        if found.loss_spared == found.spared:
            return f"None shown. {fall} and a rise of the loss are excluded."
        loss = f" (in {found.loss_spared} a rise of the loss, too)" if found.loss_spared else ""
        return f"None shown. {fall} is excluded{loss}."
    worst = max(harmed, key=lambda name: rows[name]["drop_low"] or 0.0)
    word = "overfit" if found.overfits else "end worse than they were"
    who = "It" if len(rows) == 1 else f"{len(harmed)} of {of}"
    verb = word if len(harmed) > 1 else {"overfit": "overfits"}.get(word, "ends worse than it was")
    said = rows[worst]["overfit_reason"] or ""
    said = said.partition(": ")[2].rstrip(".") or said.rstrip(".")
    which = (
        "" if len(rows) == 1 else f"{'Worst is ' if len(harmed) > 1 else ''}{names[worst].name}: "
    )
    return f"{who} {verb}. {which}{said if which else capitalized(said)}."


def _todo(
    found: Overall, rows: Mapping[str, Row], effects: pl.DataFrame, names: Mapping[str, Setting]
) -> list[Todo]:
    lines: list[Todo] = []
    if found.overfits:
        lines.append(_against_overfitting(found, rows, effects, names))
    if calmer := found.calmer:
        lines.append(
            Todo(
                f"Calmer at the same score: {names[calmer.config_id].name}.",
                f"{pp(calmer.after)} pp from epoch to epoch in the second half instead of "
                f"{pp(calmer.before)} in {names[found.matters[0]].letter} (times "
                f"{number(calmer.ratio, 2)}, {number(calmer.low, 2)} to {number(calmer.high, 2)}).",
            )
        )
    averaged = found.averaged
    if averaged and (averaged.high or averaged.ratio) < 1 and _loses_nothing(averaged.gain_low):
        lines.append(
            Todo(
                "Average the weights over the last epochs.",
                f"Jitter falls to {number(averaged.ratio, 2)} of what it is"
                + _plain_limits(averaged.low, averaged.high)
                + f", accuracy changes by {_signed(averaged.gain)} pp"
                + between(averaged.gain_low, averaged.gain_high)
                + f" ({plural(averaged.num_trials, 'run')}).",
            )
        )
    if found.score and found.score.flatters > 0:
        lines.append(
            Todo(
                "Report the mean of the last epochs, not the best one.",
                f"The best epoch of the best setting reads {pp(found.score.flatters)} pp too high.",
            )
        )
    lines.extend(
        Todo(f"Never {region_words(lost.region, names)}.", _lost_words(lost))
        for lost in found.lost[:1]
    )
    jitter = found.jitter
    if jitter and jitter.larger_sd is not None and (jitter.share or 0) > 0 and found.num_val:
        lines.append(
            Todo(
                "Validate on more examples.",
                f"Ten times as many, {10 * found.num_val:,}, would bring the jitter from "
                f"{pp(jitter.sd)} to {pp(jitter.larger_sd)} pp"
                f"{between(jitter.larger_low, jitter.larger_high)}.",
            )
        )
    if jitter and jitter.share is None:
        lines.append(
            Todo(
                "Log which examples are right at each epoch.",
                "It tells how much of the jitter is the validation set.",
            )
        )
    if len(lines) > _MOST_TODO:  # the most urgent ones stay, and what never to use
        lines = [*lines[: _MOST_TODO - 1], next(x for x in lines if x.text.startswith("Never"))]
    return list(dict.fromkeys(lines))


def _loses_nothing(gain_low: float | None) -> bool:
    return gain_low is None or gain_low > -MARGINS.drop


def _against_overfitting(
    found: Overall, rows: Mapping[str, Row], effects: pl.DataFrame, names: Mapping[str, Setting]
) -> Todo:
    """The knob that makes falls smaller for sure, by the largest amount; else to stop sooner."""
    falls = effects.filter((pl.col("response") == "drop") & (pl.col("scope") == "pooled"))
    helps = falls.filter((pl.col("high") < 0) | (pl.col("low") > 0))
    if helps.height:
        row = helps.sort(pl.col("estimate").abs(), descending=True).row(0, named=True)
        good, bad = (row["level"], row["reference"])
        change, low, high = row["estimate"], row["low"], row["high"]
        if change > 0:
            good, bad, change, low, high = bad, good, -change, -high, -low
        at = f" at {row['given']}" if row["given"] else ""
        return Todo(
            f"Against overfitting: {title(row['axis'])} {good} instead of {bad}{at}.",
            f"Accuracy falls by {pp(-change)} pp less after its peak ({pp(-high)} to {pp(-low)}).",
        )
    worst = max(found.overfits, key=lambda name: rows[name]["drop_low"] or 0.0)
    peak = rows[worst]["peak_epoch"]
    return Todo(
        f"Stop {names[worst].letter} near epoch {peak:.0f}."
        if peak
        else f"Stop {names[worst].letter} sooner.",
        f"It ends {pp(rows[worst]['drop'] or 0)} pp below its peak.",
    )


def _signed(value: float | None) -> str:
    text = pp(value or 0.0)
    return text if text.startswith("−") or not value else f"+{text}"


def _plain_limits(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f" ({number(low, 2)} to {number(high, 2)})"


def _lost_words(lost: Lost) -> str:
    others = lost.num_unlearnt
    of = f"of {lost.num_runs} runs"
    if not lost.num_diverged:
        return f"{others} {of} lost what they had learnt, or learnt nothing."
    text = f"{lost.num_diverged} {of} diverged"
    if others:
        them = "others lost what they" if others > 1 else "other lost what it"
        text += f", {others} {them} had learnt"
    return f"{text}."


def _cut_short(configurations: pl.DataFrame) -> list[str]:
    said = censoring.sentences(configurations)
    return ["The scheduler stopped " + " ".join(said)] if said else []


def _notes(found: Overall, effects: pl.DataFrame, names: Mapping[str, Setting]) -> list[str]:
    notes: list[str] = []
    for axis in found.inert:
        gains = effects.filter(axis=axis, scope="pooled", response="final_accuracy")
        low, high = gains["low"].min(), gains["high"].max()
        notes.append(
            f"{capitalized(title(axis))} did nothing that matters: accuracy changed by "
            f"{pp(low)} to {pp(high)} pp, so names leave it out."  # pyright: ignore[reportArgumentType]
        )
    if found.rising:
        num = sum(len(region.config_ids) for region in found.rising)
        where = [region_words(region, names) for region in found.rising]
        notes.append(
            f"Still rising when training stopped: {count(num)}, {first_few(where, _MOST_REGIONS)}."
        )
    if len(found.lost) > 1:
        where = [region_words(lost.region, names) for lost in found.lost[1:]]
        notes.append(f"Runs were lost as well with {first_few(where, _MOST_REGIONS)}.")
    if found.seeds_low is not None and found.seeds_high is not None and len(found.matters) > 1:
        notes.append(
            f"Between the seeds of one of these settings, the accuracy that is kept differs by "
            f"{pp(found.seeds_low)} to {pp(found.seeds_high)} pp (SD)."
        )
    return notes
