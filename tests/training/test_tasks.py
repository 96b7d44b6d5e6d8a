"""The shipped tasks, finding one's own, and what is said of broken ones."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raysweep.errors import InputError
from raysweep.spec import Hyperparameters
from raysweep.tasks import (
    Arrays,
    Task,
    find_task,
    load_data,
    look,
    num_examples,
    tried,
)
from raysweep.tasks.fashion_mnist import DEBIAN_FOLDER, FILES
from raysweep.training.splits import TensorSplit, place
from raysweep.training.train import Training, train
from tests.support import odd_tasks

HERE = Path(__file__).parents[1] / "support"


def test_digits_are_the_real_ones_with_balanced_classes(digits):
    _, data, _ = digits
    assert (num_examples(data.train), num_examples(data.validation)) == (1000, 797)
    assert 0 <= data.train.x.min() < data.train.x.max() == 1
    counts = np.bincount(data.validation.y)
    assert counts.max() - counts.min() <= 4


@pytest.fixture
def idx_folder(tmp_path):
    """Fashion-MNIST's four files, with a handful of made-up images in them."""
    rng = np.random.default_rng(0)
    for (images, labels), count in zip(FILES.values(), (40, 24), strict=True):
        classes = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 20, (count, 28, 28), dtype=np.uint8)
        pixels[np.arange(count), classes * 2 + 4] = 250  # a bright row says which class it is
        shape = np.array(pixels.shape, ">i4").tobytes()
        (tmp_path / images).write_bytes(b"\0\0\x08\x03" + shape + pixels.tobytes())
        body = b"\0\0\x08\x01" + np.array([count], ">i4").tobytes() + classes.tobytes()
        (tmp_path / f"{labels}.gz").write_bytes(gzip.compress(body))
    return tmp_path


def test_fashion_mnist_reads_plain_and_packed_files_and_trains(idx_folder):
    source = find_task("fashion_mnist")
    data = load_data(source, idx_folder)
    assert isinstance(data.train, Arrays)
    assert data.train.x.shape == (40, 1, 28, 28)
    assert data.train.x.dtype == np.uint8
    rows = []
    trial = Hyperparameters(
        epochs=15,
        batch_size=10,
        width=16,
        depth=2,
        dropout=0.2,
        optimizer="adam",
        learning_rate=0.01,
    )
    placed = place(data, torch.device("cpu"))
    train(Training(trial, 0, source.task, data, placed), rows.append)
    assert rows[-1]["train_eval_loss_sum"] < 0.8 * rows[0]["train_eval_loss_sum"]


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_found_where_debian_puts_it():
    data = load_data(find_task("fashion_mnist"), None)
    assert (num_examples(data.train), num_examples(data.validation)) == (60_000, 10_000)
    assert isinstance(data.train, Arrays)
    assert data.train.x.mean() == pytest.approx(72.94, abs=0.01)
    assert data.train.x.std() == pytest.approx(90.02, abs=0.01)


def test_a_cut_or_foreign_idx_file_is_named(idx_folder):
    images = idx_folder / FILES["train"][0]
    whole = images.read_bytes()
    for broken, message in ((whole[:-5], "cut short"), (b"PNG" + whole, "no IDX file of bytes")):
        images.write_bytes(broken)
        with pytest.raises(InputError, match=message):
            find_task("fashion_mnist").task.load(idx_folder)


def test_ones_own_task_is_found_in_the_folder_of_its_sweep():
    source = find_task("odd_tasks:odd", HERE)
    assert source.task is sys.modules["odd_tasks"].odd  # of that folder, by its plain name
    assert source.files == {"odd_tasks": HERE / "odd_tasks.py"}
    assert find_task("digits").files is None


def test_a_module_that_fails_to_import_is_one_line(tmp_path):
    (tmp_path / "raises.py").write_text("1 / 0")
    (tmp_path / "needs.py").write_text("import no_such_thing")
    with pytest.raises(InputError, match="ZeroDivisionError: division by zero"):
        find_task("raises:task", tmp_path)
    with pytest.raises(InputError, match="No module named 'no_such_thing'"):
        find_task("needs:task", tmp_path)


def test_an_object_that_is_no_task_is_told_from_those_that_are():
    with pytest.raises(InputError, match="'load' is no task of module odd_tasks; it has unlucky"):
        find_task("odd_tasks:load", HERE)


