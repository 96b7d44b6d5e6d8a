"""Early stopping replayed: what each stopping rule would have saved and lost on stored curves.

Valid only where the learning rate doesn't depend on stopping: a curve up to an epoch must be the
same whether or not training went on after it.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.curves import Curves, Floats
from analysis.stats.intervals import mean_interval, pooled_df
from analysis.stats.windows import block_variance

Ints = NDArray[np.int64]
Metric = Literal["val_loss", "val_accuracy"]
Smoother = Literal["none", "median-3", "ema"]

_NUM_FOLDS = 5  # of the validation blocks: a rule sees four fifths of them
_EMA_WEIGHT = 0.3  # of the newest epoch


@dataclass(frozen=True)
class Policy:
    """Stop at the first epoch, not before min_epochs, that comes `patience` epochs after the best
    one; keep that best one. An epoch is better when it beats the best by more than min_delta."""

    metric: Metric
    smoother: Smoother
    patience: int
    min_delta: float
    min_epochs: int


def policies(
    metrics: Sequence[Metric] = ("val_loss", "val_accuracy"),
    smoothers: Sequence[Smoother] = ("none", "median-3", "ema"),
    patiences: Sequence[int] = (3, 5, 10, 20),
    min_deltas: Sequence[float] = (0.0, 0.002),
    min_epochs: Sequence[int] = (0, 20),
) -> list[Policy]:
    """Combine all of these settings; the defaults make 96 policies."""
    return [
        Policy(*parts)
        for parts in itertools.product(metrics, smoothers, patiences, min_deltas, min_epochs)
    ]


SCHEMA = {
    "metric": pl.String,
    "smoother": pl.String,
    "patience": pl.Int64,
    "min_delta": pl.Float64,
    "min_epochs": pl.Int64,
    "num_trials": pl.Int64,
    "mean_stop_epoch": pl.Float64,
    "saved_share": pl.Float64,  # of the stored epochs
    "regret": pl.Float64,  # accuracy of the curve's best epoch minus that of the kept one
    "regret_low": pl.Float64,
    "regret_high": pl.Float64,
    "regret_kind": pl.String,  # cross-fitted or naive
    "difference": pl.Float64,  # regret minus that of the baseline, paired
    "difference_low": pl.Float64,
    "difference_high": pl.Float64,
    "pareto": pl.Boolean,  # no other rule with this kind of regret saves more and loses less
    "reason": pl.String,  # why numbers are null
}
CROSS_FITTED, NAIVE = "cross-fitted", "naive"
BASELINE = Policy("val_loss", "none", 10, 0.0, 0)


class _Played(NamedTuple):
    """A policy on N trials of one kind: those that have its metric and an accuracy."""

    trial: Ints  # (N,), their numbers over all groups, so that two policies can be paired
    stop: Floats  # (N,), epochs trained, mean over folds
    saved: Floats  # (N,), share of the stored epochs
    regret: Floats  # (N,)
    # (N, K), regret by block; K = 0 where naive. Half as large, as each rule keeps all trials.
    of_blocks: NDArray[np.float32]
    ran_out: bool  # a curve ended before the rule stopped it


def replay(
    groups: Iterable[Curves], rules: Sequence[Policy] | None = None, *, censored: bool = False
) -> pl.DataFrame:
    """Replay every policy on stored curves.

    With blocks the rule sees four fifths of them, and both the kept epoch and the best one of the
    whole curve (chosen on what the rule sees) are read on the fifth left out, in turn: regret has
    no luck in it and can be negative. Without blocks it is read where it was chosen: naive. Where
    some trials have blocks, the others are left out.

    A trial without the metric is in no row of that metric.

    Args: groups: the trials, as curves() gives them; see replayable() for which; rules: by default
        policies(); censored: they all stopped early, so a policy that would have gone on is null.
    Returns: columns as SCHEMA, a row per policy.
    """
    rules = policies() if rules is None else rules
    distinct = list(dict.fromkeys([*rules, BASELINE]))
    parts: dict[tuple[Policy, str], list[_Played]] = {}
    weights: list[Floats] = []
    num_before = 0
    for group in groups:
        weights.append(group.block_weight)
        for rule, kind, result in _play(group, distinct, num_before):
            parts.setdefault((rule, kind), []).append(result)
        num_before += len(group.trial_ids)
    weight = _shared([part for part in weights if part.shape[1]])
    played = {key: _joined(results) for key, results in parts.items()}
    rows: list[dict[str, object]] = []
    for rule in rules:
        kind = CROSS_FITTED if (rule, CROSS_FITTED) in played else NAIVE
        result, base = played.get((rule, kind)), played.get((BASELINE, kind))
        row: dict[str, object] = asdict(rule) | {"regret_kind": kind, "num_trials": 0}
        if result is None:
            row["reason"] = f"no {rule.metric} was recorded"
        elif censored and result.ran_out:
            row["reason"] = "trials stopped before this rule would have"
        else:
            row |= _summary(result, weight)
            if base and not (censored and base.ran_out):
                row |= _difference(result, base, weight)
        rows.append(row)
    frame = pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)
    return _with_pareto(frame.with_columns(pl.col(pl.Float64).fill_nan(None)))


def replayable(trials: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Choose the trials that stopping rules can be replayed on.

    Args: trials: with stopped_early.
    Returns: the trials that ran to their end, and False; all of them, and True, where none did.
    """
    whole = trials.filter(~pl.col("stopped_early").fill_null(False))
    return (whole, False) if whole.height else (trials, trials.height > 0)


