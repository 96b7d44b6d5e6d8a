"""What each knob did: paired, conditioned, with intervals that cover."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.answer.sweep import names_of
from analysis.causes.effects import DIFFERENCES, JITTERS, is_clear, paired_effects
from analysis.page.effects import effect_sentences, effect_words
from analysis.page.verdict import said, settings_rows
from analysis.sources.axes import Axis, axes_of, points
from tests.support.simulated import (
    Curve,
    Sweep,
    batch_size_like,
    dropout_like,
    early_stopping_like,
    practitioner,
    spec,
)


def table(axes, num_seeds, value):
    """Trials with one response, `final_accuracy` = value(point, seed); the others are constant."""
    grid = [{}]
    for axis in axes:
        grid = [{**point, axis.name: level} for point in grid for level in axis.labels]
    schema = {axis.name: pl.Enum(list(axis.labels)) for axis in axes}
    labels = pl.DataFrame(
        [{"config_id": str(i), "point": str(i), **point} for i, point in enumerate(grid)],
        schema_overrides=schema,
    )
    rows = [
        {
            "config_id": str(i),
            "seed": seed,
            **dict.fromkeys(DIFFERENCES, 0.0),
            "final_accuracy": value(point, seed),
        }
        for i, point in enumerate(grid)
        for seed in range(num_seeds)
    ]
    known = {name: 1.0 if "var" in name else 30.0 for names in JITTERS.values() for name in names}
    jitter = labels.select(
        "config_id", *[pl.lit(value).alias(name) for name, value in known.items()]
    )
    return pl.DataFrame(rows), jitter, labels


def axis(name, *labels):
    return Axis(name, labels, labels)


def of(rows, **where):
    for name, value in where.items():
        rows = rows.filter(pl.col(name) == value)
    return rows


def test_differences_are_paired_so_that_what_seeds_share_cancels():
    axes = [axis("dropout", "0", "0.5")]
    shared = np.random.default_rng(0).normal(0, 100, 5)
    rng = np.random.default_rng(1)
    trials = table(
        axes, 5, lambda point, seed: shared[seed] + (point["dropout"] == "0.5") + rng.normal(0, 0.1)
    )
    (row,) = of(paired_effects(*trials, axes), response="final_accuracy").iter_rows(named=True)
    assert row["estimate"] == pytest.approx(1, abs=0.2)
    assert row["high"] - row["low"] < 1
    assert row["num_pairs"] == 5


def test_the_interval_of_a_paired_difference_covers():
    """100 learning rates, at each of which the batch size does the same: 2, in pairs of noise."""
    axes = [
        axis("batch_size", "32", "512"),
        axis("learning_rate", *map(str, range(100))),
        axis("weight_decay", "0", "1"),
    ]
    rng = np.random.default_rng(2)
    trials = table(axes, 3, lambda point, seed: 2.0 * (point["batch_size"] == "512") + rng.normal())
    found = of(
        paired_effects(*trials, axes), axis="batch_size", response="final_accuracy", scope="pooled"
    )
    assert found.height == 100
    covered = found.filter(pl.col("low") < 2, pl.col("high") > 2).height / 100
    assert abs(covered - 0.95) < 2.5 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.parametrize("alike", [0.45, 0.97])
@pytest.mark.parametrize(("num_seeds", "num_slices"), [(3, 12), (5, 4)])
def test_limits_cover_where_a_seed_does_alike_in_all_slices(
    alike, num_seeds, num_slices, simulation
):
    """The differences of one seed in different slices correlate. At each of 400 learning rates
    the batch size does the same: 2."""
    rates = [str(rate) for rate in range(400)]
    axes = [
        axis("batch_size", "32", "512"),
        axis("learning_rate", *rates),
        axis("width", *map(str, range(num_slices))),
    ]
    rng = simulation([21, num_seeds])
    of_seed = np.sqrt(alike) * rng.normal(size=(400, num_seeds))
    own = np.sqrt(1 - alike) * rng.normal(size=(400, num_seeds, num_slices))

    def value(point, seed):
        if point["batch_size"] == "32":
            return 0.0
        rate = int(point["learning_rate"])
        return 2.0 + of_seed[rate, seed] + own[rate, seed, int(point["width"])]

    trials, jitter, labels = table(axes, num_seeds, value)
    # The other axes' effects are not asked for: they have one level each.
    asked = [axes[0], *(Axis(other.name, other.levels[:1], other.labels[:1]) for other in axes[1:])]
    found = paired_effects(trials, jitter, labels, asked)
    found = of(found, response="final_accuracy", scope="pooled")
    assert found.height == 400
    assert set(found["num_pairs"]) == {num_seeds * num_slices}
    covered = found.filter(pl.col("low") < 2, pl.col("high") > 2).height / 400
    # 0.93 to 0.98, and three standard errors.
    assert 0.93 - 3 * np.sqrt(0.07 * 0.93 / 400) < covered < 0.98 + 3 * np.sqrt(0.02 * 0.98 / 400)


def test_batch_size_is_never_a_marginal_effect():
    axes = [
        axis("batch_size", "32", "512"),
        axis("learning_rate", "0.01", "0.1"),
        axis("lr_scaling", "none", "linear"),
        axis("dropout", "0", "0.5"),
    ]
    # The batch size does the opposite at the two learning rates: a marginal effect would be 0.
    trials = table(
        axes,
        3,
        lambda p, seed: (
            (p["batch_size"] == "512") * (1 if p["learning_rate"] == "0.1" else -1)
            + 0.01 * seed * (p["dropout"] == "0")
        ),
    )
    found = paired_effects(*trials, axes)
    pooled = of(found, axis="batch_size", response="final_accuracy", scope="pooled")
    assert pooled["given"].to_list() == [
        f"lr {lr} · lr scaling {scaling}"
        for lr in ("0.01", "0.1")
        for scaling in ("none", "linear")
    ]
    assert pooled["estimate"].to_list() == pytest.approx([-1, -1, 1, 1])
    assert pooled["num_slices"].to_list() == [2] * 4
    assert of(found, axis="dropout", response="gap", scope="pooled")["given"].to_list() == [""]


def test_each_slice_is_told_where_there_are_few():
    axes = [axis("dropout", "0", "0.5"), axis("weight_decay", "0", "1")]
    found = paired_effects(*table(axes, 2, lambda p, s: float(p["weight_decay"] == "1")), axes)
    slices = of(found, axis="dropout", response="final_accuracy", scope="slice")
    assert slices["given"].to_list() == ["wd 0", "wd 1"]


def test_one_seed_gives_an_estimate_without_an_interval():
    axes = [axis("dropout", "0", "0.5")]
    found = paired_effects(*table(axes, 1, lambda p, s: float(p["dropout"] == "0.5")), axes)
    (row,) = of(found, response="final_accuracy").iter_rows(named=True)
    assert (row["estimate"], row["low"], row["high"]) == (1.0, None, None)


def test_axes_keep_the_levels_of_the_spec_and_speak_plainly():
    sweep = Sweep(
        spec(
            "x",
            axes={
                "weight_decay": [1e-4, 0.0],
                "dropout": [0.5],
                "early_stopping": [None, {"metric": "val_loss", "patience": 10}],
            },
        )
    )
    record = sweep.record()
    axes = axes_of(record)
    assert [(a.name, a.labels) for a in axes] == [
        ("weight_decay", ("0.0001", "0")),
        ("early_stopping", ("off", "val_loss, patience 10")),
    ]
    assert points(record, axes)["point"].to_list()[1] == (
        "wd 0.0001 · early stopping val_loss, patience 10"
    )


def test_levels_with_the_same_short_words_are_told_apart():
    stopping = [{"patience": 10, "metric": "val_loss", "min_delta": d} for d in (1e-9, 1.1e-9)]
    record = {
        "spec": {
            "name": "x",
            "axes": {
                "early_stopping": [
                    dict(s, restore_best=True, extra=i) for i, s in enumerate(stopping)
                ]
            },
        }
    }
    (found,) = axes_of(record)
    assert len(set(found.labels)) == 2


# --- the recipes' questions


def knob_sentence(analysis):
    return " ".join(effect_sentences(analysis, analysis.axes[0]))


def test_the_batch_size_recipe_is_answered_at_each_scaling(tmp_path):
    analysis = analyze(batch_size_like().write(tmp_path, practitioner))
    said = knob_sentence(analysis)
    assert (
        "Batch size 512 instead of 32 at lr scaling none lowers jitter in the second half by"
        in said
    )
    assert "at lr scaling linear" in said
    asked = {"axis": "batch_size", "response": "late_jitter", "scope": "pooled", "level": "512"}
    pooled = of(analysis.effects, **asked)
    fixed, scaled = pooled.iter_rows(named=True)
    assert fixed["high"] < 1
    assert scaled["low"] < 1 < scaled["high"]


def test_the_dropout_recipe_is_answered(tmp_path):
    analysis = analyze(dropout_like().write(tmp_path, practitioner))
    assert "Dropout 0.5 instead of 0 lowers the gap by" in knob_sentence(analysis)
    (gap,) = of(analysis.effects, response="gap").iter_rows(named=True)
    assert gap["high"] < 0


def test_the_early_stopping_recipe_is_answered(tmp_path):
    analysis = analyze(
        early_stopping_like().write(tmp_path, lambda trial: Curve(fall=0.06, peak=0.37, gap=0.05))
    )
    words = knob_sentence(analysis)
    assert "lowers the number of epochs by" in words
    assert "raises accuracy of the weights that are kept by" in words
    rows = settings_rows(analysis, names_of(analysis))
    (stopped,) = (row for row in rows if row["num_stopped_early"])
    assert "5 of 5 seeds stopped early" in said(stopped, 500)


def test_what_is_not_clear_is_never_called_a_change():
    def said(low, high):
        row = {"response": "gap", "estimate": 0.01, "low": low, "high": high}
        rows = pl.DataFrame([row], schema_overrides={"low": pl.Float64, "high": pl.Float64})
        (judged,) = rows.with_columns(is_clear().alias("clear")).iter_rows(named=True)
        return effect_words({"gap": judged}, ["gap"])

    assert said(-0.001, 0.02) == "shows no clear change in the gap (−0.10 to 2.00 pp)"
    assert said(None, None) == "has too few seeds for an interval of the gap"
    assert said(0.001, 0.02) == "raises the gap by 1.00 pp (0.10 to 2.00)"


def test_a_level_that_never_completed_is_compared_by_no_row(tmp_path):
    sweep = Sweep(spec("x", axes={"learning_rate": [0.01, 0.1, 1.0]}, seeds=2))
    found = analyze(sweep.write(tmp_path, practitioner, diverged=[4, 5]))
    assert "Learning rate 0.1 instead of 0.01" in " ".join(effect_sentences(found, found.axes[0]))


def test_cross_fitted_falls_are_never_compared_with_naive_ones(tmp_path):
    """A failed seed leaves two in one cell: too few to cross-fit there."""
    axes = {"learning_rate": [0.01, 0.1], "dropout": [0.0, 0.5]}
    sweep = Sweep(spec("x", axes=axes, epochs=30, seeds=3))
    found = analyze(sweep.write(tmp_path, lambda trial: Curve(), failed=[11]))
    known = found.trials.drop_nulls("drop_crossfit")
    assert known.height == 9
    assert (found.trials["drop"].drop_nulls() >= 0).all()  # of a trial by itself it stays naive
    (row,) = of(found.effects, axis="learning_rate", response="drop", scope="pooled").iter_rows(
        named=True
    )
    low, high = (
        of(known, config_id=config_id).sort("seed")["drop_crossfit"]
        for config_id in found.points.filter(pl.col("dropout") == "0")["config_id"]
    )
    assert row["num_pairs"] == 3
    assert row["estimate"] == pytest.approx((high - low).mean())
    shared = of(found.attribution, response="drop", kind="between")
    assert set(shared["num_trials"]) <= {6, 9}  # the full sub-grid, and all that have one


def test_naive_falls_are_compared_where_no_trial_has_another(tmp_path):
    sweep = Sweep(spec("x", axes={"learning_rate": [0.01, 0.1]}, epochs=30, seeds=2))
    found = analyze(sweep.write(tmp_path, lambda trial: Curve()))
    assert found.trials["drop_crossfit"].count() == 0
    (row,) = of(found.effects, response="drop", scope="pooled").iter_rows(named=True)
    first, second = (
        of(found.trials, config_id=config_id)["drop"].to_numpy().mean()
        for config_id in found.points["config_id"]
    )
    assert row["estimate"] == pytest.approx(second - first)


def test_only_settings_in_which_every_seed_trained_are_compared(tmp_path):
    """One width falls apart at the high rate: its falls are no effect of the rate."""
    axes = {"learning_rate": [0.01, 0.1], "width": [8, 16, 32]}
    sweep = Sweep(spec("x", axes=axes, epochs=40, seeds=3))

    def curve(trial):
        broken = trial.learning_rate == 0.1 and trial.width == 8
        return Curve(fall=0.93) if broken else Curve(accuracy=0.92 + 0.001 * trial.width)  # chance

    found = analyze(sweep.write(tmp_path, curve, diverged=[12]))  # a seed of rate 0.1, width 16
    rows = of(found.effects, axis="learning_rate", response="final_accuracy", scope="pooled")
    (row,) = rows.iter_rows(named=True)
    assert row["num_slices"] == 1
    assert abs(row["estimate"]) < 0.01


def test_no_effect_of_early_stopping_compares_with_the_luckiest_epoch(tmp_path):
    """Stopped runs lose nothing here; a naive maximum on the other side would make a loss of it."""
    found = analyze(early_stopping_like().write(tmp_path, lambda trial: Curve()))
    assert "chosen_accuracy" not in found.effects["response"]
    (kept,) = of(found.effects, response="kept_accuracy").iter_rows(named=True)
    assert kept["low"] < 0.005
    assert kept["high"] > -0.005


def test_the_page_says_the_jitter_of_the_second_half(tmp_path):
    found = analyze(dropout_like().write(tmp_path, practitioner))
    (sentence,) = effect_sentences(found, found.axes[0])
    assert "jitter in the second half" in sentence
    assert "all epochs" not in sentence


def test_short_runs_have_the_jitter_of_all_epochs_alone(tmp_path):
    sweep = Sweep(spec("x", axes={"dropout": [0.0, 0.5]}, epochs=14, seeds=3))
    found = analyze(sweep.write(tmp_path, lambda trial: Curve()))
    assert set(found.effects["response"]) & set(JITTERS) == {"jitter"}
