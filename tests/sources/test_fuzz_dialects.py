"""One curve in every dialect is the same curve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import read_curves
from tests.support.dialects import DIALECTS, Curve
from tests.support.fuzzing import cases

ROUNDED = 2e-6  # what an event file's floats and a rounded percentage lose


@st.composite
def curves(draw):
    """Five evaluations or more. Some accuracy is above 2 %, so that percent can't be a fraction."""
    size = draw(st.integers(5, 20))
    shares = st.integers(0, 1000).map(lambda k: k / 1000)
    losses = st.integers(1, 50_000).map(lambda k: k / 10_000)
    accuracy = draw(st.lists(shares, min_size=size, max_size=size))
    accuracy[draw(st.integers(0, size - 1))] = draw(st.sampled_from([0.021, 0.5, 0.987]))
    losses_of = [draw(st.lists(losses, min_size=size, max_size=size)) for _ in range(2)]
    return Curve(accuracy, *losses_of)


@pytest.mark.parametrize("name", DIALECTS)
@given(curve=curves())
@cases(short=8, long=300)
def test_one_curve_is_the_same_in_every_dialect(tmp_path_factory, name, curve):
    file, write = DIALECTS[name]
    path = tmp_path_factory.mktemp("dialect") / file
    content = write(curve)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = read_curves(path)
    found = log.curves
    assert found["epoch"].to_list() == list(range(1, len(curve.val_accuracy) + 1)), log
    assert found["val_accuracy"].to_list() == pytest.approx(curve.val_accuracy, abs=ROUNDED), log
    for ours, values in (("val_loss", curve.val_loss), ("train_loss_running", curve.train_loss)):
        if ours in found.columns:
            assert found[ours].to_list() == pytest.approx(values, abs=ROUNDED), log
    only_accuracy = name in ("wandb_panel", "tensorboard_json", "tensorboard_csv")
    assert only_accuracy or {"val_loss", "train_loss_running"} <= set(found.columns), log


def test_there_are_twenty_dialects_and_more():
    assert len(DIALECTS) >= 20
