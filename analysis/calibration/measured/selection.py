"""Tables of docs/method/choice.md: how epochs and configurations are chosen, the truth known.

OMP_NUM_THREADS=1 python -m analysis.calibration.measured.selection

Every example has a margin m ~ N(0, 1) and is right at epoch t when m + level_t + churn * u_t > 0, u
being an AR(1) of its own; so the population's accuracy at t is Phi(level_t / sqrt(1 + churn^2)).
Trials that are compared share a validation set, whatever their accuracy.
"""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.calibration.measured.tables import PP, Table, bias, cells, write_all
from analysis.calibration.simulate import Scenario, ar1, simulate
from analysis.causes import ranking
from analysis.causes.replay import BASELINE, Policy, replay
from analysis.curves import Curves, Floats
from analysis.measures.best_epoch import measure_best_epoch
from analysis.stats.best_set import block_deviations, tied_with_best

SEED = 20260201
NUM_BLOCKS = 20
CHURN = 0.3


def judged(accuracy: Floats, n: int, rng: np.random.Generator, memory: float = 0.5) -> Floats:
    """Accuracies of 20 blocks of n examples, shared by the trials of a set.

    Args: accuracy: of the population, (R, S, T) for R validation sets. Returns: (R, S, T, 20).
    """
    R, S, T = accuracy.shape
    level = (np.sqrt(1 + CHURN**2) * special.ndtri(accuracy)).astype(np.float32)
    out = np.empty((R, S, T, NUM_BLOCKS))
    starts = np.arange(NUM_BLOCKS) * n // NUM_BLOCKS
    for r in range(R):
        margin = rng.standard_normal((1, n, 1), dtype=np.float32)
        right = margin + level[r, :, None] + np.float32(CHURN) * ar1(rng, (S, n, T), memory) > 0
        counts = np.add.reduceat(right.view(np.int8), starts, axis=1, dtype=np.int32)
        out[r] = counts.transpose(0, 2, 1) / (n // NUM_BLOCKS)
    return out


def curves_of(blocks: Floats, n: int) -> Curves:
    """(N, T, K) -> curves with blocks."""
    num = len(blocks)
    return Curves.of_accuracy(
        blocks.mean(axis=2),
        val_n=np.full(num, float(n)),
        block_accuracy=blocks,
        block_weight=np.full((num, NUM_BLOCKS), 1 / NUM_BLOCKS),
    )


def at(values: Floats, index: NDArray[np.int64]) -> Floats:
    """values[..., index], index being one number for each row."""
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def learning(num_epochs: int) -> Floats:
    """A rise to 90 % that is soon over."""
    return 0.9 - 0.4 * np.exp(-np.arange(1, num_epochs + 1) / 3)


def best(rng: np.random.Generator) -> Table:
    """The score of the best epoch of one trial."""
    rows = []
    for n, T, jitter in itertools.product((200, 1000, 5000), (20, 60), (0.0, 0.01)):
        R = 1000 if n < 5000 else 300
        accuracy = np.clip(learning(T) + jitter * rng.standard_normal((R, 1, T)), 0.01, 0.99)
        made = curves_of(judged(accuracy, n, rng)[:, 0], n)
        truth = at(accuracy[:, 0], made.val_accuracy.argmax(axis=1))
        found = measure_best_epoch(made)
        nested, low, high = (found[f"best_nested{end}"].to_numpy() for end in ("", "_low", "_high"))
        naive = made.val_accuracy.max(axis=1)
        rows.append(
            f"{n:,} | {T} | {jitter / PP:g} | {bias(naive - truth)} | {bias(nested - truth)} | "
            f"{np.mean((low <= truth) & (truth <= high)):.3f} | "
            f"{bias(accuracy[:, 0].max(axis=1) - truth)}"
        )
    head = (
        "n | T | jitter of the population, pp | bias of naive, pp | bias of nested, pp | coverage "
        "| best possible minus chosen, pp"
    )
    return "Accuracy of the best epoch", head, rows


def tied_sets(rng: np.random.Generator) -> Table:
    """Which epochs can't be told from the best."""
    rows = []
    shapes = ("equal", "rise", "peak")
    for name, n, T, memory in itertools.product(shapes, (200, 1000), (5, 20, 60), (0.5, 0.95)):
        R, time = 500, np.arange(T)
        trend = {
            "equal": np.full(T, 0.9),
            "rise": learning(T),
            "peak": 0.9 - 0.15 * ((time - T * 2 // 3) / T) ** 2,
        }[name]
        blocks = judged(np.tile(trend, (R, 1, 1)), n, rng, memory)[:, 0]
        made = curves_of(blocks, n)
        deviations = block_deviations(blocks, made.block_weight)
        found = tied_with_best(made.val_accuracy, deviations)
        top = np.isclose(trend, trend.max(), atol=1e-5, rtol=0)
        pairwise = _pairwise(made.val_accuracy, deviations)
        first = found.argmax(axis=1) <= top.argmax()
        shares = (found[:, top].mean(), found[:, top].all(axis=1).mean(), first.mean())
        rows.append(
            f"{name} | {n:,} | {T} | {memory} | {cells('.3f', shares)} | "
            f"{found.sum(axis=1).mean():.1f} | {pairwise[:, top].mean():.3f}"
        )
    head = (
        "accuracy | n | T | memory | a best epoch is in | all best epochs are in | tied_from_epoch "
        "≤ first best | mean size | pairwise with the winner: is in"
    )
    return "Epochs tied with the best", head, rows


def _pairwise(scores: Floats, deviations: Floats) -> NDArray[np.bool_]:
    """The 95 % one-sided t test of each against the winner: what not to do."""
    winner = scores.argmax(axis=1)[:, None, None]
    error = np.sqrt(
        ((deviations - np.take_along_axis(deviations, winner, axis=1)) ** 2).sum(axis=2)
    )
    return scores.max(axis=1, keepdims=True) - scores <= 1.729 * error


def winners(rng: np.random.Generator) -> Table:
    """The score of the best of 36 configurations that are equal."""
    rows = []
    for n, S, T, R in ((200, 1, 40, 400), (1000, 1, 40, 400), (1000, 3, 40, 300)):
        for jitter, offset in ((0.0, 0.0), (0.004, 0.004)):
            accuracy = _equal(rng, (R, 36, S, T), jitter, offset)
            values: list[list[float]] = []
            covered = 0
            for r in range(R):
                blocks = judged(accuracy[r].reshape(1, 36 * S, T), n, rng)[0]
                made = curves_of(blocks, n)
                frame, winner = ranking.ranking([made], _names(36, S))
                assert winner is not None
                chosen = at(accuracy[r].reshape(36 * S, T), made.val_accuracy.argmax(axis=1))
                means = chosen.reshape(36, S).mean(axis=1)
                truth = means[int(winner.config_id)]
                covered += winner.nested_low <= truth <= winner.nested_high
                naive = made.val_accuracy.max(axis=1).reshape(36, S).mean(axis=1)
                new = winner.nested_new_seeds
                values.append(
                    [
                        winner.naive - means[naive.argmax()],
                        float(frame["score_nested"][0]) - truth,
                        winner.nested - truth,
                        np.nan if new is None else new - means.mean(),
                    ]
                )
            errors = np.array(values).T
            rows.append(
                f"{n:,} | {S} | {jitter / PP} | {offset / PP} | "
                f"{' | '.join(bias(column) for column in errors[:3])} | {covered / R:.3f} | "
                f"{bias(errors[3]) if S > 1 else ''}"
            )
    head = (
        "n | seeds | jitter, pp | SD between seeds, pp | bias of naive, pp | of the winner's own "
        "nested score, pp | of nested over both, pp | coverage | for new seeds, pp"
    )
    return "The best of 36 equal configurations, T = 40", head, rows


def _equal(
    rng: np.random.Generator, shape: tuple[int, ...], jitter: float, offset: float
) -> Floats:
    noise = jitter * rng.standard_normal(shape) + offset * rng.standard_normal((*shape[:3], 1))
    return np.clip(learning(shape[3]) + noise, 0.01, 0.995)


def _names(num_configurations: int, num_seeds: int) -> dict[str, str]:
    return {str(i): f"{i // num_seeds:03d}" for i in range(num_configurations * num_seeds)}


def tied_configurations(rng: np.random.Generator) -> Table:
    """Which configurations can't be told from the best, and how far they are behind."""
    rows = []
    n, T, R = 1000, 15, 300
    for C, S, spread, offset in (
        (2, 2, 0.0, 0.004),
        (2, 5, 0.0, 0.004),
        (6, 3, 0.0, 0.0),
        (6, 3, 0.0, 0.008),
        (36, 1, 0.0, 0.0),
        (36, 3, 0.0, 0.004),
        (6, 3, 0.01, 0.004),
        (12, 1, 0.01, 0.0),
        (12, 3, 0.01, 0.004),
        (12, 5, 0.01, 0.008),
    ):
        better = np.zeros(C) if not spread else np.linspace(-3 * spread, 0, C)
        in_set, all_in, sizes, low, high = [], [], [], [], []
        for _ in range(R):
            accuracy = _equal(rng, (1, C, S, T), 0.004, offset)[0] + better[:, None, None]
            accuracy = np.clip(accuracy, 0.01, 0.995)
            made = curves_of(judged(accuracy.reshape(1, C * S, T), n, rng)[0], n)
            frame = ranking.ranking([made], _names(C, S))[0].sort("config_id")
            inside = frame["tied_with_best"].to_numpy()
            behind = -better
            if S == 1:  # then the claim is about these networks
                chosen = at(accuracy[:, 0], made.val_accuracy.argmax(axis=1))
                behind = chosen.max() - chosen
            top = behind == behind.min()
            in_set.append(inside[top].mean())
            all_in.append(inside[top].all())
            sizes.append(inside.sum())
            low.append(np.mean(frame["behind_low"].to_numpy() <= behind + 1e-9))
            high.append(np.mean(frame["behind_high"].to_numpy() >= behind - 1e-9))
        means = [float(np.mean(each)) for each in (in_set, all_in, low, high)]
        rows.append(
            f"{C} | {S} | {spread * 3 / PP} | {offset / PP} | {cells('.3f', means[:2])} | "
            f"{np.mean(sizes):.1f} | {cells('.3f', means[2:])}"
        )
    head = (
        "configurations | seeds | from worst to best, pp | SD between seeds, pp | a best one is in "
        "| all best ones are in | mean size | behind_low ≤ truth | behind_high ≥ truth"
    )
    return "Configurations tied with the best, n = 1,000", head, rows


def regrets(rng: np.random.Generator) -> Table:
    """Regret of stopping rules against its truth."""
    rules = [
        BASELINE,
        Policy("val_loss", "none", 3, 0.0, 0),
        Policy("val_loss", "ema", 3, 0.0, 0),
        Policy("val_accuracy", "none", 3, 0.0, 0),
        Policy("val_accuracy", "none", 10, 0.0, 0),
        Policy("val_accuracy", "ema", 10, 0.0, 0),
    ]
    worlds = {
        "still": Scenario(num_epochs=60, num_seeds=12, jitter=0.0),
        "moves": Scenario(num_epochs=60, num_seeds=12, jitter=0.01),
        "falls": Scenario(num_epochs=60, num_seeds=12, fall=0.04, over_confidence=1.0),
    }
    rows = []
    R = 100
    for name, world in worlds.items():
        # The truth is what the population makes of the rule when it sees the whole set.
        parts: dict[tuple[int, str], list[float]] = {}
        for _ in range(R):
            made = simulate(world, 1, rng)
            cross, naive = (
                replay([made.curves], rules),
                replay([_without_blocks(made.curves)], rules),
            )
            top = at(made.accuracy, made.curves.val_accuracy.argmax(axis=1))
            for i, rule in enumerate(rules):
                truth = float(np.mean(top - at(made.accuracy, _kept(made.curves, rule))))
                low, high = cross["regret_low"][i], cross["regret_high"][i]
                for key, value in (
                    ("truth", truth),
                    ("cross", cross["regret"][i]),
                    ("naive", naive["regret"][i]),
                    ("saved", cross["saved_share"][i]),
                    ("covered", low is None or low <= truth <= high),
                ):
                    parts.setdefault((i, key), []).append(float(value))
        for i, rule in enumerate(rules):
            truth, cross_, naive_ = (np.array(parts[i, key]) for key in ("truth", "cross", "naive"))
            rows.append(
                f"{name} | {rule.metric} | {rule.smoother} | {rule.patience} | "
                f"{np.mean(parts[i, 'saved']):.2f} | {truth.mean() / PP:+.2f} | "
                f"{bias(cross_ - truth)} | {bias(naive_ - truth)} | "
                f"{np.mean(parts[i, 'covered']):.2f}"
            )
    head = (
        "population | metric | smoother | patience | saved | true regret, pp | bias of "
        "cross-fitted, pp | bias of naive, pp | coverage"
    )
    return "Regret of stopping rules, 12 trials on one set of 1,000, T = 60", head, rows


def _without_blocks(made: Curves) -> Curves:
    return Curves.of_accuracy(made.val_accuracy, val_loss=made.val_loss, val_n=made.val_n)


def _kept(made: Curves, rule: Policy) -> NDArray[np.int64]:
    """The epoch that a rule keeps when it sees the whole validation set, written out plainly."""
    kept: list[int] = []
    for loss, accuracy in zip(made.val_loss, made.val_accuracy, strict=True):
        score = accuracy if rule.metric == "val_accuracy" else -loss
        best, top, smooth = 0, -np.inf, score[0]
        for t, value in enumerate(score):
            smooth = 0.3 * value + 0.7 * smooth if t else value
            seen = smooth if rule.smoother == "ema" else value
            if seen > top + rule.min_delta:
                best, top = t, seen
            elif t - best >= rule.patience and t + 1 >= rule.min_epochs:
                break
        kept.append(best)
    return np.array(kept)


if __name__ == "__main__":
    tables = {0: best, 1: tied_sets, 2: winners, 3: tied_configurations, 6: regrets}
    write_all(tables, SEED)
