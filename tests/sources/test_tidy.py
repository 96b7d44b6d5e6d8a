"""A tidy frame of curves is analyzed like a store, or refused with the place of what is wrong."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis import analyze
from analysis.calibration.simulate import Scenario, simulate
from analysis.columns import estimates
from analysis.page.report import render
from raysweep.errors import InputError
from tests.support.simulated import Curve, Sweep, spec

T = 40


def tidy(rates=(0.1, 0.2), seeds=(0, 1), num_epochs=T, **columns):
    """Curves of known form: a rise and jitter, a trial per rate and seed."""
    parts = []
    for rate in rates:
        for seed in seeds:
            rng = np.random.default_rng([int(1000 * rate), seed])
            rise = 0.8 - 0.3 * np.exp(-np.arange(num_epochs) / 3)
            parts.append(
                pl.DataFrame(
                    {
                        "trial_id": f"{rate}-{seed}",
                        "epoch": np.arange(1, num_epochs + 1),
                        "val_accuracy": rise + 0.01 * rng.standard_normal(num_epochs),
                        "seed": seed,
                        "rate": rate,
                    }
                )
            )
    return pl.concat(parts).with_columns(**columns)


def where(trial, epoch, column, value):
    """The curves with one value replaced."""
    here = (pl.col("trial_id") == trial) & (pl.col("epoch") == epoch)
    return tidy().with_columns(pl.when(here).then(value).otherwise(column).alias(column))


def test_curves_alone_have_their_jitter_estimated():
    trials = analyze(tidy()).trials
    assert trials["num_epochs"].to_list() == [T] * 4
    assert np.sqrt(np.square(trials["hf_sd"].to_numpy()).mean()) == pytest.approx(0.01, rel=0.2)
    assert trials["pop_var"].null_count() == trials["gap"].null_count() == 4


def test_a_store_and_the_tidy_frame_of_it_give_the_same_estimates(tmp_path):
    store = Sweep(spec("s", axes={"dropout": [0.0, 0.5]}, epochs=T, seeds=2)).write(
        tmp_path, lambda trial: Curve()
    )
    expected = analyze(store)
    known = expected.trials.select("trial_id", "dropout", pl.col("n_train").alias("num_train"))
    curves = expected.epochs.join(known, on="trial_id").select(
        "trial_id",
        "epoch",
        "seed",
        "dropout",
        "num_train",
        "val_accuracy",
        "val_loss",
        "val_block_n",
        "val_block_correct",
        "val_block_loss_sum",
        "flip_to_wrong",
        "flip_to_right",
        pl.col("lr").alias("learning_rate"),
        pl.col("val_n").alias("num_val"),
        pl.col("train_eval_accuracy").alias("train_accuracy"),
        pl.col("train_eval_loss").alias("train_loss"),
        pl.col("train_eval_n").alias("num_train_eval"),
        pl.col("train_accuracy").alias("train_accuracy_running"),
        pl.col("train_loss").alias("train_loss_running"),
    )
    found = analyze(curves.sample(fraction=1.0, shuffle=True, seed=3))
    made = [name for name in estimates() if found.trials.schema.get(name, pl.String).is_numeric()]
    columns = ["trial_id", "seed", *(name for name in made if not name.startswith("refined"))]
    one, other = (a.trials.select(columns).sort("trial_id") for a in (found, expected))
    assert_frame_equal(one, other)
    assert_frame_equal(found.effects, expected.effects)


def test_columns_that_are_constant_within_a_trial_are_hyperparameters():
    curves = tidy(width=64, clock=pl.col("epoch") * 1.5)
    analysis = analyze(curves)
    assert [axis.name for axis in analysis.axes] == ["rate"]
    assert analysis.record["spec"]["base"] == {"width": 64}
    assert analysis.configurations["num_seeds"].to_list() == [2, 2]
    unused = analysis.quality.filter(pl.col("check") == "columns not used")
    assert unused["detail"].to_list() == ["clock"]
    assert analyze(curves.drop("seed"), config=["width"]).configurations.height == 1


def test_config_ids_depend_on_the_values_alone():
    ids = set(analyze(tidy()).trials["config_id"])
    assert len(ids) == 2
    whole = tidy(rates=(1.0, 2.0))
    again = whole.with_columns(pl.col("rate").cast(pl.Int64), pl.lit(None).alias("other"))
    assert set(analyze(whole).trials["config_id"]) == set(analyze(again).trials["config_id"])


def test_a_schedule_is_one_learning_rate_and_starts_segments():
    rate = pl.when(pl.col("epoch") <= 20).then(pl.col("rate")).otherwise(pl.col("rate") / 10)
    analysis = analyze(tidy(learning_rate=rate).drop("rate"))
    assert [axis.levels for axis in analysis.axes] == [(0.1, 0.2)]
    assert analysis.trials["num_usable_epochs"].unique().to_list() == [34]  # 3 + 3 left out


def test_without_seeds_trials_of_a_configuration_are_numbered():
    analysis = analyze(tidy().drop("seed"))
    assert analysis.trials["seed"].to_list() == [0, 1, 0, 1]
    assert "seeds not given" in analysis.quality["check"]


def test_what_is_not_finite_or_ends_worse_than_it_began_is_diverged():
    curves = tidy(train_loss=2.0 - pl.col("epoch") / T, initial_train_loss=pl.lit(2.3))
    worse = (pl.col("trial_id") == "0.1-0") & (pl.col("epoch") == T)
    spike = (pl.col("trial_id") == "0.1-1") & (pl.col("epoch") == 5)
    burst = (pl.col("trial_id") == "0.2-0") & (pl.col("epoch") == 5)
    curves = curves.with_columns(
        pl.when(worse | spike)
        .then(9.0)
        .when(burst)
        .then(np.inf)
        .otherwise("train_loss")
        .alias("train_loss")
    )
    analysis = analyze(curves)
    assert dict(analysis.trials.select("trial_id", "outcome").rows()) == {
        "0.1-0": "diverged",
        "0.1-1": "completed",
        "0.2-0": "diverged",
        "0.2-1": "completed",
    }
    assert analysis.trials.filter(pl.col("status") == "diverged")["hf_sd"].null_count() == 2
    assert analysis.epochs["train_eval_loss"].is_finite().drop_nulls().all()


def test_a_loss_at_some_epochs_only_is_said_to_tell_no_rise():
    analysis = analyze(tidy(val_loss=pl.when(pl.col("epoch") < 9).then(1.0)))
    partly = analysis.quality.filter(pl.col("check").str.contains("at some epochs only"))
    assert partly["count"].to_list() == [4]
    assert analysis.trials["loss_rise"].null_count() == 4


def test_evidence_that_is_missing_is_named_with_what_it_costs():
    checks = analyze(tidy()).quality["check"].to_list()
    for words in ("validation blocks", "flips of predictions", "validation loss"):
        assert f"trials without {words}" in checks


def test_trials_with_and_without_blocks_stand_beside_each_other():
    scenario = Scenario(num_epochs=T)
    made = simulate(scenario, 1, np.random.default_rng(5), losses=False, bits=True)
    right = made.correct[0]
    blocks = right.reshape(T, 20, 50).sum(axis=2)
    flips = np.diff(right.astype(int), axis=0)
    with_blocks = pl.DataFrame(
        {
            "trial_id": "blocks",
            "epoch": np.arange(1, T + 1),
            "rate": 0.3,
            "seed": 0,
            "val_accuracy": right.mean(axis=1),
            "val_block_correct": blocks.tolist(),
            "val_block_n": [[50] * 20] * T,
            "flip_to_wrong": [None, *(flips < 0).sum(axis=1).tolist()],
            "flip_to_right": [None, *(flips > 0).sum(axis=1).tolist()],
        }
    )
    trials = analyze([tidy(), with_blocks]).trials
    assert trials.height == 5
    known = trials.filter(pl.col("fin_sd").is_not_null())
    assert known["trial_id"].to_list() == ["blocks"]
    assert known["n_val"].to_list() == [1000]


def test_the_gap_has_limits_only_where_the_size_of_the_training_set_is_known():
    """An unknown size is no training subset without sampling error."""
    rng = np.random.default_rng(6)
    num = tidy().height
    right = rng.binomial(50, 0.8, (num, 20))
    curves = tidy().with_columns(
        pl.Series("val_accuracy", right.sum(axis=1) / 1000),
        pl.Series("val_block_correct", right.tolist()),
        pl.lit([50] * 20).alias("val_block_n"),
        pl.Series("train_accuracy", rng.binomial(500, 0.9, num) / 500),
        pl.lit(500).alias("num_train_eval"),
    )
    unknown = analyze(curves)
    known = analyze(curves.with_columns(pl.lit(4000).alias("num_train")))
    for frame in (unknown.trials, unknown.configurations):
        assert frame["gap"].null_count() == 0
        assert frame["gap_low"].null_count() == frame["gap_high"].null_count() == frame.height
    for frame in (known.trials, known.configurations):
        assert (frame["gap_low"] < frame["gap_high"]).all()


def test_lists_in_a_csv_file_are_read(tmp_path):
    lists = tidy(val_block_n=pl.lit("[50, 50]"), val_block_correct=pl.lit("[40, 30]"))
    lists.with_columns(val_accuracy=pl.lit(0.7)).write_csv(tmp_path / "c.csv")
    assert analyze(tmp_path / "c.csv").trials["n_val"].to_list() == [100] * 4


def test_a_frame_a_lazy_frame_and_its_files_are_the_same_source(tmp_path):
    tidy().write_parquet(tmp_path / "c.parquet")
    tidy().write_csv(tmp_path / "c.csv")
    expected = analyze(tidy()).trials
    for source in (tidy().lazy(), str(tmp_path / "c.parquet"), tmp_path / "c.csv"):
        assert_frame_equal(analyze(source).trials, expected)


def test_missing_epochs_stay_missing():
    analysis = analyze(tidy().filter(pl.col("epoch") != 20))
    assert "trials with missing epochs" in analysis.quality["check"]
    assert analysis.trials["num_epochs"].to_list() == [T - 1] * 4


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        (
            tidy().rename({"val_accuracy": "val_acuracy"}),
            "no column 'val_accuracy'; did you mean 'val_a",
        ),
        (tidy(val_los=pl.col("epoch")), "'val_los' of the curves is not known; did you mean 'val_"),
        (where("0.1-1", 7, "val_accuracy", 83.5), "is 83.5 at epoch 7 of trial '0.1-1'.*percent"),
        (where("0.1-1", 7, "val_accuracy", -0.1), "is -0.1 at epoch 7 of trial '0.1-1'"),
        (where("0.1-1", 7, "val_accuracy", None), "is empty at epoch 7 of trial '0.1-1'"),
        (where("0.1-1", 7, "epoch", 6), "more than one row at epoch 6 of trial '0.1-1'"),
        (tidy().with_columns(pl.col("epoch") - 1), "start at 0.*initial_train_loss"),
        (tidy().with_columns(pl.col("epoch") + 0.5), "'epoch' holds 1.5, where whole numbers"),
        (tidy(seed=pl.lit("one")), "'seed' holds 'one', where whole numbers"),
        (tidy(seed=pl.lit(1)), "'0.1-0' and '0.1-1' have the same hyperparameters and the same"),
        (tidy(seed=pl.col("epoch")), "seed is 2 at epoch 2 .*one value per trial"),
        (tidy(noise=pl.col("rate")), "'noise' of the curves has the name of a measure"),
        (tidy(final_loss=pl.col("rate")), "'final_loss' of the curves has the name of a measure"),
        (tidy(task=pl.lit("mnist")), "'task' has a name that the analysis uses"),
        (tidy(flip_to_wrong=pl.lit(1)), "'flip_to_wrong' needs 'flip_to_right'"),
        (tidy(val_block_n=pl.lit("[9]"), val_block_correct=pl.lit("[0]")), "the blocks say ano"),
        (tidy().clear(), "have no row"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(curves, words):
    with pytest.raises(InputError, match=words):
        analyze(curves)


def test_a_hyperparameter_that_changes_is_refused():
    with pytest.raises(InputError, match="'clock' can't be a hyperparameter: it changes within"):
        analyze(tidy(clock=pl.col("epoch")), config=["clock"])


def test_the_report_of_one_curve_and_of_none_that_completed_can_be_written():
    one = tidy(rates=(0.1,), seeds=(0,)).select("trial_id", "epoch", "val_accuracy")
    assert 'id="curves"' in render(analyze(one))
    diverged = tidy(val_loss=pl.lit(np.nan))
    page = render(analyze(diverged))
    for words in ("No run finished its training", "4 diverged", "nothing to tell"):
        assert words in page
    assert "no knob has two values" not in page


def test_one_input_gives_the_same_bytes_whatever_the_order_of_its_rows():
    curves = tidy(optimizer=pl.lit("sgd"))
    assert render(analyze(curves)) == render(analyze(curves.reverse()))
