"""An analysis -> its answer."""

import numpy as np

from analysis.answer.answer import Answer, Finding, RunAnswer, Todo, Unchecked, worst_first
from analysis.answer.courses import Course, course_of
from analysis.answer.facts import LOSS, SCORE, Facts, Found, facts_of
from analysis.answer.sentences import findings, headline
from analysis.answer.todo import MOST, checkpoint, to_do
from analysis.answer.unchecked import unchecked_of
from analysis.words import capitalized, first_few, plural

_SAID_OF = {
    Finding.CONSTANT: "a metric that never changes",
    Finding.DIVERGED: "training that diverged",
    Finding.AT_CHANCE: "nothing learnt",
    Finding.COMES_APART: "training that comes apart",
    Finding.OVERFITTING: "overfitting",
    Finding.LOSS_RISES: "a validation loss that rises",
    Finding.NOISE: "a network that jumps by itself",
    Finding.STILL_LEARNING: "still learning",
}


def answer_of(found: Found) -> Answer:
    """Say what an analysis says: two sentences, what to do, what could not be checked."""
    facts = list(facts_of(found))
    runs = worst_first([_of_run(one) for one in facts])
    log = found.log
    return Answer(
        name=str(found.record["spec"]["name"]),
        tool=log.understood.tool if log else None,
        headline=runs[0].headline if len(runs) == 1 else _of_several(runs),
        do=_joined_do(runs),
        unchecked=_joined_unchecked(runs),
        read=tuple(log.understood.lines) if log else (),
        notes=tuple(log.notes) if log else (),
        runs=tuple(runs),
    )


def _of_run(facts: Facts) -> RunAnswer:
    rates = facts.of("learning_rate")
    known = np.array([rates.values]) if rates is not None else None
    if known is not None and not np.isfinite(known).all():
        known = None
    judged = [one for one in facts.series if one.role in (facts.main.role, SCORE, LOSS)]
    label = {SCORE: "score_course", LOSS: "loss_course"}.get(facts.main.role, "")
    courses = [course_of(judged[0], known, facts.row.get(label))]
    courses += [course_of(one, known) for one in judged[1:]]
    main, others = courses[0], [one for one in courses[1:] if one is not None]
    so, unknown = findings(facts, main)
    loss = facts.of(LOSS)
    labels = {name: facts.row.get(name) for name in ("noise", "overfit")}
    labels = {"status": facts.status} | labels
    return RunAnswer(
        name=facts.name,
        settings=facts.settings,
        findings=tuple(one for one in Finding if one in so),
        open=tuple(one for one in Finding if one in unknown),
        labels=labels if facts.main.role == "val_accuracy" else labels | {"noise": None},
        headline=(*headline(facts, main, others), *_lines(facts, others)),
        do=to_do(facts, main, others, so),
        unchecked=unchecked_of(facts, main),
        series=facts.series,
        checkpoint=checkpoint(facts, so),
        clock=facts.clock,
        num_evaluations=len(facts.numbers),
        loss_minimum=loss.at[loss.best] if loss is not None and loss.best is not None else None,
        num_val=facts.num_val,
    )


def _lines(facts: Facts, others: list[Course]) -> list[str]:
    """A line for each other score."""
    said: list[str] = []
    for one in others:
        if one.series.role == LOSS and facts.main.role == "val_accuracy":
            continue  # the first sentence tells it
        series = one.series
        if series.is_constant:
            said.append(f"{capitalized(series.words)} is {series.said(one.best)} throughout.")
            continue
        way = "lowest" if series.lower_is_better else "highest"
        at = facts.place(one.best_at)
        worse = ""
        if one.gets_worse and one.worse_low is not None:
            worse = f", worse by at least {series.said(one.worse_low, digits=2)} for sure"
        said.append(
            f"{capitalized(series.words)}: {way} near {at} ({series.said(one.best)}), ends at "
            f"{series.said(one.end)}{worse}."
        )
    return said


def _of_several(runs: list[RunAnswer]) -> tuple[str, ...]:
    """Two sentences about all runs: how many of which, and what can't be told."""
    if not runs:
        return ("No run was trained to its end, so nothing can be said.",)
    parts = []
    for finding, words in _SAID_OF.items():
        named = [run.name for run in runs if finding in run.findings]
        if named:
            parts.append(f"{words} in {len(named)} ({first_few(named, 3)})")
    first = f"Of {plural(len(runs), 'run')}: {'; '.join(parts)}." if parts else ""
    clean = [run.name for run in runs if not run.findings]
    if not parts:
        first = f"No harm is shown in any of {plural(len(runs), 'run')}."
    if parts and clean:
        first = f"{first[:-1]}; nothing of that in {len(clean)}."
    unknown = sum(Finding.OVERFITTING in run.open for run in runs)
    if unknown:
        many = "any" if unknown == len(runs) else unknown
        second = f"Overfitting can't be told in {many} of them."
    elif parts:
        second = f"The worst is {runs[0].name}: {runs[0].headline[0]}"
    else:
        second = "Each of them holds what it learnt."
    return first, second


def _joined_do(runs: list[RunAnswer]) -> tuple[Todo, ...]:
    if len(runs) == 1:
        return runs[0].do
    whose: dict[str, list[tuple[str, Todo]]] = {}
    for run in runs:
        for one in run.do:
            whose.setdefault(one.text, []).append((run.name, one))
    ranked = sorted(whose.values(), key=lambda some: -len(some))
    return tuple(
        Todo(some[0][1].text, f"for {first_few([name for name, _ in some], 3)}")
        for some in ranked[:MOST]
    )


def _joined_unchecked(runs: list[RunAnswer]) -> tuple[Unchecked, ...]:
    """What could not be checked in any run, each once."""
    first: dict[str, Unchecked] = {}
    for run in runs:
        for one in run.unchecked:
            first.setdefault(one.what, one)
    return tuple(first.values())
