"""The commands: each reads its arguments, calls one function, and says what came out."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import raysweep
from raysweep.errors import InputError, RaysweepError
from raysweep.installed import load_analysis, needs_run

if TYPE_CHECKING:
    from raysweep.planning.budget import Budget
    from raysweep.planning.plan import Plan
    from raysweep.running.sweep import Result
    from raysweep.spec import SweepSpec
    from raysweep.store.files import Store

# Everything heavier than typer is imported where it is used: --help must not wait for torch.

_SOME_TRIALS_FAILED = 3
_SET_HELP = "Change one thing of the sweep: a dotted path and a YAML value, base.epochs=10."
_COLUMN_HELP = "What a name in a log is: val_accuracy=my_metric."

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Is it noise or overfitting? Train a grid with replicate seeds on Ray, and read a report.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        _say(f"raysweep {raysweep.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command()
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
) -> None:
    """Train what is missing of a sweep, then write its report."""
    with needs_run("raysweep run"):
        from raysweep import forecast, recipes
        from raysweep.planning.budget import Budget
        from raysweep.planning.plan import make_plan
        from raysweep.store.files import Store

    budget = Budget(max_hours, max_trials)
    budget.check()
    spec = recipes.read(target, settings or [], seeds)
    place = Store(Path("results") / spec.name if store is None else store)
    place.check_writable(exclusive=not dry_run)  # before a task's code runs
    plan = make_plan(spec, place)
    _say(f"{spec.name}: {_grid_line(spec, plan)}")
    if dry_run:
        for line in forecast.forecast(plan, place, address, budget):
            _say(line)
        _say(_power_statement(plan))
        return
    result = _train(spec, place, plan, address, budget)
    if result.trained + result.skipped:
        _report_if_any(place)
    elif not result.left:
        _say("no trial ended without an error, so there is nothing to report")
    _tell_failures(result)
    if result.left:
        _say(
            f"the budget is spent; {result.left} of {_count(result.planned, 'trial')} are left, "
            f"and this trains them: {_without_budget(context)}"
        )
    if result.failures:
        raise typer.Exit(_SOME_TRIALS_FAILED)


@app.command()
def status(store: Annotated[str, typer.Argument(help="Folder or URI of the results.")]) -> None:
    """Say how far the latest sweep of a store has come."""
    from raysweep.store.files import Store

    place = Store.existing(store)
    sweeps, damaged = place.sweeps(), place.damaged()
    for path, reason in damaged:
        _say(f"{place.root}/{path} can't be used: {reason}")
    if not sweeps:
        raise InputError(f"{place.root} holds no sweep yet: run one with that store first")
    latest = sweeps[-1]
    planned = {trial_id for trial_id, *_ in latest.trials}
    rows = place.read("trials", ["trial_id", "attempt", "status"]).sort_by("attempt").to_pydict()
    ended = dict(zip(rows["trial_id"], rows["status"], strict=True))
    counts = [ended.get(trial_id, "missing") for trial_id in planned]
    kinds = [
        f"{counts.count(kind)} {kind}"
        for kind in ("completed", "diverged", "stopped", "failed", "missing")
        if counts.count(kind)
    ]
    _say(f"{latest.spec['name']}: {len(planned)} trials planned: {', '.join(kinds)}")
    _say(f"started {latest.started_at}, invocation {len(sweeps)} of this store")
    others = set(ended) - planned
    if others:
        _say(f"{len(others)} further trials, of other sweeps, are in this store")
    if place.report.exists():
        _say(f"report: {place.report.resolve()}")


@app.command()
def report(
    sources: Annotated[
        list[str],
        typer.Argument(help="Folders or URIs of results; or logs of any tool; - reads a paste."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", help="Default: report.html, in the store or here."),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="ROLE=NAME", help=_COLUMN_HELP)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The settings that tell a log's configurations apart."),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column that is the seed; run: every run is one."),
    ] = None,
    trial: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column that tells runs apart.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name in a log that is nothing.")
    ] = None,
    percent: Annotated[
        bool | None,
        typer.Option("--percent/--fraction", help="What a log's accuracies are."),
    ] = None,
    num_val: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Examples in the validation set.")
    ] = None,
    epoch_zero: Annotated[
        str | None, typer.Option(metavar="untrained|first", help="What epoch 0 of a log is.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="The score to take, where there are several.")
    ] = None,
    lower_is_better: Annotated[
        bool | None,
        typer.Option("--lower-is-better/--higher-is-better", help="Where its name doesn't say."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is understood of a log; write nothing.")
    ] = False,
) -> None:
    """Write the report of a store's latest sweep again, or of a log that any tool wrote."""
    from raysweep.store.files import Store

    load_analysis()
    from analysis import analyze, read_curves, write_report
    from analysis.sources.frames import is_log

    logs = [source for source in sources if is_log(source)]
    options: dict[str, Any] = {
        "columns": dict(map(_pair, columns or [])),
        "config": config.split(",") if config else None,
        "seed": seed,
        "trial": trial,
        "ignore": ignore or [],
        "percent": percent,
        "num_val": num_val,
        "epoch_zero": epoch_zero,
        "score": score,
        "lower_is_better": lower_is_better,
    }
    if len(logs) < len(sources):
        given = [name for name, value in options.items() if value not in (None, [], {})]
        if given or dry_run:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "--dry-run"
            raise InputError(f"{names.replace('columns', 'column')}: for logs, not for stores")
    parts: list[Any] = [Store.existing(source) for source in sources if source not in logs]
    if logs:
        log = read_curves(logs, **options)
        _say(str(log))
        if dry_run:
            return
        parts.append(log)
    found = analyze(parts)
    one_store = len(parts) == 1 and not logs
    place = parts[0].report if one_store else Path("report.html")
    written = write_report(found, output or place)
    _say(f"report: {written.resolve()}")