def _play(
    trials: Curves, rules: Sequence[Policy], num_before: int
) -> Iterator[tuple[Policy, str, _Played]]:
    """Rules whose metric is there, on the trials that have it and an accuracy.

    Args: num_before: how many trials were in earlier groups.
    """
    curve = {"val_accuracy": trials.val_accuracy, "val_loss": trials.val_loss}
    blocks = {"val_accuracy": trials.block_accuracy, "val_loss": trials.block_loss}
    has_blocks = {name: part.shape[2] >= _NUM_FOLDS for name, part in blocks.items()}
    measured = [rule for rule in rules if np.isfinite(curve[rule.metric]).any()]
    paths = itertools.groupby(sorted(measured, key=_by_path), key=_by_path)
    for (metric, smoother, min_delta), group in paths:
        folded = has_blocks["val_accuracy"] and has_blocks[metric]
        seen = curve[metric][:, None]
        if folded:
            seen = _without_folds(blocks[metric], trials.block_weight)
        has_metric = np.all(np.isfinite(seen).any(axis=2), axis=1)
        values = _smoothed(seen, smoother)
        path = _best_so_far(values if metric == "val_accuracy" else -values, min_delta)
        top = _highest(trials, folded=folded)
        for rule in group:
            stop, ran_out = _stops(path, rule.patience, rule.min_epochs)
            best = np.take_along_axis(path, stop[:, :, None], axis=2)[:, :, 0]
            lost = top - _read(trials, best, folded=folded)
            weight = trials.block_weight if folded else np.ones((len(best), 1))
            regret = (lost * weight).sum(axis=1)
            there = np.isfinite(regret) & has_metric
            trained = stop[there].mean(axis=1) + 1
            yield (
                rule,
                CROSS_FITTED if folded else NAIVE,
                _Played(
                    num_before + np.flatnonzero(there),
                    trained,
                    1 - trained / trials.num_epochs,
                    regret[there],
                    lost[there, : weight.shape[1] if folded else 0].astype(np.float32),
                    bool(ran_out[there].any()),
                ),
            )


def _highest(trials: Curves, *, folded: bool) -> Floats:
    """Accuracy of the best epoch: (N, K), each block's at the epoch chosen without its fold; or
    (N, 1), naive."""
    seen = trials.val_accuracy[:, None]
    if folded:
        seen = _without_folds(trials.block_accuracy, trials.block_weight)
    return _read(trials, np.argmax(_filled(seen), axis=2), folded=folded)


def _read(trials: Curves, epoch: Ints, *, folded: bool) -> Floats:
    """Accuracy at these epochs (N, F): each block at its fold's (N, K), or all there is (N, 1)."""
    if not folded:
        return np.take_along_axis(trials.val_accuracy, epoch, axis=1)
    fold = np.arange(trials.block_weight.shape[1]) % _NUM_FOLDS
    return np.take_along_axis(trials.block_accuracy, epoch[:, None, fold], axis=1)[:, 0]


def _by_path(rule: Policy) -> tuple[Metric, Smoother, float]:
    return rule.metric, rule.smoother, rule.min_delta


def _filled(values: Floats) -> Floats:
    return np.where(np.isnan(values), -np.inf, values)


def _without_folds(blocks: Floats, weight: Floats) -> Floats:
    """Means over all blocks but those of a fold. (N, T, K), (N, K) -> (N, F, T)."""
    fold = np.arange(weight.shape[1]) % _NUM_FOLDS
    others = [weight * (fold != number) for number in range(_NUM_FOLDS)]
    with np.errstate(invalid="ignore"):  # a fold has all examples: nothing is known without it
        shares = np.stack([part / part.sum(axis=1, keepdims=True) for part in others], axis=1)
    return shares @ blocks.transpose(0, 2, 1)


