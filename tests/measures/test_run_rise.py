"""The rise of a run's loss as columns: in shares and in its own unit, from the loss alone."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.curves import Curves
from analysis.measures.run_rise import measure_run_rise

TIME = np.arange(60)
LOSS = 2 + 2 * np.exp(-TIME / 3) + 0.5 * np.clip(TIME - 20, 0, None) / 39


def test_a_loss_alone_has_columns_in_shares_and_in_its_own_unit():
    none = np.full((2, 60), np.nan)
    curves = Curves.of_accuracy(none, val_loss=np.stack([LOSS, LOSS - 2.5]))
    positive, signed = measure_run_rise(curves).to_dicts()
    assert positive["run_loss_rise"] == pytest.approx(0.24, abs=0.02)
    assert positive["run_loss_rise_p"] <= 0.05
    assert signed["run_loss_rise"] is None
    for row in (positive, signed):
        assert row["run_loss_rise_abs"] == pytest.approx(0.48, abs=0.03)
        assert 0 < row["run_loss_rise_abs_low"] <= row["run_loss_rise_abs"]
        assert row["run_loss_rise_abs_high"] >= 0.48


def test_the_loss_that_the_analysis_reads_has_them_for_trials_and_for_their_configuration():
    rng = np.random.default_rng(0)
    frame = pl.concat(
        pl.DataFrame(
            {
                "trial_id": f"{seed}",
                "seed": seed,
                "epoch": TIME + 1,
                "val_accuracy": 0.8 + 0.001 * rng.standard_normal(60),
                "val_loss": LOSS * (1 + 0.005 * rng.standard_normal(60)),
            }
        )
        for seed in range(3)
    )
    found = analyze(frame)
    for table in (found.trials, found.configurations):
        for row in table.to_dicts():
            assert 0.1 < row["run_loss_rise_low"] <= 0.24 <= row["run_loss_rise_high"]
            assert row["run_loss_rise_abs"] == pytest.approx(0.48, abs=0.06)
