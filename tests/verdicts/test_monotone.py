"""More evidence never gives fewer answers, and bounds never claim what is not there."""

import itertools

import numpy as np
import polars as pl
import pytest

from analysis.calibration.judged import judged
from analysis.calibration.known_columns import COLUMNS, joined, known, labels, made
from analysis.calibration.simulate import Scenario, simulate
from analysis.curves import Curves
from analysis.labels import Noise, Overfit
from analysis.measures.decomposition import set_bound
from analysis.stats.trend import SECOND, contrasts
from analysis.verdicts.rules import verdict
from tests.verdicts.test_rules import QUIET

GROUPS = [set(fields) for fields in COLUMNS.values()]
RATE = {"majority_rate": 0.1, "final_accuracy": 0.85}


def answers(rows):
    """Whether each row has an answer, on overfitting and on noise."""
    return (
        (rows["overfit"] != Overfit.UNDETERMINED).to_numpy(),
        (rows["noise"] != Noise.UNDETERMINED).to_numpy(),
    )


def share_of(rows, *labels):
    """The share of the rows whose noise is called one of these."""
    return rows.filter(pl.col("noise").is_in(labels)).height / rows.height


@pytest.mark.parametrize("shape", [(1, 15, 200), (1, 30, 500), (1, 60, 1000), (3, 30, 500)])
def test_a_column_more_never_takes_an_answer_away(shape):
    curves = joined([one.curves for one, _ in made(shape, 12, key=1)])
    found = {
        chosen: answers(judged(known(curves, set().union(*(GROUPS[i] for i in chosen))), shape[0]))
        for size in range(len(GROUPS) + 1)
        for chosen in itertools.combinations(range(len(GROUPS)), size)
        # The blocks' refined losses are those of blocks.
        if 4 not in chosen or 3 in chosen
    }
    for chosen, less in found.items():
        for given in set(range(len(GROUPS))) - set(chosen):
            more = found.get(tuple(sorted((*chosen, given))), less)
            for before, after in zip(less, more, strict=True):
                assert (after >= before).all(), (chosen, given)


def test_no_measured_number_takes_an_answer_away():
    """Each group of numbers that verdict() reads, given or not, whatever they are."""
    rng = np.random.default_rng(4)
    groups = [
        ["drop", "drop_low", "drop_high", "harm_p"],
        ["loss_rise", "loss_rise_low", "loss_rise_high", "loss_harm_p"],
        ["refined_loss_rise", "refined_loss_rise_low", "refined_loss_rise_high", "refined_harm_p"],
        ["within_drop", "within_drop_low", "within_drop_high", "within_drop_p"],
        ["finite_var", "finite_df"],
        ["fin_sd_least", "fin_sd_most"],
        ["set_sd_most", "val_n"],
        ["train_drop"],
        ["majority_rate"],
    ]
    rows = []
    for _ in range(300):
        row = QUIET | RATE
        for group in groups[:4]:
            effect = rng.normal(0.005, 0.02)
            width = rng.uniform(0, 0.05)
            numbers = (effect, effect - width, effect + width, rng.uniform() ** 3)
            row |= dict(zip(group, numbers, strict=True))
        v = rng.uniform(0, 0.01)
        row |= {"hf_var": rng.uniform(0, 0.015) ** 2, "finite_var": v**2, "finite_df": 30.0}
        row |= {"fin_sd_least": 0.8 * v, "fin_sd_most": 1.2 * v, "set_sd_most": 2 * v}
        rows.append(row | {"train_drop": rng.uniform(0, 0.1), "num_seeds": 1})
    whole = pl.DataFrame(rows)

    def without(missing):
        left = whole.drop(name for i in missing for name in groups[i])
        return answers(verdict(left, adjust=False))

    for _ in range(12):  # from nothing to everything, in an order of its own
        order = rng.permutation(len(groups))
        before = without(order)
        for number in range(1, len(groups) + 1):
            after = without(order[number:])
            for less, more in zip(before, after, strict=True):
                assert (more >= less).all(), order[: number + 1]
            before = after


@pytest.mark.usefixtures("simulation")
def test_more_epochs_examples_and_seeds_give_no_fewer_answers():
    def share(shape):
        return {
            name: [answer.mean() for answer in answers(rows)]
            for name, rows in labels(shape, 50).items()
        }

    chains = [
        [(1, 30, 500), (1, 60, 500)],
        [(1, 60, 500), (1, 60, 2000)],
        [(1, 60, 500), (3, 60, 500)],
    ]
    for chain in chains:
        shares = [share(shape) for shape in chain]
        for fewer, more in itertools.pairwise(shares):
            for name in COLUMNS:
                for before, after in zip(fewer[name], more[name], strict=True):
                    # Two shares of 50 each differ by three standard errors at most.
                    error = np.sqrt((before * (1 - before) + after * (1 - after)) / 50)
                    assert after >= before - 3 * error - 0.01, (chain, name)


def test_what_n_examples_make_is_within_their_bound():
    """Whatever the examples do: even where each is wrong in every second epoch alone."""
    rng = np.random.default_rng(1)
    n, num_epochs = 400, 40
    labels_ = np.zeros((1, num_epochs), np.int64)
    for rate in (0.02, 0.1, 0.4):
        right = rng.random((n, 2)) > rate
        alternating = np.where(np.arange(num_epochs) % 2, right[:, :1], right[:, 1:])
        white = rng.random((n, num_epochs)) > rate
        for correct in (alternating, white):
            y = contrasts(correct.T[None].astype(float), SECOND)[0]
            v = y.var(axis=1).mean() / 1.5 / n
            bound = set_bound(correct.mean(axis=0)[None], np.array([float(n)]), labels_)[0]
            assert v <= bound
    assert bound < 3 * v  # nor is it far off where examples are as loud as can be


@pytest.mark.usefixtures("simulation")
@pytest.mark.parametrize("num_val", [200, 1000, 10_000])
def test_a_network_that_stands_still_is_said_to_be_within_what_its_examples_make(num_val):
    """By the number of examples alone; never the optimizer."""
    rng = np.random.default_rng(num_val)
    accuracy = rng.binomial(num_val, 0.9, (400, 60)) / num_val
    rows = judged(Curves.of_accuracy(accuracy, val_n=np.full(400, float(num_val))), 1)
    assert share_of(rows, Noise.UNDETERMINED) <= 0.1
    assert share_of(rows, Noise.OPTIMIZER, Noise.BOTH) <= 0.01


@pytest.mark.usefixtures("simulation")
def test_one_dip_is_a_few_spikes_and_no_optimizer_noise():
    scenario = Scenario(jitter=0.0005, churn=0.1, num_train_eval=1)
    curves = simulate(scenario, 60, np.random.default_rng(5), losses=False).curves
    dipped = curves.val_accuracy.copy()
    dipped[np.arange(60), np.random.default_rng(6).integers(20, 50, 60)] -= 0.06
    rows = judged(Curves.of_accuracy(dipped, val_n=curves.val_n), 1)
    assert share_of(rows, Noise.SPIKES) >= 0.9
    loud = simulate(Scenario(jitter=0.012, num_train_eval=1), 60, np.random.default_rng(7))
    rows = judged(loud.curves, 1)
    assert share_of(rows, Noise.SPIKES) <= 0.02
