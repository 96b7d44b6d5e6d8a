"""The digits whose data a sweep may vary: what each field does, and what it leaves alone."""

from typing import Any

import numpy as np
import pytest
import torch

from raysweep import recipes
from raysweep.errors import InputError
from raysweep.tasks import Arrays, find_task, validation_digest
from raysweep.tasks.digits import load
from raysweep.tasks.varied_digits import VariedDigits, augment, prepare
from raysweep.training.splits import place
from raysweep.training.train import Training, train


@pytest.fixture(scope="module")
def plain():
    return load(None)


def prepared(plain: Any, **fields: Any) -> Any:
    made = prepare(VariedDigits(**fields), plain)
    assert isinstance(made.train, Arrays)
    assert isinstance(made.validation, Arrays)
    return made


def images(*splits):
    return sorted(row.tobytes() for split in splits for row in split.x)


def test_without_a_field_nothing_changes(plain):
    made = prepared(plain)
    assert made.train is plain.train
    assert made.validation is plain.validation


def test_label_noise_makes_as_many_labels_wrong_and_touches_no_image(plain):
    made = prepared(plain, label_noise=0.3)
    assert (made.train.y != plain.train.y).sum() == 300
    assert made.train.x is plain.train.x
    assert made.validation is plain.validation
    again = prepared(plain, label_noise=0.3)
    assert (again.train.y == made.train.y).all()


@pytest.mark.parametrize("imbalance", [1.0, 3.0, 10.0])
def test_imbalance_keeps_the_number_of_images(plain, imbalance):
    made = prepared(plain, imbalance=imbalance, num_train=380)
    sizes = np.bincount(made.train.y)
    assert sizes.sum() == 380
    assert sizes[0] / sizes[-1] == pytest.approx(imbalance, rel=0.06)
    assert (np.diff(sizes) <= 1).all()
    assert set(images(made.train)) <= set(images(plain.train))


def test_more_images_than_a_class_has_are_refused_with_what_is_possible(plain):
    with pytest.raises(InputError, match=r"num_train = 900 at imbalance = 10: .* at most (\d+)"):
        prepared(plain, imbalance=10.0, num_train=900)
    largest = len(prepared(plain, imbalance=10.0).train.y)
    assert len(prepared(plain, imbalance=10.0, num_train=largest).train.y) == largest


def test_smaller_validation_sets_are_parts_of_larger_ones(plain):
    small, large = (prepared(plain, num_validation=num) for num in (100, 400))
    assert (len(small.validation.y), len(large.validation.y)) == (100, 400)
    assert set(images(small.validation)) <= set(images(large.validation))
    assert small.train is plain.train


def test_another_split_deals_the_same_images_evenly(plain):
    one, other = (prepared(plain, split_seed=seed) for seed in (0, 1))
    assert images(one.train, one.validation) == images(plain.train, plain.validation)
    assert (len(one.train.y), len(one.validation.y)) == (1000, 797)
    assert images(one.validation) != images(other.validation)
    spread = np.bincount(one.train.y) / np.bincount(np.append(one.train.y, one.validation.y))
    assert spread == pytest.approx(1000 / 1797, abs=0.01)


def test_a_moved_image_is_the_image_within_an_empty_edge():
    torch.manual_seed(0)
    x = torch.rand(500, 64) + 1
    moved, targets = augment(VariedDigits(shift=1), x, torch.arange(500))
    assert (targets == torch.arange(500)).all()
    seen = set()
    for before, after in zip(x.view(-1, 8, 8), moved.view(-1, 8, 8), strict=True):
        (found,) = (
            (dy, dx)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if torch.equal(
                after[max(0, -dy) : 8 - max(0, dy), max(0, -dx) : 8 - max(0, dx)],
                before[max(0, dy) : 8 - max(0, -dy), max(0, dx) : 8 - max(0, -dx)],
            )
        )
        seen.add(found)
    assert len(seen) == 9
    assert augment(VariedDigits(), x, targets)[0] is x


def test_the_recipes_know_the_fields_of_the_task():
    assert find_task("varied_digits").task.hyperparameters is VariedDigits
    assert recipes.read("imbalance").axes["imbalance"] == (1.0, 3.0, 10.0)
    wider = recipes.read("label-noise", ["axes.label_noise=[0.0,0.5]", "base.shift=1"])
    assert wider.axes["label_noise"] == (0.0, 0.5)
    with pytest.raises(InputError, match="did you mean 'label_noise'"):
        recipes.read("label-noise", ["axes.label_nois=[0.0]"])


def trained(task, plain, **fields):
    trial = VariedDigits(epochs=2, **fields)
    placed = place(plain, torch.device("cpu"))
    rows = []
    outcome = train(Training(trial, 0, task, plain, placed), rows.append)
    return rows, outcome


def test_a_trial_is_trained_and_judged_on_its_own_data(plain):
    task = find_task("varied_digits").task
    rows, outcome = trained(task, plain, num_validation=100, num_train=500)
    assert {row["val_n"] for row in rows} == {100}
    assert (outcome.n_train, outcome.n_val) == (500, 100)
    assert outcome.val_digest not in (None, validation_digest(plain))
    assert trained(task, plain, label_noise=0.1)[1].val_digest == validation_digest(plain)


def test_another_validation_set_is_refused_where_a_task_does_not_vary_it(plain):
    task = find_task("varied_digits").task._replace(varies_validation=False)
    with pytest.raises(InputError, match=r"changed the validation set.*varies_validation=True"):
        trained(task, plain, split_seed=1)
    assert trained(task, plain, label_noise=0.1)[1].n_val == 797