@app.command("recipes")
def list_recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's YAML.")] = None,
) -> None:
    """List the sweeps that ship, or print one as a start for your own."""
    from raysweep import recipes

    if name is not None:
        typer.echo(recipes.text(name), nl=False)
        return
    width = max(map(len, recipes.names()))
    for recipe in recipes.names():
        _say(f"{recipe:{width}}  {recipes.summary(recipe)}")


def run_command_line(arguments: Sequence[str]) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 bad input, 3 some trials failed, 128 + n after
    signal n."""
    try:
        app(list(arguments), prog_name="raysweep")
    except RaysweepError as error:
        for note in getattr(error, "__notes__", []):  # what was understood of a log
            _say(note, err=True)
        _say(f"raysweep: {error}", err=True)
        if error.exit_code > 128 or error.leaves_threads:
            # Stopped in the midst: Tune's thread may still be inside Ray, and
            # tearing the interpreter down around it crashes now and then.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)


def _report_if_any(store: "Store") -> None:
    """Write the report, where one trial at least was trained to its end."""
    try:
        report = load_analysis().write_report(store, store.report)
    except InputError as error:
        _say(f"no report yet: {error}")
    else:
        _say(f"report: {report.resolve()}")


def _without_budget(context: typer.Context) -> str:
    """This command again, without its budget."""
    words = ["raysweep", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params[name]
        if name in ("max_hours", "max_trials") or value in (None, [], (), False):
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                words.append(parameter.opts[0])
            words.append(str(item))
    return shlex.join(words)


def _train(
    spec: "SweepSpec", store: "Store", plan: "Plan", address: str | None, budget: "Budget"
) -> "Result":
    from rich.console import Console

    from raysweep.running.progress import Display
    from raysweep.running.sweep import run_sweep

    if not plan.left:
        _say("every trial of it is in the store already")
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
            tell=_say,
            plan=plan,
            command=sys.argv,
            max_hours=budget.max_hours,
            max_trials=budget.max_trials,
        )
    if plan.left:
        held = f"{result.trained + result.skipped} of {result.planned}"
        _say(f"trained {_count(result.trained, 'trial')}; {store.root} holds {held}")
    return result


def _grid_line(spec: "SweepSpec", plan: "Plan") -> str:
    axes = " x ".join(f"{name} ({len(values)})" for name, values in spec.axes.items())
    points = len(plan.trials) // len(spec.seeds)
    total = (
        f"{_count(points, 'configuration')} x {_count(len(spec.seeds), 'seed')}"
        f" = {_count(len(plan.trials), 'trial')}"
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
    steps_per_epoch = -(-plan.n_train // base.batch_size)
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
        _say(f"{trials}: {error}; log: {result.store.root}/{logs[0]}", err=True)


def _pair(setting: str) -> tuple[str, str]:
    ours, sign, theirs = setting.partition("=")
    if not sign:
        raise InputError(f"--column {setting!r}: ROLE=NAME is expected")
    return ours, theirs


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _say(line: str, *, err: bool = False) -> None:
    typer.echo(line, err=err)