def _smoothed(values: Floats, smoother: Smoother) -> Floats:
    """By what is known at each epoch. Args: values: (N, F, T)."""
    if smoother == "median-3":
        padded = np.concatenate([values[..., :1], values[..., :1], values], axis=2)
        return np.median(np.lib.stride_tricks.sliding_window_view(padded, 3, axis=2), axis=-1)
    if smoother == "ema":
        out = values.copy()
        for t in range(1, values.shape[2]):
            new, before = values[..., t], out[..., t - 1]
            mixed = _EMA_WEIGHT * new + (1 - _EMA_WEIGHT) * before
            # A missing epoch leaves the mean as it was, or all later ones would be missing too.
            mixed = np.where(np.isnan(before), new, mixed)
            out[..., t] = np.where(np.isnan(new), before, mixed)
        return out
    return values


def _best_so_far(values: Floats, min_delta: float) -> Ints:
    """At each epoch, the best one up to it, from 0. Larger is better. Args: values: (N, F, T)."""
    path = np.zeros(values.shape, np.int64)
    top = _filled(values[..., 0])
    for t in range(1, values.shape[2]):
        better = values[..., t] > top + min_delta
        top = np.where(better, values[..., t], top)
        path[..., t] = np.where(better, t, path[..., t - 1])
    return path


def _stops(path: Ints, patience: int, min_epochs: int) -> tuple[Ints, NDArray[np.bool_]]:
    """The last epoch trained (from 0), and whether the curve ended first. Args: path: (N, F, T)."""
    epoch = np.arange(path.shape[2])
    over = (epoch - path >= patience) & (epoch + 1 >= min_epochs)
    ran_out = ~over.any(axis=2)
    return np.where(ran_out, path.shape[2] - 1, over.argmax(axis=2)), ran_out


def _joined(parts: Sequence[_Played]) -> _Played:
    *arrays, of_blocks, ran_out = zip(*parts, strict=True)
    if len({part.shape[1] for part in of_blocks}) > 1:
        of_blocks = [part[:, :0] for part in of_blocks]
    trial, stop, saved, regret = (np.concatenate(part) for part in arrays)
    return _Played(trial, stop, saved, regret, np.concatenate(of_blocks), any(ran_out))


def _shared(weights: Sequence[Floats]) -> Floats | None:
    """The blocks' weights (K,), if all trials were judged on the same blocks."""
    if not weights or len({part.shape[1] for part in weights}) > 1:
        return None
    together = np.concatenate(weights)
    same = together.shape[1] > 1 and np.allclose(together, together[0])
    return together[0] if same else None


def _summary(result: _Played, weight: Floats | None) -> dict[str, object]:
    regret, low, high = _mean(result.regret, result.of_blocks, weight)
    return {
        "num_trials": len(result.regret),
        "mean_stop_epoch": float(result.stop.mean()) if len(result.stop) else np.nan,
        "saved_share": float(result.saved.mean()) if len(result.saved) else np.nan,
        "regret": regret,
        "regret_low": low,
        "regret_high": high,
    }


def _difference(result: _Played, base: _Played, weight: Floats | None) -> dict[str, object]:
    """Paired, over the trials that have the metrics of both."""
    _, ours, theirs = np.intersect1d(result.trial, base.trial, return_indices=True)
    num_blocks = min(result.of_blocks.shape[1], base.of_blocks.shape[1])
    mean_and_limits = _mean(
        result.regret[ours] - base.regret[theirs],
        result.of_blocks[ours, :num_blocks] - base.of_blocks[theirs, :num_blocks],
        weight,
    )
    names = ("difference", "difference_low", "difference_high")
    return dict(zip(names, mean_and_limits, strict=True))


def _mean(
    values: Floats, of_blocks: NDArray[np.float32], weight: Floats | None
) -> tuple[float, float, float]:
    """Mean over trials with limits: the spread of trials, and the blocks that they share.

    Args: values: (N,); of_blocks: (N, K).
    """
    num = len(values)
    if num < 2:
        return float(values.mean()) if num else np.nan, np.nan, np.nan
    parts = [(values.var(ddof=1, keepdims=True) / num, np.array([num - 1.0]))]
    if weight is not None and of_blocks.shape[1]:
        variance, used = block_variance(
            of_blocks.mean(axis=0, keepdims=True, dtype=float), weight[None]
        )
        parts.append((variance, used - 1))
    variance, df = pooled_df(parts)
    # Trials that agree to the last example tell nothing about their spread.
    se = np.where(variance > 1e-24, np.sqrt(variance), np.nan)
    low, high = mean_interval(values.mean(), se, df)
    return float(values.mean()), float(low[0]), float(high[0])


def _with_pareto(frame: pl.DataFrame) -> pl.DataFrame:
    saved, regret = frame["saved_share"].to_numpy(), frame["regret"].to_numpy()
    kind = frame["regret_kind"].to_numpy()
    at_least = (saved >= saved[:, None]) & (regret <= regret[:, None]) & (kind == kind[:, None])
    more = (saved > saved[:, None]) | (regret < regret[:, None])
    pareto = pl.Series("pareto", ~(at_least & more).any(axis=1))
    return frame.with_columns(pl.when(pl.col("regret").is_not_null()).then(pareto).alias("pareto"))
