"""What the best possible test could tell, for docs/method/verdict.md; prints a Markdown table.

    OMP_NUM_THREADS=1 python -m analysis.calibration.measured.best_test

It knows what no test of real curves knows: the noise's covariance (here from simulated curves),
the shape of the fall or rise, and where it begins. Only its size and the level are unknown. For
normal noise no test at 5 % finds it more often.
"""

import numpy as np
from scipy import stats

from analysis.calibration.error_rates import SEEDS, at_margin
from analysis.calibration.measured.tables import Table, cells, write
from analysis.calibration.simulate import Scenario, simulate
from analysis.curves import Floats
from analysis.stats.trend import SECOND, degrees_of_freedom, valid_contrasts

T, USED, LATE = 60, slice(9, None), slice(40, None)


def main() -> None:
    """All tables."""
    plain = Scenario(learning_epochs=0, num_train_eval=1)
    slow = Scenario(learning_epochs=0, num_train_eval=1, jitter=at_margin(0.9), correlation=0.9)
    write(*falls(covariance(plain), covariance(slow)))
    write(*rises(covariance(plain)))
    write(*jitters())


def covariance(scenario: Scenario) -> Floats:
    """(T, T), of the accuracy that 1,000 examples show."""
    made = simulate(scenario, 6000, np.random.default_rng(3), losses=False)
    return np.cov(made.curves.val_accuracy.T)


def error(shape: Floats, noise: Floats) -> float:
    """Of the size of so shaped a change around an unknown level. Args: (T,), (T, T)."""
    inverse, one = np.linalg.inv(noise), np.ones(len(shape))
    known = shape @ inverse @ shape - (shape @ inverse @ one) ** 2 / (one @ inverse @ one)
    return float(1 / np.sqrt(known))


def falls(plain: Floats, slow: Floats) -> Table:
    """Linear falls from 30 % of training on, as those of the error rates."""
    shape = Scenario().past_peak()[USED]
    rows = []
    for fall in (0.012, 0.02, 0.03):
        for noise, words in ((plain, "0"), (slow, "0.9")):
            once = fall / error(shape, noise[USED, USED])
            power = [stats.norm.sf(stats.norm.isf(0.05) - once * np.sqrt(s)) for s in SEEDS]
            rows.append(f"{100 * fall:g} | {words} | {cells('.2f', power)}")
    head = " | ".join(["accuracy lost, pp", "AR of the jitter", *(f"{s} seeds" for s in SEEDS)])
    return "A fall: power of the best test that knows the noise", head, rows


def rises(noise: Floats) -> Table:
    """Over the last third: above 0 for sure, and by more than 2 pp in as many epochs again."""
    once = T * error(np.arange(20.0), noise[LATE, LATE])
    rows = []
    for gain in (0.04, 0.06, 0.09):
        errors = once / np.sqrt(SEEDS)
        least = np.maximum(stats.norm.isf(0.05) * errors, 0.02)
        power = stats.norm.sf((least - gain) / errors)
        rows.append(f"{100 * gain:g} | {cells('.2f', power)}")
    head = " | ".join(["as many epochs again add, pp", *(f"{s} seeds" for s in SEEDS)])
    return "A rise that goes on: power of the best test that knows the noise", head, rows


def jitters() -> Table:
    """By second differences, the set's part known: one chi-square variable and its scale."""
    rows = []
    for words, usable, level, ratio in (
        (
            '"both": twice the margin, 51 usable epochs',
            51,
            0.04,
            (0.84**2 + 0.4**2) / (2 * 0.84**2),
        ),
        ("the population moves: 0.4 of the jitter, 40 usable epochs", 40, 0.05, 0.6),
    ):
        valid = valid_contrasts(np.zeros((1, usable), np.int64), len(SECOND))
        df = float(degrees_of_freedom(valid, SECOND)[0])
        found = [stats.chi2.sf(stats.chi2.isf(level, s * df) * ratio, s * df) for s in SEEDS]
        rows.append(f"{words} | {df:.1f} | {cells('.2f', found)}")
    head = " | ".join(["claim", "df of a seed", *(f"{s} seeds" for s in SEEDS)])
    return "A part of the jitter: power of the chi-square test", head, rows


if __name__ == "__main__":
    main()