def test_broken_data_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="train has classes 0 to 9; allowed: 0 to 2"):
        load_data(find_task("odd_tasks:broken", HERE), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            lambda data: {"train": data.train._replace(y=data.train.y.astype(float))},
            "train has classes of type float64; whole numbers are needed",
        ),
        (
            lambda data: {"train_eval": data.validation},
            "train_eval has 61 examples, and train has 97",
        ),
        (
            lambda data: {"val_clusters": np.zeros(60)},
            "val_clusters has 60 examples, and validation has 61",
        ),
    ],
)
def test_splits_that_do_not_fit_together_are_refused_before_anything_starts(changes, message):
    odd = odd_tasks.odd
    source = find_task("odd_tasks:odd", HERE)
    task = Task(lambda folder: (made := odd.load(folder))._replace(**changes(made)), odd.build)
    with pytest.raises(InputError, match=message):
        load_data(source._replace(task=task), None)


def test_placed_on_a_cpu_the_inputs_are_not_copied_and_what_leaves_may_be_written(digits):
    _, data, _ = digits
    x = data.validation.x.copy()
    x.setflags(write=False)  # as Ray's object store gives it
    placed = place(data._replace(validation=Arrays(x, data.validation.y)), torch.device("cpu"))
    split = placed.validation
    assert isinstance(split, TensorSplit)
    assert split.x.data_ptr() == x.ctypes.data
    order = torch.arange(split.n)
    for batches in (split.in_order(slice(0, 64), 32), split.shuffled(order[:64], [32, 32])):
        for batch, _ in batches:
            batch.add_(1)
    np.testing.assert_array_equal(x, data.validation.x)


def test_a_dataset_without_a_digest_is_refused():
    pairs = odd_tasks.pairs
    source = find_task("odd_tasks:pairs", HERE)
    task = Task(lambda folder: pairs.load(folder)._replace(digest=None), pairs.build)
    with pytest.raises(InputError, match=r"needs Data\(digest="):
        load_data(source._replace(task=task), None)


def test_a_model_is_looked_at_without_being_run(digits):
    task, data, _ = digits
    fields = Hyperparameters(dropout=0.5, width=100, depth=1)
    plain = fields.model_copy(update={"dropout": 0.0})
    assert look(task, data, plain).traits == (False, False, False)
    assert look(task, data, fields).traits.random
    assert look(task, data, fields).read == {"width", "depth", "dropout"}
    assert tried(task, data, fields).flops_per_example == 6 * (64 * 100 + 100 + 100 * 10 + 10)
    # Bytes of 8 x 8 through a convolution of 3 x 3 and a linear layer, counted by torch: forward,
    # and backward for weights; for the input of the linear layer, too.
    conv = Task(
        lambda folder: data,
        lambda trial, data: nn.Sequential(
            nn.Unflatten(0, (-1, 1)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 62, 10)
        ),
    )
    counted = tried(conv, data, fields).flops_per_example
    assert counted == 2 * (2 * 62 * 4 * 3 + 3 * 4 * 62 * 10)
    assert look(odd_tasks.batch_norm, data, Hyperparameters()).traits.batch_norm
    assert look(
        task, odd_tasks.load_jittered(None), plain
    ).traits.random  # it may draw as it is read


def test_a_model_that_raises_or_is_huge_does_no_harm_when_looked_at(digits):
    _, data, _ = digits
    trial = Hyperparameters()
    raises = Task(odd_tasks.load, lambda trial, data: nn.Conv1d(3, 3, 3))  # wrong shape of input
    assert tried(raises, data, trial).flops_per_example == 0.0
    breaks = Task(odd_tasks.load, lambda trial, data: 1 / 0)  # pyright: ignore[reportArgumentType]
    assert look(breaks, data, trial).traits == (False, True, False)
    huge = Task(odd_tasks.load, lambda trial, data: nn.Linear(64, 10**12))
    assert look(huge, data, Hyperparameters()).traits == (False, False, False)


def arrays(name):
    data = load_data(find_task(name), None)
    assert isinstance(data.train, Arrays)
    assert isinstance(data.validation, Arrays)
    return data.train, data.validation


def test_the_variants_of_the_digits_change_what_they_say_and_nothing_else():
    (train, validation), (wrong, clean), (same, few) = (
        arrays(name) for name in ("digits", "noisy_digits", "few_digits")
    )
    assert (wrong.y != train.y).sum() == 200
    np.testing.assert_array_equal(wrong.x, train.x)
    np.testing.assert_array_equal(clean.y, validation.y)
    np.testing.assert_array_equal(same.y, train.y)
    assert few.x.shape == (200, 64)
