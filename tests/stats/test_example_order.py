"""Examples that belong together are found by their order; independent ones are not."""

import numpy as np
import polars as pl
import pytest

from analysis import analyze
from analysis.calibration.simulate import ar1
from analysis.sources.example_order import CHECK
from analysis.stats.example_order import MOST, order_ratio


def bits(rng, num_examples, num_clusters, num_epochs=30):
    """Half of the score, and of its movement, is the cluster's. (T, n)."""
    shape = (num_clusters, num_examples // num_clusters)
    of_cluster = rng.standard_normal((shape[0], 1, 1)) + 0.3 * ar1(
        rng, (shape[0], 1, num_epochs), 0.5
    )
    own = rng.standard_normal((*shape, 1)) + 0.3 * ar1(rng, (*shape, num_epochs), 0.5)
    right = 1.28 + np.sqrt(0.5) * (of_cluster + own) > 0
    return right.reshape(num_examples, num_epochs).T


@pytest.mark.parametrize("num_examples", [200, 1000, 5000])
def test_independent_examples_are_never_taken_for_clusters(num_examples, simulation):
    rng = simulation([1, num_examples])
    ratios = [order_ratio(bits(rng, num_examples, num_examples)) for _ in range(100)]
    assert max(ratios) < MOST
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("num_examples", "num_clusters"), [(1000, 100), (1000, 20), (5000, 200)])
def test_clusters_in_file_order_are_found(num_examples, num_clusters, simulation):
    rng = simulation([2, num_clusters])
    ratios = np.array([order_ratio(bits(rng, num_examples, num_clusters)) for _ in range(50)])
    assert (ratios > MOST).mean() >= 0.84
    shuffled = bits(rng, num_examples, num_clusters)[:, rng.permutation(num_examples)]
    assert order_ratio(shuffled) < MOST


def test_too_few_examples_or_changes_tell_nothing():
    rng = np.random.default_rng(3)
    assert np.isnan(order_ratio(bits(rng, 80, 80)))
    assert np.isnan(order_ratio(np.ones((30, 1000), bool)))
    assert np.isnan(order_ratio(bits(rng, 1000, 1000)[:2]))


@pytest.mark.parametrize("num_clusters", [1000, 20])
def test_the_quality_of_a_source_says_that_its_examples_hang_together(num_clusters):
    rng = np.random.default_rng(4)
    rows = [
        {"trial_id": f"{trial}", "epoch": epoch + 1, "val_correct_bits": seen.astype(int).tolist()}
        for trial in range(2)
        for epoch, seen in enumerate(bits(rng, 1000, num_clusters))
    ]
    frame = pl.DataFrame(rows).with_columns(
        pl.col("val_correct_bits").list.mean().alias("val_accuracy")
    )
    found = analyze(frame.sample(fraction=1.0, shuffle=True, seed=1))
    told = found.quality.filter(check=CHECK)
    ratio = found.trials["order_ratio"]
    assert ratio.n_unique() == 1
    assert told.height == (ratio[0] > MOST) == (num_clusters == 20)
