"""`raysweep run`: train what is missing of a sweep, then write its report."""

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.cli.words import count, say
from raysweep.errors import InputError
from raysweep.installed import load_analysis, needs_run

if TYPE_CHECKING:
    from raysweep.planning.budget import Budget
    from raysweep.planning.plan import Plan
    from raysweep.running.sweep import Result
    from raysweep.spec import SweepSpec
    from raysweep.store.files import Store

_SOME_TRIALS_FAILED = 3
_SET_HELP = "Change one thing of the sweep: a dotted path and a YAML value, base.epochs=10."


def run(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A recipe's name or a sweep file.")] = "digits",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help=_SET_HELP)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|+N", help="Number of seeds, or of further ones.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="Folder or s3://bucket/prefix of results; default: results/<name>."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster; default: one that runs here, else a local one."),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(metavar="H", help="Stop after so many hours; the rest is for another time."),
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train N of what is missing, first seeds first."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained; start nothing.")
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="Neither try a task beforehand, nor stop at a first trial's error."
        ),
    ] = False,
) -> None:
    """Train what is missing of a sweep, then write its report."""
    with needs_run("raysweep run"):
        from raysweep import forecast, recipes
        from raysweep.planning.budget import Budget
        from raysweep.planning.plan import make_plan
        from raysweep.store.files import Store

    budget, here = Budget(max_hours, max_trials), Path.cwd()  # a task may go elsewhere
    budget.check()
    spec = recipes.read(target, settings or [], seeds)
    with contextlib.chdir(here):
        place = Store(Path("results") / spec.name if store is None else store)
    place.check_writable(exclusive=not dry_run)  # before a task's data are loaded
    _check_names(spec)
    plan = make_plan(spec, place)
    say(f"{spec.name}: {_grid_line(spec, plan)}")
    if dry_run:
        for line in forecast.forecast(plan, place, address, budget):
            say(line)
        say(_power_statement(plan))
        return
    if plan.left and not keep_going:
        _check(plan, target, settings or [], seeds, here)
    result = _train(spec, place, plan, address, budget, keep_going=keep_going)
    if result.trained + result.skipped:
        _report_if_any(place)
    elif not result.left:
        say("no trial ended without an error, so there is nothing to report")
    _tell_failures(result)
    if result.stopped:
        say(
            f"the first trial of a model failed, so the sweep has stopped; {result.left} of "
            f"{count(result.planned, 'trial')} are left, and --keep-going trains them all the same",
            err=True,
        )
    elif result.left:
        say(
            f"the budget is spent; {result.left} of {count(result.planned, 'trial')} are left, "
            f"and this trains them: {_without_budget(context)}"
        )
    if result.failures:
        raise typer.Exit(_SOME_TRIALS_FAILED)


def _check(plan: "Plan", target: str, settings: list[str], seeds: str | None, folder: Path) -> None:
    """Try a task before it is trained. Raises: typer.Exit after a line for each error."""
    from raysweep.checking.axes import idle_axes
    from raysweep.checking.check import check

    if plan.source.shipped:
        for line in idle_axes(plan.spec, plan.source.task, plan.identity.axes):
            say(f"warning: {line}")
        return
    found = check(target, settings, seeds, folder=folder)
    for line in found.warnings:
        say(f"warning: {line}")
    for line in found.errors:
        say(f"raysweep: {line}", err=True)
    if found.errors:
        raise typer.Exit(2)


def _check_names(spec: "SweepSpec") -> None:
    """Refuse a field of the task's own that has the name of a column."""
    from raysweep.spec import Hyperparameters

    own = spec.hyperparameters().model_fields.keys() - Hyperparameters.model_fields.keys()
    if not own:
        return
    load_analysis()
    from analysis.columns import all_columns

    taken = sorted(own & {column.name for column in all_columns()})
    if taken:
        raise InputError(
            f"field {taken[0]!r} of {spec.hyperparameters().__name__} has the name of a column of "
            "the results (docs/columns.md); give it another name"
        )


