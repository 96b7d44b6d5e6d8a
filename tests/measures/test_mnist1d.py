"""The decomposition on real training: fresh examples are the population."""

from analysis.calibration.measured import mnist1d as script


def test_real_training_the_populations_variance_is_recovered_from_resampled_validation_sets(
    simulation,
):
    """Eight trials, 200 sets of 1,000 each, 20,000 fresh examples; shorter than the script's."""
    trials = script.trained(script.SETTINGS, num_population=20_000, num_epochs=40)
    rng = simulation(1)
    found = [
        script.measure(setting, right, 1000, 200, rng)
        for setting, right in zip(script.SETTINGS, trials, strict=True)
    ]
    errors = script.relative_errors(found)
    assert errors["from_blocks"] < 0.15
    assert errors["observed"] > 0.5  # the naive one calls all of it the network's
    assert errors["binomial"] > 0.5
    assert all(one.covered > 0.9 for one in found)
