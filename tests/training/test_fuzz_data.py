"""Whatever load() gives is data that can be placed and tried, or is refused in one line."""

import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from raysweep.errors import RaysweepError
from raysweep.spec import Hyperparameters
from raysweep.tasks import (
    Arrays,
    Data,
    Task,
    TaskSource,
    data_digest,
    load_data,
    num_examples,
    tried,
    validation_digest,
)
from raysweep.tasks.models.looking import Tried
from raysweep.training.splits import place
from tests.support.fuzzing import NUMBERS, TEXTS, cases, outcome

DTYPES = (
    *("f2", "f4", "f8", ">f4", "longdouble", "c8", "?", "i1", "u1", ">i2", "i4", "i8", "u8"),
    *("O", "U3", "S2", "M8[s]", "m8[s]", "V4"),
)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(lambda rest: (6, *rest))


@st.composite
def arrays(draw):
    """An array, or what people take for one."""
    shape = draw(st.one_of(SHAPES, st.sampled_from([(), (0,), (6,), (6, 4), (5, 4), (6, 1)])))
    made = np.arange(int(np.prod(shape))).reshape(shape) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = np.asarray(made.astype(draw(st.sampled_from(DTYPES))))
    if made.dtype.kind in "fc" and made.size and draw(st.booleans()):
        made[draw(st.integers(0, len(made) - 1)) if made.ndim else ()] = draw(
            st.sampled_from([np.nan, np.inf, -np.inf])
        )
    kind = draw(st.sampled_from("tlmTsraaaaaa"))
    if kind == "t" and made.dtype.kind in "fiu" and made.dtype.isnative and made.itemsize < 16:
        tensor = torch.from_numpy(np.array(made))
        return draw(
            st.sampled_from([tensor, tensor.T if tensor.ndim == 2 else tensor, tensor.to_sparse()])
            if tensor.dtype.is_floating_point and tensor.ndim
            else st.just(tensor)
        )
    others = {
        "l": made.tolist,
        "m": lambda: np.ma.masked_array(made, mask=True),
        "T": lambda: made.T,
        "s": lambda: np.broadcast_to(made, (2, *made.shape)),
        "r": lambda: made[::-1] if made.ndim else made,
    }
    return others.get(kind, lambda: made)()


class _Few:
    """A map-style dataset by its methods, whose examples are any things."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


class _Endless(IterableDataset):
    def __iter__(self):
        yield 1


LABELS = st.one_of(NUMBERS, st.integers(0, 2), st.integers(0, 2).map(torch.tensor), TEXTS)
INPUTS = st.one_of(arrays(), TEXTS, st.none(), st.just({"x": 1}))
SPLITS = st.one_of(
    st.builds(Arrays, arrays(), arrays()),
    st.builds(_Few, st.lists(st.tuples(INPUTS, LABELS), max_size=2)),
    st.builds(_Few, st.lists(st.one_of(st.none(), TEXTS, st.tuples(INPUTS)), max_size=2)),
    st.sampled_from(
        [
            Arrays(np.zeros((6, 4), np.float32), np.arange(6) % 3),
            TensorDataset(torch.zeros(6, 4), torch.arange(6) % 3),
            DataLoader(TensorDataset(torch.zeros(6, 4), torch.arange(6) % 3)),
            _Endless(),
            (np.zeros((6, 4)), np.arange(6)),
            None,
            {},
            "train",
        ]
    ),
)
GOOD = Arrays(np.zeros((6, 4), np.float32), np.arange(6) % 3)
LOADED = st.one_of(
    st.builds(
        lambda *splits, **more: Data(*splits, **more),
        SPLITS,
        st.one_of(st.just(GOOD), SPLITS),
        st.one_of(st.just(3), NUMBERS, TEXTS, st.just(np.int64(3)), st.just(True)),
        train_eval=st.one_of(st.none(), SPLITS),
        val_clusters=st.one_of(st.none(), arrays()),
        digest=st.one_of(st.none(), TEXTS, st.just("d"), NUMBERS),
    ),
    st.sampled_from([None, (GOOD, GOOD, 3), [GOOD], {"train": GOOD}, GOOD, 1]),
)


def used(loaded):
    """What a plan does with the data."""
    task = Task(lambda folder: loaded, lambda trial, data: nn.Linear(4, data.num_classes))
    data = load_data(TaskSource("my_task:task", task, "0", None), None)
    assert type(data.num_classes) is int
    for split in (data.train, data.validation, data.train_eval):
        if isinstance(split, Arrays):
            assert split.x.flags.c_contiguous
            assert np.isfinite(split.x).all()
            assert len(split.x) == len(split.y) == num_examples(split)
    assert data_digest(data) == data_digest(data)
    assert validation_digest(data)
    if isinstance(data.train, Arrays) and isinstance(data.validation, Arrays):
        placed = place(data, torch.device("cpu"))
        assert placed.train.n == num_examples(data.train)
        assert sum(placed.val_block_n) == placed.validation.n
    tried(task, data, Hyperparameters())
    return data


@given(loaded=LOADED)
@example(Data(GOOD, GOOD._replace(y=[0, 1, 2, 0, 1, 2]), 3))
@example(Data(GOOD, GOOD._replace(x=GOOD.x.astype(object)), 3))
@example(Data(GOOD, GOOD._replace(y=GOOD.y[:, None]), 3))
@example(Data(GOOD, GOOD._replace(x=torch.zeros(6, 4, dtype=torch.bfloat16)), 3))
@example(Data(GOOD, GOOD._replace(x=torch.zeros(6, 4, device="meta")), 3))
@example(Data(GOOD, GOOD, 10**400))
@example(Data(GOOD, GOOD, 3, val_clusters=np.array(0)))
@cases(short=200, long=5000)
def test_whatever_load_gives_is_used_or_refused(loaded):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = outcome(lambda: used(loaded))
    if isinstance(found, RaysweepError):
        assert found.exit_code == 2


@given(
    number=st.integers(1, 40),
    split=st.sampled_from(["train", "validation", "train_eval"]),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
)
@cases(short=20, long=300)
def test_values_that_are_not_finite_are_counted_by_split(number, split, value):
    x = np.zeros((20, 4), np.float32)
    x.ravel()[np.random.default_rng(number).permutation(80)[:number]] = value
    rows = int((~np.isfinite(x)).any(axis=1).sum())
    whole = Arrays(np.zeros((20, 4), np.float32), np.arange(20) % 3)
    splits: dict[str, Any] = {"train": whole, "validation": whole, "train_eval": whole}
    splits[split] = whole._replace(x=x)
    found = outcome(lambda: used(Data(num_classes=3, **splits)))
    assert f"{split}: x has {number} values that are not finite" in str(found)
    assert f"in {rows} of its 20 examples" in str(found)


@given(outputs=st.integers(1, 12), classes=st.integers(2, 12), deep=st.booleans())
@cases(short=10, long=100)
def test_outputs_that_do_not_fit_the_classes_name_both_numbers(outputs, classes, deep):
    data = Data(GOOD._replace(y=GOOD.y % 2), GOOD._replace(y=GOOD.y % 2), classes)
    layers = [nn.Unflatten(1, (1, 4)), nn.Flatten()] if deep else []
    task = Task(lambda f: data, lambda t, d: nn.Sequential(*layers, nn.Linear(4, outputs)))
    found = outcome(lambda: tried(task, data, Hyperparameters()))
    if outputs == classes:
        assert isinstance(found, Tried)
        assert found.problem is None
        assert found.flops_per_example > 0
    else:
        assert f"has {outputs} outputs, and the data {classes} classes" in str(found)