def _report_if_any(store: "Store") -> None:
    """Write the report, where one trial at least was trained to its end; answer the claims."""
    load_analysis()
    from analysis import analyze, write_report
    from analysis.claims.answers import answer_claims

    try:
        found = analyze(store)
        report = write_report(found, store.report)
    except InputError as error:
        say(f"no report yet: {error}")
    else:
        say(f"\n{found.answer}\n")
        for answer in answer_claims(found):
            say(answer.sentence)
        say(f"report: {report.resolve()}")


def _without_budget(context: typer.Context) -> str:
    """This command again, without its budget."""
    words = ["raysweep", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params[name]
        if name in ("max_hours", "max_trials") or value in (None, [], (), False):
            continue
        if value is True:  # a flag
            words.append(parameter.opts[0])
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                words.append(parameter.opts[0])
            words.append(str(item))
    return shlex.join(words)


def _train(
    spec: "SweepSpec",
    store: "Store",
    plan: "Plan",
    address: str | None,
    budget: "Budget",
    *,
    keep_going: bool,
) -> "Result":
    from rich.console import Console

    from raysweep.running.progress import Display
    from raysweep.running.sweep import run_sweep

    if not plan.left:
        say("every trial of it is in the store already")
    with Display(
        Console(),
        done_before=len(plan.done),
        to_train=budget.max_trials,
        seconds=budget.seconds,
    ) as display:
        result = run_sweep(
            spec,
            store,
            address=address,
            show=display.show,
            tell=say,
            plan=plan,
            command=sys.argv,
            max_hours=budget.max_hours,
            max_trials=budget.max_trials,
            keep_going=keep_going,
        )
    if plan.left:
        held = f"{result.trained + result.skipped} of {result.planned}"
        say(f"trained {count(result.trained, 'trial')}; {store.root} holds {held}")
    return result


def _grid_line(spec: "SweepSpec", plan: "Plan") -> str:
    axes = " x ".join(f"{name} ({len(values)})" for name, values in spec.axes.items())
    points = len(plan.trials) // len(spec.seeds)
    total = (
        f"{count(points, 'configuration')} x {count(len(spec.seeds), 'seed')}"
        f" = {count(len(plan.trials), 'trial')}"
    )
    done = f", {len(plan.done)} of them done" if plan.done else ""
    return f"{axes}, {total}{done}" if axes else total + done


def _power_statement(plan: "Plan") -> str:
    """Which difference in jitter this sweep can find, said before it costs anything."""
    load_analysis()
    from analysis.stats.intervals import detectable_ratio
    from analysis.stats.trend import planned_df
    from raysweep.schedule import recorded_rates

    spec, base = plan.spec, plan.spec.base
    steps_per_epoch = max(1, plan.data.steps_per_epoch(base.batch_size))
    df = planned_df(recorded_rates(base, steps_per_epoch), num_seeds=len(spec.seeds))
    if df < 1:
        return "power: too few epochs for any statement about jitter"
    total, half = detectable_ratio(df), detectable_ratio(df, finite_share=0.5)
    return (
        f"power: a configuration's jitter will have {df:.0f} degrees of freedom. Between two "
        f"configurations a ratio of {total:.2f} is found with 80 % power; where half of the jitter "
        f"is validation-set noise, a ratio of {half:.2f} of what the optimizer adds"
    )


def _tell_failures(result: "Result") -> None:
    """One line per distinct error, with how often it struck and where its log is."""
    by_error: dict[str, list[str]] = {}
    for failure in result.failures:
        by_error.setdefault(failure.error, []).append(failure.log)
    for error, logs in by_error.items():
        trials = f"{len(logs)} of {result.planned} trials failed"
        say(f"{trials}: {error}; log: {result.store.root}/{logs[0]}", err=True)
